"""Poses of the training views that are corrected with the surface."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from shapes import sphere_views

from recon.camera import Cameras
from recon.config import RunConfig, load_config
from recon.errors import ReconError
from recon.model import poses
from recon.model.file import load_model, save_model, save_poses
from recon.model.model import Model
from recon.model.poses import corrected, rigid
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.run import check_light_of_views
from recon.training.schedule import Progress
from recon.views import Views

CPU = torch.device("cpu")
AXES = torch.tensor([0.8, 0.5, 0.6])
SMALL = ["train.levels=[3]", "render.samples=1", "surface.cells=[4,8]", "surface.steps=3", "reflectance=constant"]


def bent_views() -> Views:
    """A bent ellipsoid from all around and above, as its cameras see it."""
    sphere, faces = icosphere(4)
    vertices = AXES * sphere
    vertices = vertices + torch.stack([0 * vertices[:, 0], 0.3 * vertices[:, 0] ** 2, 0 * vertices[:, 0]], dim=1)
    views = sphere_views(12, 32)
    image = render(vertices, faces, Cameras.from_views(views), albedo=torch.full_like(vertices, 0.7), samples=4)
    peak = image.radiance.max()
    return replace(views, images=(image.radiance / peak).numpy(), masks=None, radiance_scale=peak.item())


def shaken(views: Views, degrees: float, share: float) -> Views:
    """The views with poses that are off: turned about their centres, and shifted by a share of their distance."""
    random, poses = np.random.default_rng(0), views.camera_to_world.copy()
    for pose in poses:
        turn, shift = (each / np.linalg.norm(each) for each in random.normal(size=(2, 3)))
        pose[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec(np.radians(degrees) * turn).as_matrix()
        pose[:3, 3] += share * np.linalg.norm(pose[:3, 3]) * shift
    return replace(views, camera_to_world=poses)


def refining(*options: str) -> RunConfig:
    return load_config(None, [*SMALL, "cameras.refine=true", *options])


def model_with_twists(views: Views, size: float = 0.05) -> Model:
    model = initial_model(refining(), views, CPU)
    assert model.poses.twists is not None
    with torch.no_grad():
        model.poses.twists.copy_(size * torch.randn(len(views), 6, generator=torch.Generator().manual_seed(0)))
    return model


def test_a_twist_is_a_rotation_and_a_screw() -> None:
    turns = 0.7 * torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    motions = rigid(torch.cat([turns, torch.zeros_like(turns)], dim=1))
    np.testing.assert_allclose(motions[:, :3, :3], Rotation.from_rotvec(turns.numpy()).as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(motions[:, :3, 3], 0)
    shift = torch.tensor([[0, 0, 0, 1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(rigid(shift)[0, :3, 3], [1, 2, 3])
    # A half turn about z while moving along x for pi: a half circle of radius 1, which ends 2 beside its start.
    screw = rigid(torch.tensor([[0, 0, torch.pi, torch.pi, 0, 0]], dtype=torch.float64))
    np.testing.assert_allclose(screw[0, :3, 3], [0, 2, 0], atol=1e-12)


def test_poses_that_nothing_has_corrected_are_the_given_ones() -> None:
    views = sphere_views(4, 16)
    model, cameras = initial_model(refining(), views, CPU), Cameras.from_views(views)
    torch.testing.assert_close(model.poses.corrected(cameras).camera_to_world, cameras.camera_to_world, rtol=0, atol=0)


def test_a_training_view_is_known_by_its_pose_and_others_stay_as_they_are() -> None:
    views = sphere_views(4, 16)
    model, cameras = model_with_twists(views), Cameras.from_views(views)
    expected = model.poses.corrections() @ cameras.camera_to_world
    other = replace(cameras, camera_to_world=cameras.camera_to_world + 1e-3)
    torch.testing.assert_close(model.poses.corrected(cameras[[2, 0]]).camera_to_world, expected[[2, 0]])
    torch.testing.assert_close(
        model.poses.corrected(cameras, torch.tensor([3, 1, 2, 0])).camera_to_world[:1],
        model.poses.corrections()[3:] @ cameras.camera_to_world[:1],
    )
    assert torch.equal(model.poses.corrected(other).camera_to_world, other.camera_to_world)
    assert not torch.allclose(expected, cameras.camera_to_world, atol=1e-2)


def test_what_all_views_share_moves_none() -> None:
    views = sphere_views(4, 16)
    model = model_with_twists(views)
    assert model.poses.twists is not None
    before = model.poses.corrections().detach()
    with torch.no_grad():
        model.poses.twists.add_(torch.tensor([0.1, 0.2, -0.1, 0.3, 0, 0.1]))
    torch.testing.assert_close(model.poses.corrections().detach(), before)


def test_gradients_of_twists_are_those_of_pictures_from_moved_cameras() -> None:
    views = bent_views()
    cameras, model = Cameras.from_views(views), model_with_twists(views, 0.02)
    twists = model.poses.twists
    assert twists is not None
    index = torch.arange(3)
    targets = torch.from_numpy(views.images[:3])

    def loss(with_gradient: bool) -> torch.Tensor:
        corrections = model.poses.corrections()[index]
        moved = corrected(cameras[index], corrections)
        radiance = model.render_surface(model.mesh(3), moved, corrections if with_gradient else None).radiance
        return (radiance - targets).square().sum()

    loss(with_gradient=True).backward()
    assert twists.grad is not None
    generator = torch.Generator().manual_seed(1)
    found, expected = [], []
    for _ in range(6):
        direction = torch.randn(twists.shape, generator=generator)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                twists.add_(sign * 1e-3 * direction)
                values.append(loss(with_gradient=False).item())
                twists.sub_(sign * 1e-3 * direction)
        found.append((twists.grad * direction).sum().item())
        expected.append((values[0] - values[1]) / 2e-3)
    # Differences of pictures are rough where an outline enters another pixel.
    assert np.linalg.norm(np.subtract(found, expected)) < 0.06 * np.linalg.norm(expected)


def test_a_picture_with_gradient_to_its_twist_is_the_picture() -> None:
    views = bent_views()
    model, index = model_with_twists(views), torch.arange(4)
    corrections = model.poses.corrections()[index]
    cameras = corrected(Cameras.from_views(views)[index], corrections)
    with torch.no_grad():
        plain = model.render_surface(model.mesh(3), cameras)
        moved = model.render_surface(model.mesh(3), cameras, corrections)
    torch.testing.assert_close(moved.radiance, plain.radiance, atol=2e-4, rtol=0)
    torch.testing.assert_close(moved.alpha, plain.alpha, atol=2e-4, rtol=0)


@pytest.mark.parametrize("background", [[], ["background=field", "field.resolution=8", "field.samples=4"]])
def test_an_iteration_asks_for_corrections_once_and_not_before_poses_are_learned(
    monkeypatch: pytest.MonkeyPatch, background: list[str]
) -> None:
    asked = 0

    def counting(twists: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += 1
        return rigid(twists)

    views = bent_views()
    model = initial_model(refining("train.iterations=100", *background), views, CPU)
    optimisation = Optimisation(model, TrainingData.from_views(views, CPU), Progress(100))
    optimisation.step()
    monkeypatch.setattr(optimisation, "_renew", lambda fraction: [])  # a field's looks at all views are no iterations
    monkeypatch.setattr(poses, "rigid", counting)
    for iteration, expected in ((1, 0), (30, 0), (50, 1), (99, 1)):
        optimisation.progress.iteration, asked = iteration, 0
        optimisation.step()
        assert asked == expected, iteration


@pytest.mark.slow
def test_poses_that_are_off_are_found() -> None:
    true = bent_views()
    views = shaken(true, 0.6, 0.01)
    errors = {}
    for refine in (False, True):
        config = refining(f"cameras.refine={str(refine).lower()}", "train.iterations=250")
        model = initial_model(config, views, CPU)
        fit(Optimisation(model, TrainingData.from_views(views, CPU), Progress(250)), lambda step: None)
        cameras = model.poses.corrected(Cameras.from_views(views))
        motion = cameras.camera_to_world.double().numpy() @ np.linalg.inv(true.camera_to_world)
        shift = motion[:, :3, 3] - motion[:, :3, 3].mean(axis=0)  # what all share is the object's
        with torch.no_grad():
            images = model.render(model.mesh(3), cameras).radiance
        image = (images - torch.from_numpy(views.images)).abs().mean().item()
        errors[refine] = np.array([np.linalg.norm(shift, axis=1).mean(), image])
    assert (errors[True] < 0.5 * errors[False]).all(), errors


def test_corrected_poses_are_written_in_the_sources_frame(tmp_path: Path) -> None:
    views = sphere_views(4, 16)
    frame = np.eye(4)
    frame[:3, :3] = 2 * Rotation.from_rotvec([0, 0, 1]).as_matrix()
    frame[:3, 3] = [10, 20, 30]
    model = model_with_twists(replace(views, world_from_unit=frame))
    save_poses(model, tmp_path / "cameras.json")
    found = json.loads((tmp_path / "cameras.json").read_text())["views"]
    corrections = model.poses.corrections().detach().double().numpy()
    expected = frame @ corrections @ views.camera_to_world
    expected[:, :3, :3] /= 2
    np.testing.assert_allclose([each["camera_to_world"] for each in found], expected, atol=1e-5)
    turned = [Rotation.from_matrix(each[:3, :3]).magnitude() for each in corrections]
    np.testing.assert_allclose([each["turned_degrees"] for each in found], np.degrees(turned), rtol=1e-3)
    shifted = 2 * np.linalg.norm((corrections @ views.camera_to_world - views.camera_to_world)[:, :3, 3], axis=1)
    np.testing.assert_allclose([each["shifted"] for each in found], shifted, rtol=1e-4)


def test_no_file_is_left_where_poses_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "cameras.json"
    path.write_text("of an earlier training")
    save_poses(initial_model(load_config(None, SMALL), sphere_views(4, 16), CPU), path)
    assert not path.exists()


def test_a_saved_model_knows_its_views(tmp_path: Path) -> None:
    views = sphere_views(4, 16)
    model = model_with_twists(views)
    save_model(model, tmp_path / "model.pt")
    cameras = Cameras.from_views(views)
    expected = model.poses.corrected(cameras).camera_to_world
    torch.testing.assert_close(load_model(tmp_path).poses.corrected(cameras).camera_to_world, expected)


def test_lights_that_are_placed_do_not_go_with_corrected_cameras() -> None:
    views = sphere_views(4, 16)
    lit = replace(views, light_position=views.camera_to_world[:, :3, 3] + 0.1)
    with pytest.raises(ReconError, match=r"x\.npz: has key 'light_position', but 'cameras\.refine'"):
        check_light_of_views(refining(), lit, Path("x.npz"))

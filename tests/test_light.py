"""The light that is learned beside the surface: what it does, and that renders with known light give it back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from shapes import sphere_views
from torch import Tensor

import recon.training.loop as loop
from recon.background.field import BackgroundField
from recon.background.rays import NEAR, Rays, joined
from recon.background.volume import render_segments
from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.capture.paths import even_sphere
from recon.config import FieldConfig, LightConfig, RunConfig, load_config
from recon.errors import ReconError
from recon.evaluation.match import match
from recon.geometry.metrics import geometry_metrics
from recon.images.gains import fitted_gains
from recon.model.file import load_model, save_model
from recon.model.light import HARMONICS, Light, ambient_irradiance
from recon.model.model import Model, SurfaceMesh
from recon.render.normals import vertex_normals
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.run import Options, train
from recon.training.schedule import Progress
from recon.views import Views, save_views

CPU = torch.device("cpu")
COUNT = 12
TINY = [
    "train.levels=[2,3]",
    "render.samples=1",
    "surface.cells=[4]",
    "surface.steps=2",
    "reflectance=constant",
    "loss.velocity_points=64",
]
ALL = ["light.strength=true", "light.offset=true", "light.ambient=true", "light.vignetting=true"]


def some_light(config: LightConfig, views: int = COUNT) -> Light:
    """A light that is far from what is assumed without it."""
    light = Light(config, views)
    with torch.no_grad():
        if light.log_strength is not None:
            light.log_strength.copy_(0.25 * torch.randn(views, 3))
        if light.offset is not None:
            light.offset.copy_(torch.tensor([0.12, -0.2, 0.0]))
        if light.ambient is not None:
            light.ambient[0] = 0.25
            light.ambient[2] = torch.tensor([0.2, 0.15, 0.1])
            light.ambient[3], light.ambient[6] = 0.1, -0.05
        if light.vignetting is not None:
            light.vignetting.copy_(torch.tensor([-0.2, -0.1, 0.0]))
    return light


def ellipsoid() -> tuple[Tensor, Tensor]:
    vertices, faces = icosphere(4)
    return vertices * torch.tensor([0.75, 0.5, 0.6]), faces


def photographs(light: Light, count: int = COUNT, size: int = 24, beside: float = 0.0) -> Views:
    """Views of a white ellipsoid from all sides, lit so; up to `beside` pixels beside the middle of the picture."""
    poses = even_sphere(count, 2.5)
    intrinsics = np.tile(intrinsics_from_fov(45.0, size, size), (count, 1, 1))
    intrinsics[:, :2, 2] += np.random.default_rng(1).uniform(-beside, beside, (count, 2))
    cameras = Cameras(torch.tensor(poses).float(), torch.tensor(intrinsics).float(), size, size)
    light.adapt(cameras, 1.9)
    vertices, faces = ellipsoid()

    def white(ambient: Tensor, irradiance: Tensor, cosine: Tensor, angles: object = None) -> Tensor:
        return irradiance[:, None] + ambient

    with torch.no_grad():
        normals = vertex_normals(vertices, faces)
        ambient = torch.zeros_like(vertices) if light.ambient is None else light.irradiance(normals)
        rendering = render(vertices, faces, light.placed(cameras), albedo=ambient, shader=white, samples=3)
        exposure = light.exposure(cameras, torch.arange(count))
        radiance = rendering.radiance if exposure is None else rendering.radiance * exposure
    peak = radiance.max()
    masks = ((rendering.alpha >= 0.5) * 255).to(torch.uint8).numpy()
    return Views((radiance / peak).numpy(), poses, intrinsics, masks, radiance_scale=peak.item())


def fitted(views: Views, iterations: int, *overrides: str) -> Model:
    config = load_config(None, [*TINY, f"train.iterations={iterations}", *overrides])
    model = initial_model(config, views, CPU)
    loop.fit(loop.Optimisation(model, TrainingData.from_views(views, CPU), Progress(iterations)), lambda step: None)
    return model


def chamfer(model: Model) -> float:
    mesh = model.mesh(3)
    found = trimesh.Trimesh(mesh.vertices.detach().numpy(), mesh.faces.numpy(), process=False)
    vertices, faces = ellipsoid()
    return geometry_metrics(found, trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)).chamfer


@pytest.fixture(scope="module")
def plain() -> Views:
    return photographs(Light(LightConfig()))


def test_without_a_key_nothing_is_added() -> None:
    model = Model(RunConfig(), np.eye(4), 1.0, views=5)
    assert not model.light.learned
    assert not [name for name in model.state_dict() if name.startswith("light")]
    assert "light" not in {group["name"] for group in loop.parameter_groups(model)}


def test_a_light_as_it_starts_changes_no_picture(plain: Views) -> None:
    without = initial_model(load_config(None, TINY), plain, CPU)
    learned = initial_model(load_config(None, [*TINY, *ALL]), plain, CPU)
    cameras, views = Cameras.from_views(plain), torch.arange(COUNT)
    pictures = [model.render(model.mesh(2), cameras, views=views).radiance for model in (without, learned)]
    torch.testing.assert_close(*pictures, atol=1e-6, rtol=1e-5)


def test_strengths_have_no_mean() -> None:
    light = some_light(LightConfig(strength=True))
    strengths = light.strengths()
    assert strengths is not None
    torch.testing.assert_close(strengths.log().mean(0), torch.zeros(3), atol=1e-6, rtol=0)


def test_uniform_light_reaches_all_normals_alike() -> None:
    """Radiance of 1 from all sides, whose one coefficient is sqrt(4 pi), has an irradiance of pi."""
    harmonics = torch.zeros(HARMONICS, 3)
    harmonics[0] = (4 * torch.pi) ** 0.5
    found = ambient_irradiance(harmonics, icosphere(1).vertices)
    torch.testing.assert_close(found, torch.full_like(found, torch.pi), atol=1e-4, rtol=0)


@pytest.mark.parametrize("index", range(HARMONICS))
def test_irradiance_is_the_integral_over_the_light(index: int) -> None:
    """By quadrature over directions, of a real spherical harmonic times the clamped cosine."""
    directions = torch.from_numpy(even_sphere(20000, 1.0)[:, :3, 3]).float()
    x, y, z = directions.unbind(1)
    root = {0: 0.282095, 1: 0.488603, 2: 1.092548}
    basis = [
        root[0] * torch.ones_like(x),
        *(root[1] * axis for axis in (y, z, x)),
        *(root[2] * product for product in (x * y, y * z)),
        0.315392 * (3 * z * z - 1),
        root[2] * x * z,
        root[2] / 2 * (x * x - y * y),
    ]
    normals = icosphere(1).vertices
    expected = 4 * torch.pi * ((normals @ directions.T).clamp(min=0) * basis[index]).mean(1)
    harmonics = torch.zeros(HARMONICS, 3)
    harmonics[index, 0] = 1
    torch.testing.assert_close(ambient_irradiance(harmonics, normals)[:, 0], expected, atol=2e-3, rtol=0)


def test_the_flash_is_beside_the_lens_in_the_cameras_own_frame(plain: Views) -> None:
    cameras = Cameras.from_views(plain)
    lights = some_light(LightConfig(offset=True)).placed(cameras).lights
    assert lights is not None
    local = cameras.camera_to_world[:, :3, :3].mT @ (lights[:, :3] - cameras.centers)[..., None]
    torch.testing.assert_close(local[..., 0], torch.tensor([0.12, -0.2, 0.0]).expand(COUNT, 3), atol=1e-6, rtol=0)


def test_vignetting_stays_with_the_lens_in_a_crop(plain: Views) -> None:
    light, cameras = some_light(LightConfig(vignetting=True)), Cameras.from_views(plain)
    light.adapt(cameras, 1.9)
    whole = light.vignette(cameras)
    offsets = torch.tensor([[3, 13]]).expand(COUNT, 2)
    torch.testing.assert_close(light.vignette(cameras.cropped(offsets, 8, 8)), whole[:, 3:11, 13:21])
    assert whole[0, 0, 0].item() == whole.min().item() == pytest.approx(0.7, abs=0.02)
    assert whole[0, 11, 11].item() == pytest.approx(1, abs=1e-3)


def test_a_view_is_measured_with_the_gain_that_suits_it() -> None:
    prediction = torch.rand(2, 8, 8, 3)
    gains = torch.tensor([[0.5, 0.6, 0.7], [0.2, 0.9, 0.4]])
    target = gains[:, None, None] * prediction
    target[0, 0, 0], prediction[1, 1] = 1.5, 0  # saturated, and black: neither says anything
    known = torch.ones(2, 8, 8, dtype=torch.bool)
    known[1, 3], target[1, 3] = False, 0.77
    torch.testing.assert_close(fitted_gains(prediction, target, known), gains)
    torch.testing.assert_close(fitted_gains(0 * prediction, target), torch.ones(2, 3))


def test_views_that_were_not_fitted_are_measured_at_their_own_strength(plain: Views) -> None:
    model = initial_model(load_config(None, [*TINY, "light.strength=true"]), plain, CPU)
    darker = replace(plain, images=plain.images * np.float32([0.5, 0.7, 0.9]))
    errors = [
        [view["mean_absolute_error"] for view in match(model, model.mesh(2), views).per_view]
        for views in (plain, darker)
    ]
    assert np.mean(errors[1]) < np.mean(errors[0])


def test_strengths_are_recovered_and_spare_the_shape() -> None:
    light = some_light(LightConfig(strength=True))
    views = photographs(light)
    model, without = fitted(views, 250, "light.strength=true"), fitted(views, 250)
    truth, found = light.strengths(), model.light.strengths()
    assert truth is not None and found is not None
    assert (found / truth - 1).abs().max() < 0.1
    assert chamfer(model) < chamfer(without)


def test_an_offset_is_recovered_and_spares_the_shape() -> None:
    views = photographs(some_light(LightConfig(offset=True)))
    model, without = fitted(views, 250, "light.offset=true"), fitted(views, 250)
    assert model.light.offset is not None
    error = (model.light.offset - torch.tensor([0.12, -0.2, 0.0])).norm()
    assert error < 0.1 * torch.tensor([0.12, -0.2, 0.0]).norm()
    assert chamfer(model) < chamfer(without)


def test_ambient_light_is_recovered_and_spares_the_shape() -> None:
    light = some_light(LightConfig(ambient=True))
    views = photographs(light)
    model, without = fitted(views, 250, "light.ambient=true"), fitted(views, 250)
    normals = icosphere(2).vertices
    truth, found = light.irradiance(normals), model.light.irradiance(normals)
    assert (found - truth).norm() < 0.1 * truth.norm()
    assert chamfer(model) < chamfer(without)


def test_vignetting_is_found_in_part_where_the_object_is_seen_at_many_radii() -> None:
    light = Light(LightConfig(vignetting=True))
    assert light.vignetting is not None
    light.vignetting.data.copy_(torch.tensor([-0.5, -0.2, 0.0]))
    views = photographs(light, beside=5)
    model = fitted(views, 250, "light.vignetting=true")
    cameras, masks = Cameras.from_views(views), views.masks
    assert masks is not None
    seen = torch.from_numpy(masks) > 0
    truth, found = light.vignette(cameras)[seen], model.light.vignette(cameras)[seen]
    assert (found - truth).abs().mean() < 0.4 * (1 - truth).mean()


def test_three_of_them_together_are_recovered() -> None:
    """But for the part of the offset along the optical axis, which does hardly more than a brighter albedo."""
    light = some_light(LightConfig(strength=True, offset=True, ambient=True))
    model = fitted(photographs(light), 500, *ALL[:3])
    truth, found = light.strengths(), model.light.strengths()
    assert truth is not None and found is not None and model.light.offset is not None and light.offset is not None
    assert (found / truth - 1).abs().max() < 0.1
    assert (model.light.offset - light.offset)[:2].norm() < 0.1 * light.offset.norm()
    normals = icosphere(2).vertices
    expected = light.irradiance(normals)
    assert (model.light.irradiance(normals) - expected).norm() < 0.1 * expected.norm()


def test_where_there_is_nothing_to_find_the_shape_is_as_good(plain: Views) -> None:
    model, without = fitted(plain, 250, *ALL[:2]), fitted(plain, 250)
    # Chance is a tenth: both come within 0.15% of the radius.
    assert chamfer(model) < 1.25 * chamfer(without)
    strengths = model.light.strengths()
    assert strengths is not None and model.light.offset is not None
    assert (strengths - 1).abs().max() < 0.03
    assert model.light.offset.norm() < 0.03


def test_a_run_keeps_its_light(plain: Views, tmp_path: Path) -> None:
    save_views(plain, tmp_path / "v.npz")
    config = load_config(None, [*TINY, *ALL, "train.iterations=6", "train.checkpoints=2"])
    train(tmp_path / "v.npz", config, tmp_path / "out", options=Options(quiet=True))
    model = load_model(tmp_path / "out")
    strengths = model.light.strengths()
    assert strengths is not None and (strengths != 1).any()
    found = json.loads((tmp_path / "out" / "light.json").read_text())
    assert found["strengths_of_views"] == strengths.tolist()
    assert len(found["flash_offset_in_camera_frame"]) == 3
    save_model(model, tmp_path / "model.pt")
    again = load_model(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_training_goes_on_with_its_light_bit_for_bit(plain: Views) -> None:
    config = load_config(None, [*TINY, *ALL, "train.iterations=6"])
    data = TrainingData.from_views(plain, CPU)

    def begun() -> loop.Optimisation:
        return loop.Optimisation(initial_model(config, plain, CPU), data, Progress(6))

    whole, first, second = begun(), begun(), begun()
    loop.fit(whole, lambda step: None)
    for _ in range(3):
        first.step()
    second.load_state_dict(first.state_dict())
    loop.fit(second, lambda step: None)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in second.model.state_dict().items())


def test_a_field_shares_the_light() -> None:
    """A ball before a wall of light, each view with a strength: the field's warm-up alone finds the strengths."""
    ball = sphere_views(6, 20)
    strength = torch.tensor([1.3, 0.8, 1.0, 1.2, 0.7, 1.1])
    strength = strength / strength.log().mean().exp()
    images = np.maximum(ball.images, np.float32(0.2)) * strength.numpy()[:, None, None, None]
    field = ["background=field", "field.resolution=16", "field.samples=8", "field.rays=400", "field.warm_up=0.3"]
    config = load_config(None, [*TINY, *field, "light.strength=true", "train.iterations=120", "train.levels=[1]"])
    views = replace(ball, images=images, masks=None)
    model = initial_model(config, views, CPU)
    loop.fit(loop.Optimisation(model, TrainingData.from_views(views, CPU), Progress(120)), lambda step: None)
    found = model.light.strengths()
    assert found is not None
    assert (found / strength[:, None] - 1).abs().max() < 0.1


def test_a_known_light_has_no_offset_to_learn(plain: Views, tmp_path: Path) -> None:
    lit = replace(plain, light_position=plain.camera_to_world[:, :3, 3] + 0.1)
    save_views(lit, tmp_path / "v.npz")
    config = load_config(None, ["light.offset=true"])
    with pytest.raises(ReconError, match="v.npz: has key 'light_position', so that there is no flash"):
        train(tmp_path / "v.npz", config, tmp_path / "out", options=Options(quiet=True))
    assert not (tmp_path / "out").exists()


def test_a_light_beside_the_lens_casts_shadows() -> None:
    """A ball with a horn before it: what the horn hides from the light is dark, all else as without shadows; and the
    offset has a gradient."""
    model = Model(load_config(None, [*TINY, "light.offset=true", "light.shadows=true"]), np.eye(4), 1.0, views=1)
    plain = Model(load_config(None, [*TINY, "light.offset=true"]), np.eye(4), 1.0, views=1)
    sphere, faces = icosphere(4)
    horn = sphere * (0.5 + 0.45 * torch.exp(30 * (sphere[:, :1] - 1)))
    mesh = SurfaceMesh(horn, faces, torch.ones_like(sphere))
    eyes = np.array([[3.0, 0, 0], [0, 3.0, 0]])
    poses = torch.tensor(look_at(eyes, np.zeros(3), np.array([0, 0, 1.0]))).float()
    cameras = Cameras(poses, torch.tensor(intrinsics_from_fov(40.0, 64, 64)).float().expand(2, 3, 3), 64, 64)
    for each in (model, plain):
        assert each.light.offset is not None
        with torch.no_grad():
            each.light.offset.copy_(torch.tensor([1.5, 0, 0]))
    shadowed, lit = model.render_surface(mesh, cameras), plain.render_surface(mesh, cameras)
    darker = (lit.radiance - shadowed.radiance).detach()[..., 0] / lit.radiance.max()
    torch.testing.assert_close(shadowed.alpha, lit.alpha)
    assert darker.min() > -1e-5
    left, right = (darker[0, :, part] > 0.05 for part in (slice(0, 32), slice(32, 64)))
    assert left.sum() > 20 and right.sum() == 0
    shadowed.radiance.sum().backward()
    assert model.light.offset is not None and model.light.offset.grad is not None
    assert model.light.offset.grad.abs().min() > 0


def test_shadows_of_a_flash_at_the_lens_are_refused(plain: Views, tmp_path: Path) -> None:
    save_views(plain, tmp_path / "v.npz")
    with pytest.raises(ReconError, match="key 'light.shadows': a flash at the lens casts no shadow that it sees"):
        train(tmp_path / "v.npz", load_config(None, ["light.shadows=true"]), tmp_path / "out")


def test_a_field_is_lit_from_beside_the_lens_too() -> None:
    """Along a ray that a thick wall stops at once: albedo over the squared distance to the light, not to the camera."""
    field = BackgroundField(FieldConfig(resolution=8, samples=8), 1.0)
    with torch.no_grad():
        field.field.grids[0][:, 0] = 1e3  # type: ignore[index]
        field.field.grids[0][:, 1:4] = torch.tensor(2.0)  # type: ignore[index]
    rays = Rays(torch.tensor([[3.0, 0, 0]]), torch.tensor([[1.0, 0, 0]]), torch.tensor([NEAR]), torch.tensor([NEAR]))
    edges = torch.tensor([[1.0, 1.2]])
    beside = rays._replace(lights=torch.tensor([[3.0, 0.7, 0]]))
    here, there = (render_segments(field.space, each, edges)[0].radiance for each in (rays, beside))
    torch.testing.assert_close(there, here * 1.1**2 / (1.1**2 + 0.7**2))


def test_rays_keep_their_lights_where_they_are_joined() -> None:
    rays = Rays(torch.rand(2, 3), torch.rand(2, 3), torch.ones(2), torch.ones(2))
    lit = rays._replace(lights=torch.rand(2, 3))
    assert joined(rays, rays).lights is None
    lights = joined(rays, lit).select(torch.tensor([1, 2])).lights
    assert lights is not None and lit.lights is not None
    assert torch.equal(lights, torch.stack([rays.origins[1], lit.lights[0]]))


def test_a_field_is_not_compared_with_views_in_other_light(plain: Views, tmp_path: Path) -> None:
    save_views(plain, tmp_path / "v.npz")
    away = np.tile([0.0, 0, 1], (COUNT, 1))
    save_views(replace(plain, light_direction=away), tmp_path / "lit.npz")
    config = load_config(None, ["background=field"])
    with pytest.raises(ReconError, match="lit.npz: has key 'light_direction', but 'background: field'"):
        train(tmp_path / "v.npz", config, tmp_path / "out", {"lit": tmp_path / "lit.npz"})

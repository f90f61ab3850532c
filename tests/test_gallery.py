"""What validation leaves for the report: pictures of every view, the surface, the turntable."""

import dataclasses
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
import trimesh
from shapes import ring

from recon.background.background import ConstantBackground
from recon.camera import Cameras
from recon.config import RunConfig
from recon.errors import ReconError
from recon.evaluation.gallery import Gallery, LargestValues
from recon.evaluation.match import Match, match
from recon.evaluation.overshoot import brightest, write_overshoot
from recon.evaluation.surface_file import SurfaceFile, decimated
from recon.evaluation.turntable import turntable, write_relit_turntable, write_turntable
from recon.evaluation.visibility import times_seen
from recon.frames import moved_poses
from recon.images.colour_maps import Range, colours, depth_range, difference_range, normal_colours
from recon.images.pictures import Tone
from recon.model.model import Model
from recon.render.renderer import render
from recon.surface.icosphere import icosphere
from recon.views import Views

FRAME = np.diag([2.0, 2.0, 2.0, 1.0])
FRAME[:3, 3] = [5, 0, 1]


def small_model(background: str = "none") -> Model:
    surface = {"width": 8, "steps": 2}
    tree = {"train": {"levels": [2]}, "surface": surface, "background": background, "reflectance": "constant"}
    return Model(RunConfig.model_validate(tree), FRAME, 1.0)


def views_of(count: int = 3) -> Views:
    cameras = ring(count, 20, 24)
    poses = cameras.camera_to_world.double().numpy()
    return Views(
        images=np.full((count, 20, 24, 3), 0.25, np.float32),
        camera_to_world=poses,
        intrinsics=cameras.intrinsics.double().numpy(),
        world_from_unit=FRAME,
    )


def found_by(model: Model, views: Views) -> Match:
    return match(model, model.mesh(2), views)


def write_gallery(folder: Path, views: Views, found: Match, tone: Tone) -> dict[str, Range]:
    """All views at once."""
    with Gallery(folder, len(views), tone) as gallery:
        gallery.add(views, found)
        return gallery.finish()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_view_has_its_pictures(tmp_path: Path) -> None:
    model, views = small_model(), views_of()
    ranges = write_gallery(tmp_path, views, found_by(model, views), "clamp")
    kinds = ("truth", "prediction", "difference", "normals", "depth")
    assert names(tmp_path) == {f"{view:03d}_{kind}.png" for view in range(3) for kind in kinds}
    assert imageio.imread(tmp_path / "000_truth.png").shape == (20, 24, 3)
    assert ranges["difference"][0] == 0
    # The cameras stand 2.6 from the unit sphere's centre, and the source's unit is half of ours.
    near, far = ranges["depth"]
    assert 2 * 1.5 < near < far < 2 * 2.7


def test_a_background_is_shown_with_and_without_the_object(tmp_path: Path) -> None:
    model, views = small_model("constant"), views_of(1)
    assert isinstance(model.background, ConstantBackground)
    with torch.no_grad():
        model.background.color.copy_(torch.tensor([0.0, 1.0, 0.0]))
    found = found_by(model, views)
    assert found.object is not None and found.background is not None
    alone = (1 - found.alpha)[..., None] * found.background
    np.testing.assert_allclose(found.object + alone, found.prediction, atol=1e-6)
    write_gallery(tmp_path, views, found, "clamp")
    assert imageio.imread(tmp_path / "000_background.png")[0, 0].tolist() == [0, 255, 0]
    assert imageio.imread(tmp_path / "000_prediction.png")[0, 0].tolist() == [0, 255, 0]
    assert imageio.imread(tmp_path / "000_object.png")[0, 0].tolist() == [0, 0, 0]


def test_pictures_of_a_former_validation_go_and_other_files_stay(tmp_path: Path) -> None:
    model, views = small_model(), views_of(1)
    for name in ("007_truth.png", "000_background.png", "notes.txt"):
        (tmp_path / name).write_text("old")
    write_gallery(tmp_path, views, found_by(model, views), "clamp")
    assert "notes.txt" in names(tmp_path)
    assert not {"007_truth.png", "000_background.png"} & names(tmp_path)


def test_a_gallery_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    model, views = small_model(), views_of(1)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReconError, match="file"):
        write_gallery(tmp_path / "file", views, found_by(model, views), "clamp")


def test_scaled_pictures_of_truth_and_prediction_are_comparable(tmp_path: Path) -> None:
    model, views = small_model(), views_of(1)
    found = found_by(model, views)
    found = found._replace(prediction=4 * np.ones_like(found.prediction))
    views = dataclasses.replace(views, images=np.full_like(views.images, 1.0))
    write_gallery(tmp_path, views, found, "scale")
    truth, prediction = (imageio.imread(tmp_path / f"000_{kind}.png")[0, 0, 0] for kind in ("truth", "prediction"))
    assert prediction == 255
    assert 130 < truth < 140  # sRGB of a quarter of the light


def test_normals_are_seen_from_the_camera() -> None:
    pose = np.eye(4)
    towards, right, up = (0, 0, -1), (1, 0, 0), (0, -1, 0)
    normals = np.array([[[towards, right, up, (0, 0, 0)]]], dtype=np.float64)
    found = normal_colours(normals, pose[None])[0, 0].tolist()
    assert found == [[128, 128, 255], [255, 128, 128], [128, 255, 128], [0, 0, 0]]


def test_colour_maps_end_where_their_ranges_end() -> None:
    low, middle, high, beyond = colours(np.array([0, 0.5, 1, 9.0]), "magma", (0.0, 1.0)).tolist()
    assert sum(low) < sum(middle) < sum(high)
    assert high == beyond
    assert difference_range(np.linspace(0, 0.04, 1000)) == (0, 0.05)
    assert depth_range(np.array([[[1.0, 9.0]]]), np.zeros((1, 1, 2), bool)) == (0, 1)


def test_a_camera_sees_the_half_of_a_sphere_that_faces_it() -> None:
    vertices, faces = icosphere(3)
    vertices = 0.5 * vertices
    cameras = ring(1, 128, 128, radius=3.0)
    depth = render(vertices, faces, cameras, albedo=torch.ones_like(vertices)).depth
    seen = times_seen(vertices, faces, cameras, depth)
    eye = cameras.centers[0] / cameras.centers[0].norm()
    along = vertices @ eye / 0.5
    # Tangents from the distance d touch a sphere of radius r where the cosine is r / d.
    limit = 0.5 / cameras.centers[0].norm()
    assert (seen[along > limit + 0.15] == 1).all()
    assert (seen[along < limit - 0.05] == 0).all()


def test_what_hides_behind_something_or_outside_the_image_is_not_seen() -> None:
    near, faces = icosphere(2)
    count = len(near)
    both = torch.cat([0.3 * near, 0.3 * near])
    pose = torch.eye(4)[None]
    pose[0, 2, 3] = -3
    intrinsics = torch.tensor([[[60.0, 0, 32], [0, 60, 32], [0, 0, 1]]])
    cameras = Cameras(pose, intrinsics, 64, 64)
    both[count:, 2] += 1
    all_faces = torch.cat([faces, faces + count])
    depth = render(both, all_faces, cameras, albedo=torch.ones_like(both)).depth
    seen = times_seen(both, all_faces, cameras, depth)
    assert seen[:count].sum() > count / 3
    assert seen[count:].sum() == 0
    aside = both + torch.tensor([5.0, 0, 0])
    assert times_seen(aside, all_faces, cameras, torch.zeros_like(depth)).sum() == 0


def test_the_surface_file_has_everything_in_the_sources_frame(tmp_path: Path) -> None:
    model, views = small_model(), views_of()
    with torch.no_grad():
        reference = trimesh.Trimesh(*(part.numpy() for part in icosphere(2)), process=False)
    reference.apply_transform(FRAME)
    surface = SurfaceFile(model, reference)
    for part in (slice(0, 2), slice(2, 3)):
        some = views.select(part)
        surface.add_views("front", some, found_by(model, some).depth)
    surface.write(tmp_path / "surface.npz", "0123")
    with np.load(tmp_path / "surface.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    assert str(arrays["model"]) == "0123"
    assert arrays["vertices"].shape == (162, 3) and arrays["faces"].shape == (320, 3)
    assert arrays["flow"].shape[0] == 3
    # The flow is still near the identity, and the reference is the sphere.
    expected = np.abs(np.linalg.norm((arrays["vertices"] - FRAME[:3, 3]) / 2, axis=1) - 1) * 2
    np.testing.assert_allclose(arrays["distance"], expected, atol=0.02)
    assert arrays["seen/front"].max() <= 3 and arrays["seen/front"].any()
    poses = arrays["poses/front"]
    np.testing.assert_allclose(poses[:, :3, 3], trimesh.transform_points(views.camera_to_world[:, :3, 3], FRAME))
    np.testing.assert_allclose(np.linalg.det(poses[:, :3, :3]), 1, atol=1e-6)
    np.testing.assert_allclose(poses, moved_poses(views.camera_to_world, views.world_from_unit))


def test_a_fine_reference_is_decimated() -> None:
    fine = trimesh.creation.icosphere(subdivisions=5)
    coarse = decimated(fine, 2000)
    assert 1000 < len(coarse.faces) <= 2100
    assert abs(coarse.volume / fine.volume - 1) < 0.01
    assert decimated(fine, 10**6) is fine


def test_the_brightest_prediction_is_kept(tmp_path: Path) -> None:
    dark, bright = np.zeros((2, 3, 4, 3), np.float32), np.zeros((2, 3, 4, 3), np.float32)
    bright[1, 2, 2] = 1.5
    top = None
    for name, first, prediction in (("a", 0, dark), ("b", 0, dark), ("b", 2, bright), ("c", 0, dark)):
        top = brightest(name, first, prediction, top)
    assert top is not None
    write_overshoot(tmp_path / "overshoot.npz", top, "0123")
    with np.load(tmp_path / "overshoot.npz", allow_pickle=False) as stored:
        assert (str(stored["set"]), int(stored["view"])) == ("b", 3)
        assert str(stored["model"]) == "0123"
        np.testing.assert_array_equal(stored["radiance"], bright[1])


def test_the_turntable_goes_around_the_upright_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.evaluation.turntable.FRAMES", 3)
    monkeypatch.setattr("recon.evaluation.turntable.SIZE", 16)
    model = small_model()
    frames = turntable(model, model.mesh(2), count=4, size=32)
    assert frames.shape == (4, 32, 32, 3)
    assert (frames.reshape(4, -1).max(axis=1) > 100).all()
    assert not (frames[0] == frames[1]).all()
    lit = turntable(model, model.mesh(2), count=4, size=32, lamp=True)
    # The lamp is to the right and above: what is below to the left is dark.
    above, below = lit[:, 8:16, 16:24].mean(axis=(1, 2, 3)), lit[:, 17:25, 9:16].mean(axis=(1, 2, 3))
    assert (above > 2 * below).all()
    write_relit_turntable(model, model.mesh(2), tmp_path / "relit.gif")
    assert imageio.imread(tmp_path / "relit.gif", plugin="pillow", index=None).shape == (3, 16, 16, 3)
    write_turntable(model, model.mesh(2), tmp_path / "turntable.gif")
    film = imageio.imread(tmp_path / "turntable.gif", plugin="pillow", index=None)
    assert film.shape == (3, 16, 16, 3)


@pytest.mark.parametrize("tone", ["clamp", "scale"])
def test_pictures_and_ranges_do_not_depend_on_parts(tmp_path: Path, tone: Tone) -> None:
    model, views = small_model("constant"), views_of(5)
    views = dataclasses.replace(
        views, images=views.images * np.linspace(0.5, 6, 5, dtype=np.float32)[:, None, None, None]
    )
    found = []
    for k, size in enumerate((5, 2, 1)):
        with Gallery(tmp_path / str(k), 5, tone) as gallery:
            for start in range(0, 5, size):
                some = views.select(slice(start, start + size))
                gallery.add(some, found_by(model, some))
            ranges = gallery.finish()
        pictures = {path.name: path.read_bytes() for path in (tmp_path / str(k)).iterdir()}
        found.append((ranges, pictures))
    assert len(found[0][1]) == 5 * 7
    assert found[0] == found[1] == found[2]


def test_a_quantile_of_parts_is_that_of_the_whole() -> None:
    values = np.random.default_rng(0).random((7, 30), dtype=np.float32)
    for below in (0.0, 0.5, 0.99, 1.0):
        largest = LargestValues(values.size, below)
        for part in values:
            largest.add(part)
        assert largest.quantile() == pytest.approx(np.quantile(values, below), rel=1e-6)


@pytest.mark.parametrize(("reflectance", "more"), [("constant", set()), ("varying", {"albedo"})])
def test_base_colour_is_shown_where_it_varies(tmp_path: Path, reflectance: str, more: set[str]) -> None:
    tree = {"train": {"levels": [2]}, "surface": {"width": 8, "steps": 2}, "reflectance": reflectance}
    model, views = Model(RunConfig.model_validate(tree), FRAME, 1.0), views_of(1)
    write_gallery(tmp_path, views, found_by(model, views), "clamp")
    kinds = {path.stem.partition("_")[2] for path in tmp_path.glob("*.png")}
    assert kinds == {"truth", "prediction", "difference", "normals", "depth"} | more


def test_roughness_is_shown_as_it_is_and_without_light(tmp_path: Path) -> None:
    """One lobe of roughness 0.5, everywhere: grey of half of 255, to the outline; base colour is white."""
    surface = {"representation": "mlp", "width": 8, "steps": 2}
    tree = {"train": {"levels": [3]}, "surface": surface, "reflectance": "microfacet"}
    model, views = Model(RunConfig.model_validate(tree), FRAME, 1.0), views_of(1)
    mesh = model.mesh(3)
    lobes = torch.tensor([0.5, 0.5, 0.5, 0.03, 0, 0, 0.5, 0.3, 0.4]).expand(len(mesh.vertices), 9)
    found = match(model, mesh._replace(attributes=lobes), views)
    write_gallery(tmp_path, views, found, "clamp")
    inside = found.alpha[0] > 0.999
    roughness = imageio.imread(tmp_path / "000_roughness.png")[inside]
    assert np.abs(roughness.astype(int) - 127).max() <= 2
    assert (imageio.imread(tmp_path / "000_albedo.png")[inside] >= 254).all()

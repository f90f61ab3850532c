"""An object that is no sphere is told of: views that see the background through the mesh, and masks with holes."""

import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
import trimesh
from runs import write_run
from shapes import sphere_views

from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.config import load_config
from recon.evaluation.holes import Holes, Place, seen_through, sentence
from recon.evaluation.match import Match, match
from recon.evaluation.validate import validate
from recon.inspection.coverage import coverage
from recon.inspection.falloff import falloff
from recon.inspection.findings import Finding, find
from recon.inspection.holes import enclosed
from recon.inspection.inspect import inspect
from recon.inspection.measure import measure
from recon.model.model import Model, SurfaceMesh
from recon.render.renderer import render
from recon.report.page import report_page
from recon.surface.icosphere import icosphere
from recon.training.run import Options, train
from recon.views import Views, save_views

SIZE = 48


def photographed(mesh: trimesh.Trimesh, count: int = 8) -> Views:
    """A mesh from a ring of cameras above it, all of which look down at 50 degrees, with masks."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    eyes = 2.5 * np.stack([np.cos(angle) * 0.64, np.sin(angle) * 0.64, 0 * angle + 0.77], axis=1)
    poses = look_at(eyes, np.zeros(3), np.array([0, 0, 1.0]))
    intrinsics = np.tile(intrinsics_from_fov(45.0, SIZE, SIZE), (count, 1, 1))
    cameras = Cameras(torch.tensor(poses).float(), torch.tensor(intrinsics).float(), SIZE, SIZE)
    vertices = torch.tensor(np.asarray(mesh.vertices)).float()
    faces = torch.tensor(np.asarray(mesh.faces)).long()
    image = render(vertices, faces, cameras, albedo=torch.ones_like(vertices), samples=3)
    return replace(
        sphere_views(count, SIZE),
        images=(image.radiance / image.radiance.max()).numpy(),
        masks=(image.alpha > 0.5).numpy().astype(np.uint8) * 255,
        camera_to_world=poses,
        intrinsics=intrinsics,
        radiance_scale=float(image.radiance.max()),
    )


@pytest.fixture(scope="module")
def torus() -> Views:
    return photographed(trimesh.creation.torus(major_radius=0.55, minor_radius=0.15))


@pytest.fixture(scope="module")
def disc() -> Views:
    """The same torus with its hole filled."""
    return photographed(trimesh.creation.icosphere(4).apply_transform(np.diag([0.7, 0.7, 0.16, 1])))


def lens(level: int = 4) -> tuple[Model, SurfaceMesh]:
    """A model, and what a deformed sphere makes of the torus: about its outline, closed."""
    model = Model(load_config(None, ["reflectance=constant", "render.samples=1"]), np.eye(4), 1.0)
    sphere = icosphere(level)
    vertices = sphere.vertices * torch.tensor([0.7, 0.7, 0.16])
    return model, SurfaceMesh(vertices, sphere.faces, model.reflectance.attributes(sphere.vertices))


def found_in(views: Views, model: Model, mesh: SurfaceMesh) -> tuple[Holes, Match]:
    holes, found = Holes(mesh, model.world_from_unit), match(model, mesh, views)
    holes.add(views, found)
    return holes, found


def test_the_hole_of_a_torus_is_found_where_it_is(torus: Views) -> None:
    holes, _ = found_in(torus, *lens())
    places = holes.places()
    # Both sides of the membrane; on its way a view passes through the rim, too.
    assert places and len(places[0].views) == 8
    assert np.abs(places[0].center).max() < 0.2
    assert 0.02 < sum(place.share for place in places) < 0.4
    said = sentence({"train": places})
    assert said is not None and "8 views of 'train' see the background through" in said


def test_the_place_is_in_the_frame_of_the_source(torus: Views) -> None:
    model, mesh = lens()
    model.world_from_unit = np.array([[2.0, 0, 0, 5], [0, 2, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    holes, _ = found_in(torus, model, mesh)
    np.testing.assert_allclose(holes.places()[0].center, [5, 6, 7], atol=0.4)


def test_a_mesh_that_fits_has_no_holes(disc: Views) -> None:
    holes, _ = found_in(disc, *lens())
    assert holes.places() == []
    assert sentence({"train": []}) is None


def test_two_views_are_not_several(torus: Views) -> None:
    holes, _ = found_in(torus.select(slice(0, 2)), *lens())
    assert holes.places() == []


def test_parts_of_a_set_count_as_one(torus: Views) -> None:
    model, mesh = lens()
    whole, _ = found_in(torus, model, mesh)
    parts = Holes(mesh, model.world_from_unit)
    for start in (0, 3, 6):
        part = torus.select(slice(start, start + 3))
        parts.add(part, match(model, mesh, part))
    assert parts.places() == whole.places()


def test_without_masks_the_background_tells(torus: Views, disc: Views) -> None:
    model, mesh = lens()
    unmasked = replace(torus, masks=None)
    found = match(model, mesh, torus)
    # As bright as the photographs: before black nothing else explains a dark pixel.
    bright = found._replace(prediction=found.prediction * float(torus.images.max() / found.prediction.max()))
    holes = Holes(mesh, model.world_from_unit)
    holes.add(unmasked, bright)
    assert np.abs(holes.places()[0].center).max() < 0.2
    # A wall is explained by its model alone.
    wall = np.full_like(torus.images, 0.4)
    room = replace(unmasked, images=np.where(torus.masks[..., None] > 0, torus.images, wall))  # type: ignore[index]
    assert not seen_through(room, bright._replace(background=None)).any()
    assert seen_through(room, bright._replace(background=wall)).sum() > 50
    plain = match(model, mesh, disc)
    assert not seen_through(replace(disc, masks=None), plain._replace(prediction=disc.images)).any()


def test_a_rim_is_an_outline_that_is_off(torus: Views) -> None:
    """A mesh that is two pixels too large has no holes."""
    model, mesh = lens()
    small = photographed(trimesh.creation.icosphere(4).apply_transform(np.diag([0.66, 0.66, 0.15, 1])))
    assert not seen_through(small, match(model, mesh, small)).any()


def test_pixels_that_are_not_known_tell_nothing(torus: Views) -> None:
    model, mesh = lens()
    unknown = replace(torus, known=torus.masks)
    assert not seen_through(unknown, match(model, mesh, torus)).any()


def test_the_picture_shows_the_views_that_see_most(torus: Views) -> None:
    holes, _ = found_in(torus, *lens())
    picture = holes.picture("train")
    assert picture.ndim == 3 and picture.shape[2] == 4 and picture.shape[1] > picture.shape[0]


def test_the_largest_place_is_said() -> None:
    small, large = Place(0.01, [1, 2, 3], (0, 0, 0)), Place(0.05, [1, 2, 3, 4], (1, 2, 3))
    said = sentence({"a": [small], "b": [large], "c": []})
    assert said is not None and said.startswith("4 views of 'b'") and "5.0%" in said and "(1, 2, 3)" in said


@pytest.mark.slow
def test_validation_and_report_tell_it(torus: Views, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_views(torus, tmp_path / "views.npz")
    tiny = ["surface.cells=[4,8]", "surface.steps=4", "train.levels=[3]", "render.samples=1", "reflectance=constant"]
    config = load_config(None, [*tiny, "train.iterations=60", "loss.silhouette=1"])
    run = tmp_path / "run"
    train(tmp_path / "views.npz", config, run, options=Options(quiet=True))
    capsys.readouterr()
    validate(run, {"train": tmp_path / "views.npz"}, run / "validation")
    content = json.loads((run / "validation" / "holes.json").read_text())
    assert content["sets"]["train"] and content["sentence"] in capsys.readouterr().err
    assert imageio.imread(run / "validation" / "holes.png").ndim == 3
    page = report_page([run])
    assert "see the background through" in page and 'class="holes"' in page
    (run / "validation" / "holes.png").write_bytes(b"none")
    with pytest.raises(Exception, match="holes.png: not a readable picture"):
        report_page([run])


def test_a_report_without_holes_says_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert 'class="holes"' not in report_page([run])


def warned(views: Views) -> list[Finding]:
    covered, measures = coverage(views), measure(views)
    return [each for each in find(views, measures, covered, falloff(views, measures, covered)) if each.word == "hole"]


def test_masks_with_holes_are_told(torus: Views, disc: Views) -> None:
    assert warned(torus)[0].views == tuple(range(8)) and "handle" in warned(torus)[0].sentence
    assert warned(disc) == [] and warned(replace(torus, masks=None)) == []


def test_a_speck_and_two_views_are_no_hole(disc: Views) -> None:
    assert disc.masks is not None
    masks = disc.masks.copy()
    masks[:, 24, 24] = 0
    assert warned(replace(disc, masks=masks)) == []
    masks[:2, 22:27, 22:27] = 0
    assert warned(replace(disc, masks=masks)) == []
    masks[2, 22:27, 22:27] = 0
    assert warned(replace(disc, masks=masks))[0].views == (0, 1, 2)


def test_what_reaches_the_border_is_not_enclosed() -> None:
    mask = np.zeros((20, 20), bool)
    mask[4:16, 4:16] = True
    mask[7:13, 7:20] = False
    assert not enclosed(mask).any()
    mask[7:13, 13:16] = True
    assert enclosed(mask).sum() == 36
    # A corner joins nothing: what touches the outside by a corner alone stays outside the object.
    mask[6, 6] = mask[5, 5] = mask[4, 4] = False
    assert not enclosed(mask).any()


def test_the_picture_of_the_inspection_marks_them(torus: Views, tmp_path: Path) -> None:
    save_views(torus, tmp_path / "torus.npz")
    inspect(tmp_path / "torus.npz")
    picture = imageio.imread(tmp_path / "torus.inspection.png")[..., :3].astype(int)
    filled = torus.masks.copy()  # type: ignore[union-attr]
    for i, mask in enumerate(filled):
        filled[i][enclosed(mask > 0)] = 255
    save_views(replace(torus, masks=filled), tmp_path / "filled.npz")
    inspect(tmp_path / "filled.npz")
    other = imageio.imread(tmp_path / "filled.inspection.png")[..., :3].astype(int)

    def red(shown: np.ndarray) -> int:
        return int(((shown[..., 0] > 150) & (shown[..., 1] < 110) & (shown[..., 2] < 90)).sum())

    assert red(picture) > red(other) + 500

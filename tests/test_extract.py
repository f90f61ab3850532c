"""Extraction as a whole: which source is read how, what is written, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from recon.camera import intrinsics_from_fov
from recon.capture.extract import extract, write_reference
from recon.capture.keyframes import Keyframes, write_keyframes
from recon.capture.paths import arc
from recon.cli import main
from recon.errors import ReconError
from recon.geometry.meshes import load_mesh
from recon.views import load_views, save_views

TINY = Path(__file__).parents[1] / "config" / "scenes" / "tiny.yaml"


def keyframes_and_mesh(folder: Path, scale: float = 1.0) -> tuple[Path, Path]:
    poses = arc(3, 2.5, (-60.0, 60.0), (0.0, 20.0))
    poses[:, :3, 3] *= scale
    write_keyframes(Keyframes(poses, intrinsics_from_fov(49.0, 24, 24)), folder / "keyframes.npz")
    trimesh.creation.icosphere(subdivisions=4, radius=0.8 * scale).export(folder / "ball.ply")
    return folder / "keyframes.npz", folder / "ball.ply"


def test_the_same_scene_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        extract(TINY, tmp_path / f"{name}.npz", set_name="above")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_like_spares_the_training_set_but_changes_nothing(tmp_path: Path) -> None:
    extract(TINY, tmp_path / "front.npz", set_name="front")
    extract(TINY, tmp_path / "a.npz", set_name="below")
    extract(TINY, tmp_path / "b.npz", set_name="below", like=tmp_path / "front.npz")
    a, b = load_views(tmp_path / "a.npz"), load_views(tmp_path / "b.npz")
    assert np.array_equal(a.images, b.images) and np.array_equal(a.camera_to_world, b.camera_to_world)


def test_the_size_of_photographs_does_not_go_with_what_is_rendered(tmp_path: Path) -> None:
    """`--like` a set that photographs were resampled to."""
    keyframes, mesh = keyframes_and_mesh(tmp_path)
    extract(keyframes, tmp_path / "a.npz", mesh=mesh)
    views = load_views(tmp_path / "a.npz")
    for settings in ({"size": 12}, None):
        save_views(replace(views, metadata={**views.metadata, "settings": settings}), tmp_path / "like.npz")
        extract(keyframes, tmp_path / "b.npz", mesh=mesh, like=tmp_path / "like.npz")
        assert np.array_equal(load_views(tmp_path / "b.npz").images, views.images)


def test_keyframes_and_a_mesh_in_the_unit_sphere_keep_their_frame(tmp_path: Path) -> None:
    keyframes, mesh = keyframes_and_mesh(tmp_path)
    extract(keyframes, tmp_path / "out.npz", mesh=mesh)
    views = load_views(tmp_path / "out.npz")
    assert views.images.shape == (3, 24, 24, 3) and views.images.max() == 1
    assert np.array_equal(views.world_from_unit, np.eye(4))
    assert np.isclose(views.radiance_scale, 1 / 1.7**2, rtol=0.02)
    assert views.metadata["set"] == "keyframes" and views.metadata["settings"]["mesh"] == "ball.ply"


def test_a_larger_mesh_is_brought_into_the_unit_sphere(tmp_path: Path) -> None:
    keyframes, mesh = keyframes_and_mesh(tmp_path, scale=10.0)
    extract(keyframes, tmp_path / "out.npz", mesh=mesh, set_name="front")
    views = load_views(tmp_path / "out.npz")
    unit = trimesh.transform_points(load_mesh(mesh).vertices, np.linalg.inv(views.world_from_unit))
    assert np.isclose(np.linalg.norm(unit, axis=1).max(), 0.9)
    assert np.allclose(np.linalg.norm(views.camera_to_world[:, :3, 3], axis=1), 2.5 * 0.9 / 0.8, rtol=1e-3)
    # Light falls off in the source's frame: ten times as far is a hundred times as dark.
    assert np.isclose(views.radiance_scale, 1 / 17**2, rtol=0.02)


def test_the_reference_is_the_scenes_mesh(tmp_path: Path) -> None:
    write_reference(TINY, tmp_path / "truth.ply")
    mesh = load_mesh(tmp_path / "truth.ply")
    assert mesh.is_watertight and mesh.euler_number == 2
    assert np.isclose(np.linalg.norm(mesh.vertices, axis=1).max(), 0.8, atol=1e-3)
    with pytest.raises(ReconError, match="only a scene"):
        write_reference(tmp_path / "transforms.json", tmp_path / "x.ply")


@pytest.mark.parametrize("name", ["notes.txt", "archive.zip", "none"])
def test_unknown_kinds_list_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("?")
    with pytest.raises(ReconError, match=f"{name}: .* knows; expected a scene .* transforms.json .* keyframes"):
        extract(tmp_path / name, tmp_path / "out.npz")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="none.yaml: no such source"):
        extract(tmp_path / "none.yaml", tmp_path / "out.npz")
    with pytest.raises(ReconError, match="no such source"):
        extract(tmp_path, tmp_path / "out.npz")  # a folder without a transforms.json


def test_a_mesh_goes_with_keyframes_and_with_nothing_else(tmp_path: Path) -> None:
    keyframes, mesh = keyframes_and_mesh(tmp_path)
    with pytest.raises(ReconError, match="keyframes.npz: '--mesh' goes with keyframes"):
        extract(keyframes, tmp_path / "out.npz")
    with pytest.raises(ReconError, match="tiny.yaml: '--mesh' goes with keyframes"):
        extract(TINY, tmp_path / "out.npz", set_name="front", mesh=mesh)
    with pytest.raises(ReconError, match="none.ply: no such mesh file"):
        extract(keyframes, tmp_path / "out.npz", mesh=tmp_path / "none.ply")


def test_a_viewpoint_set_is_no_source(tmp_path: Path) -> None:
    _, mesh = keyframes_and_mesh(tmp_path)
    extract(TINY, tmp_path / "views.npz", set_name="above")
    with pytest.raises(ReconError, match="views.npz: is a viewpoint set already"):
        extract(tmp_path / "views.npz", tmp_path / "out.npz", mesh=mesh)


def test_keyframes_that_miss_the_mesh(tmp_path: Path) -> None:
    keyframes, _ = keyframes_and_mesh(tmp_path)
    trimesh.creation.icosphere(radius=0.1).apply_translation([0, 0, 9]).export(tmp_path / "away.ply")
    with pytest.raises(ReconError, match="keyframes.npz: view 0 shows no object"):
        extract(keyframes, tmp_path / "out.npz", mesh=tmp_path / "away.ply")


def test_an_unwritable_output_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReconError, match="out.npz: cannot be written"):
        extract(TINY, tmp_path / "file" / "out.npz", set_name="above")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["s.yaml", "ball.ply", "front.npz", "photo.JPG", "notes.txt"])
def test_what_a_person_has_made_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "s.yaml").write_text(TINY.read_text())
    keyframes_and_mesh(tmp_path)
    extract(TINY, tmp_path / "front.npz", set_name="front")
    for other in ("photo.JPG", "notes.txt"):
        (tmp_path / other).write_text("mine")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ReconError, match=f"{name}: is (what is read from|there already)"):
        extract(tmp_path / "s.yaml", tmp_path / name, set_name="above", like=tmp_path / "front.npz")
    assert (tmp_path / name).read_bytes() == before
    extract(TINY, tmp_path / "front.npz", set_name="front")  # a set of the same source is written anew


def test_like_must_be_a_viewpoint_set(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="none.npz: no such file"):
        extract(TINY, tmp_path / "out.npz", set_name="above", like=tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "3"], "argument --size: '3': must be a whole number from 16 to 4096"),
        (["--size", "many"], "must be a whole number"),
        (["--sphere", "1,2,3"], "argument --sphere: '1,2,3': must be X,Y,Z,R"),
        (["--sphere=-1,2,3,0"], "with a radius above 0"),
        (["--sphere", "1,2,nan,4"], "must be finite"),
        (["--hold-out", "1"], "argument --hold-out: '1': must be a whole number from 2 on"),
        (["--hold-out", "9"], r"tiny.yaml: '--hold-out' 9 holds no view back: there are 6 views"),
        (["--size", "32"], "tiny.yaml: '--size' goes with a transforms.json, a folder of COLMAP or of pictures"),
        (["--sphere", "0,0,0,1"], "tiny.yaml: '--sphere' goes with a transforms.json"),
    ],
)
def test_options_of_photographs_are_checked(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["extract", str(TINY), "--set-name", "front", "--out", str(tmp_path / "v.npz"), *options]
    try:
        code = main(arguments)
    except SystemExit as error:  # what the parser finds
        code = error.code
    said = capsys.readouterr().err
    assert code == 2 and message in said and said.count("\n") == 1 and not (tmp_path / "v.npz").exists()


def test_every_nth_view_goes_into_a_second_file(tmp_path: Path) -> None:
    extract(TINY, tmp_path / "all.npz", set_name="front")
    extract(TINY, tmp_path / "v.npz", set_name="front", hold_out=2)
    whole, fitted, held = (load_views(tmp_path / f"{name}.npz") for name in ("all", "v", "v_held_out"))
    assert len(fitted) == 3 and len(held) == 3 and held.metadata["set"] == "front_held_out"
    assert np.allclose(held.images * held.radiance_scale, whole.images[1::2] * whole.radiance_scale)
    (tmp_path / "v_held_out.npz").write_text("mine")
    with pytest.raises(ReconError, match="v_held_out.npz: is what is read from"):
        extract(TINY, tmp_path / "v.npz", set_name="front", hold_out=2, like=tmp_path / "v_held_out.npz")

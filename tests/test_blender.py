"""Blender files: made, read and rendered by Blender itself, and held against our own renderer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from recon.capture import blender
from recon.capture.blender import blender_command, object_from_blend, views_from_blend
from recon.capture.blender_object import place_object
from recon.capture.extract import extract, extract_keyframes, write_reference
from recon.capture.keyframes import read_keyframes
from recon.capture.paths import arc
from recon.capture.source_files import source_files
from recon.errors import ReconError
from recon.geometry.meshes import load_mesh, similarity
from recon.views import Views, check_views, load_views

SENSOR = 36.0
"""Millimetres, Blender's default; the lens has 50."""


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every .blend of blend_files.py, and the mesh in them."""
    try:
        command = blender_command()
    except ReconError as error:
        # A machine of a person may lack it; continuous integration installs it, and must not pass without.
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("blend")
    pot = trimesh.creation.capsule(height=0.6, radius=0.45, count=(48, 48))
    pot.apply_transform(trimesh.transformations.euler_matrix(0.5, 0.3, 0))
    pot.apply_translation(-pot.bounds.mean(axis=0) + [0.05, 0, 0])
    pot.export(folder / "pot.ply")
    script = str(Path(__file__).with_name("blend_files.py"))
    command = [script if part == str(blender.SCRIPT) else part for part in command]
    request = json.dumps({"folder": str(folder), "mesh": str(folder / "pot.ply")})
    done = subprocess.run([*command, request], capture_output=True, text=True)
    assert (folder / "wide pixels.blend").is_file(), done.stderr
    return folder


@pytest.fixture(scope="session")
def plain(files: Path) -> Views:
    extract(files / "plain.blend", files / "plain.npz")
    return load_views(files / "plain.npz")


def ours(files: Path, source: Path) -> Views:
    """The same viewpoints of the same mesh by our own renderer."""
    extract_keyframes(source, files / "keyframes.npz")
    extract(files / "keyframes.npz", files / "ours.npz", mesh=files / "pot.ply")
    return load_views(files / "ours.npz")


# Cameras and pictures


def test_a_blend_gives_the_same_views_as_our_own_renderer(files: Path, plain: Views) -> None:
    own = ours(files, files / "plain.blend")
    assert plain.images.shape == own.images.shape == (3, 32, 48, 3)
    assert np.allclose(plain.camera_to_world, own.camera_to_world) and np.allclose(plain.intrinsics, own.intrinsics)
    assert np.array_equal(plain.world_from_unit, np.eye(4))
    # White at distance 1 has radiance 1 in both, with neither the sun nor the sky.
    assert np.isclose(plain.radiance_scale, own.radiance_scale, rtol=0.01)
    assert plain.masks is not None and own.masks is not None
    seen = plain.images[..., 0] > 0
    for mask, lit in zip(own.masks > 0, seen, strict=True):
        wider = np.pad(mask, 1)
        around = [wider[1 + y : 33 + y, 1 + x : 49 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)]
        assert (lit <= np.any(around, axis=0)).all() and (np.all(around, axis=0) <= lit).all()
    assert np.array_equal(plain.masks, own.masks)
    inner = (plain.masks > 0) & (own.images[..., 0] > 0.3)
    difference = plain.images[inner] * plain.radiance_scale / own.radiance_scale - own.images[inner]
    assert np.abs(difference).mean() < 0.005 * own.images[inner].mean()
    assert (np.abs(difference) < 0.02 * own.images[inner].max()).mean() > 0.99


def test_lens_sensor_and_shift_are_the_intrinsics(plain: Views) -> None:
    focal = 48 * 50 / SENSOR
    assert np.allclose(plain.intrinsics, [[focal, 0, 24 - 0.1 * 48], [0, focal, 16], [0, 0, 1]], atol=1e-4)


def test_one_view_for_each_keyframe(plain: Views) -> None:
    eyes = plain.camera_to_world[:, :3, 3]
    assert np.allclose(eyes[1], [2.5 * np.cos(0.6), 2.5 * np.sin(0.6), 0.4], atol=1e-5)
    assert np.allclose(plain.camera_to_world[:, :3, 2], -eyes / np.linalg.norm(eyes, axis=1, keepdims=True), atol=1e-5)


def test_the_metadata_say_where_the_views_come_from(plain: Views) -> None:
    settings = plain.metadata["settings"]
    assert settings["camera"] == "Front" and settings["frames"] == [1, 5, 10] and settings["object"] == ["Pot"]
    assert plain.metadata["source"] == "plain.blend" and len(plain.metadata["sha256"]) == 64
    assert plain.metadata["versions"]["blender"]


def test_what_lies_outside_the_unit_sphere_is_background(files: Path, plain: Views) -> None:
    views = views_from_blend(files / "background.blend", "Front", like=plain)
    assert views.masks is not None and plain.masks is not None
    assert np.array_equal(views.masks, plain.masks)  # the hidden cube in the middle hides nothing
    red = (views.images[..., 0] > 2 * views.images[..., 1]) & (views.masks == 0)
    assert red.mean() > 0.1
    same = np.isclose(views.images[views.masks > 0], plain.images[views.masks > 0], atol=0.01).all(axis=1)
    assert same.mean() > 0.9  # all but pixels of the outline


def test_the_sets_name_chooses_among_cameras(files: Path) -> None:
    with pytest.raises(ReconError, match=r"no camera is called 'below'; animated are: Front, Above"):
        extract_keyframes(files / "background.blend", files / "k.npz", "below")
    extract_keyframes(files / "background.blend", files / "k.npz", "Above")
    assert read_keyframes(files / "k.npz").camera_to_world[0, 2, 3] == pytest.approx(1.5)


def test_parents_move_the_camera_and_lenses_may_change(files: Path) -> None:
    scene = blender.read_blend(files / "turntable.blend")
    assert scene.frames == [0, 20]
    assert np.allclose(scene.camera_to_world[:, :3, 3], [[2.5, 0, 0], [2.5 * np.cos(1), 2.5 * np.sin(1), 0]], atol=1e-5)
    assert np.allclose(scene.intrinsics[:, 0, 0], [48 * 40 / SENSOR, 48 * 60 / SENSOR])
    with pytest.raises(ReconError, match="turntable.blend: frame 20: the lens of 'Front' changes"):
        extract_keyframes(files / "turntable.blend", files / "k.npz")


def test_an_object_elsewhere_is_brought_into_the_unit_sphere(files: Path) -> None:
    write_reference(files / "elsewhere.blend", files / "truth.ply")
    truth = load_mesh(files / "truth.ply")
    assert np.allclose(truth.bounds, 10 * load_mesh(files / "pot.ply").bounds + [30, 0, 5], atol=1e-3)
    views = views_from_blend(files / "elsewhere.blend", None)
    check_views(views)
    unit = trimesh.transform_points(truth.vertices, np.linalg.inv(views.world_from_unit))
    assert np.isclose(np.linalg.norm(unit, axis=1).max(), 0.9, atol=1e-4)


def test_a_floor_in_the_unit_sphere_is_named(files: Path) -> None:
    with pytest.raises(ReconError, match=r"floor\.blend: 'Floor' enters the unit sphere around the object 'Pot'"):
        object_from_blend(files / "floor.blend")


# What is rendered, not what the viewport shows


@pytest.mark.parametrize("name", ["simplified", "viewport"])
def test_masks_and_reference_are_those_of_what_is_rendered(files: Path, name: str) -> None:
    write_reference(files / f"{name}.blend", files / "truth.ply")
    truth = load_mesh(files / "truth.ply")
    assert len(truth.vertices) == 98 and truth.volume < 0.5  # a cube of size 1, two levels rounder
    views = views_from_blend(files / f"{name}.blend", None)
    assert views.masks is not None
    assert blender.read_blend(files / f"{name}.blend").names == ["Cube"]
    lit, mask = views.images.max(axis=3) > 0.05 * views.images.max(), views.masks > 0
    assert (lit & mask).sum() > 0.95 * (lit | mask).sum()


def test_strips_of_the_nonlinear_animation_are_keyframes(files: Path, plain: Views) -> None:
    views = views_from_blend(files / "strips.blend", None)
    assert views.metadata["settings"]["frames"] == [20, 28, 38]
    assert np.allclose(views.camera_to_world, plain.camera_to_world, atol=1e-5)


def test_markers_of_the_timeline_switch_cameras(files: Path, plain: Views) -> None:
    views = views_from_blend(files / "markers.blend", None)
    assert views.metadata["settings"]["camera"] == "Shot 2, Shot 1, Shot 0"
    assert views.metadata["settings"]["frames"] == [10, 20, 30]
    assert np.allclose(views.camera_to_world, plain.camera_to_world[::-1], atol=1e-5)
    assert plain.masks is not None and views.masks is not None and plain.intrinsics[0, 0, 2] != 24
    assert np.allclose(views.intrinsics[:, 0, 2], 24)  # these cameras have no shift
    lit = views.images.max(axis=3) > 0.05
    assert (lit & (views.masks > 0)).sum() > 0.95 * (lit | (views.masks > 0)).sum()


def test_markers_beside_keyframes_are_told(files: Path, plain: Views, capfd: pytest.CaptureFixture[str]) -> None:
    path = files / "markers and keyframes.blend"
    views = views_from_blend(path, None)
    assert np.array_equal(views.camera_to_world, plain.camera_to_world)
    assert np.allclose(views.images, plain.images, atol=0.02)  # no marker's camera took them
    assert views.metadata["warnings"] == [
        f"{path}: markers of the timeline switch to Shot 0, Shot 1, Shot 2: not heeded, the views are the keyframes of "
        "'Front'; --set-name chooses another camera"
    ]
    extract_keyframes(path, files / "k.npz")
    assert capfd.readouterr().err.startswith(f"recon: warning: {path}: markers of the timeline")


def test_a_library_that_is_not_there_is_named(files: Path, tmp_path: Path) -> None:
    shutil.copy(files / "linked.blend", tmp_path / "linked.blend")
    with pytest.raises(ReconError, match="linked.blend: links .*pot.blend, which is not there"):
        blender.read_blend(tmp_path / "linked.blend")
    (tmp_path / "parts").mkdir()
    shutil.copy(files / "parts" / "pot.blend", tmp_path / "parts" / "pot.blend")
    notes = blender.read_blend(tmp_path / "linked.blend").notes
    assert len(notes) == 1 and "the image 'paint' is not there: " in notes[0]
    scene = blender.read_blend(files / "linked.blend")
    assert {path.name for path in scene.files} == {"pot.blend", "paint.png"} and scene.notes == []


@pytest.mark.parametrize("name", ["linked", "linked small"])
def test_a_workflow_learns_what_a_blend_links_without_blender(
    files: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sorted([files / "parts" / "paint.png", files / "parts" / "pot.blend"])
    small = (files / f"{name}.blend").read_bytes()[:7] != b"BLENDER"
    assert small == (name == "linked small")
    if not small:  # Blender alone can unpack it before Python 3.14
        monkeypatch.setattr(blender, "_blender", None)
    assert source_files(files / f"{name}.blend") == expected
    assert source_files(files / "parts" / "pot.blend") == []


def test_links_of_broken_files_are_told_and_plan_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(blender.VARIABLE, "/nowhere/blender")
    for content in (
        b"",
        b"BLENDER",
        b"BLENDER-v404" + bytes(99),
        b"BLENDER17-01v0500" + bytes(99),
        b"\x1f\x8bx",
        b"text",
    ):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.blend"
        path.write_bytes(content)
        assert source_files(path) == []
        said = capfd.readouterr().err
        assert said.startswith(f"recon: warning: {path}: RECON_BLENDER: /nowhere/blender: no such program")
        assert said.endswith("whether files that it links have changed is not known\n") and said.count("\n") == 1


# Which meshes are the object

BALL = trimesh.creation.icosphere(subdivisions=2)
CAMERAS = arc(5, 2.5, (-70.0, 70.0), (-15.0, 35.0))


def moved(scale: float, x: float) -> trimesh.Trimesh:
    return BALL.copy().apply_transform(similarity(np.array([x, 0.0, 0.0]), scale))


def test_the_smallest_mesh_in_sight_is_the_object() -> None:
    cameras = CAMERAS.copy()
    cameras[:, 0, 3] += 20
    meshes = [moved(0.4, 20), moved(0.1, 20.05), moved(9.0, 20), moved(0.5, 0)]
    chosen, frame = place_object(meshes, list("abcd"), [[]] * 4, cameras, None, Path("s"))
    assert chosen.tolist() == [False, True, False, False]
    assert np.allclose(frame[:3, 3], [20.05, 0, 0], atol=1e-6)
    named, frame = place_object(meshes, list("abcd"), [["pair"], ["pair"], [], []], cameras, "pair", Path("s"))
    assert named.tolist() == [True, True, False, False]
    assert np.allclose(frame[:3, 3], [20, 0, 0], atol=1e-6) and np.isclose(frame[0, 0], 0.4 / 0.9)


def test_names_that_are_not_there() -> None:
    with pytest.raises(ReconError, match="s: no mesh or collection is called 'vase'; there are: a, pair"):
        place_object([moved(0.5, 0)], ["a"], [["pair"]], CAMERAS, "vase", Path("s"))


# Bad input


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("no camera", "has no camera"),
        ("no mesh", "has no mesh that is rendered"),
        ("orthographic", "the camera 'Front' is orthographic, expected perspective"),
        ("panoramic", "the camera 'Front' is panoramic, expected perspective"),
        ("still", "the camera 'Front' has no keyframes"),
        ("moving", "'Pot' moves between the frames 1 and 5"),
        ("wide pixels", "pixels are not square: their aspect is 2 to 1"),
        ("truncated", "not a readable .blend|Blender crashed on it"),
        ("text", "not a readable .blend"),
    ],
)
def test_bad_files_are_one_line(files: Path, tmp_path: Path, flaw: str, message: str) -> None:
    path = files / f"{flaw}.blend"
    if flaw == "truncated":
        path.write_bytes((files / "plain.blend").read_bytes()[:4000])
    elif flaw == "text":
        path.write_text("no blend")
    with pytest.raises(ReconError, match=message) as caught:
        extract(path, tmp_path / "out.npz")
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_blender_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(blender.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(blender.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "a.blend").write_text("")
    with pytest.raises(ReconError, match=r"a\.blend: needs Blender: .*pip install -e '\.\[blender\]'.*RECON_BLENDER"):
        extract(tmp_path / "a.blend", tmp_path / "out.npz")


def test_a_named_blender_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(blender.VARIABLE, "/nowhere/blender")
    with pytest.raises(ReconError, match="RECON_BLENDER: /nowhere/blender: no such program"):
        blender_command()
    program = tmp_path / "blender-5"
    program.write_text("#!/bin/sh\necho unfit >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv(blender.VARIABLE, str(program))
    assert blender_command()[1] == "--background"
    with pytest.raises(ReconError, match="a.blend: Blender failed with exit code 1: unfit"):
        blender.read_blend(tmp_path / "a.blend")


def test_object_goes_with_a_blend(tmp_path: Path) -> None:
    (tmp_path / "scene.yaml").write_text("")
    with pytest.raises(ReconError, match="scene.yaml: '--object' goes with a .blend"):
        extract(tmp_path / "scene.yaml", tmp_path / "out.npz", object_name="Pot")
    with pytest.raises(ReconError, match="keyframes come from a scene"):
        extract_keyframes(tmp_path / "k.json", tmp_path / "out.npz")

"""Scale and up from an ArUco marker in synthetic photographs with known poses."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from shapes import sphere_views

from recon.camera import look_at
from recon.capture.extract import extract, split
from recon.capture.marker import MarkerFinder
from recon.capture.photographs import Photo
from recon.cli import main
from recon.config import load_config
from recon.errors import ReconError
from recon.images.photograph import Picture
from recon.inspection.inspect import inspect
from recon.training.run import Options, scaled, train
from recon.views import Views, save_views

WIDTH, HEIGHT, FOCAL = 320, 240, 380.0
SIDE = 0.4
"""Of the marker, in units of the source."""

WORLD = np.eye(4)
WORLD[:3, :3] = Rotation.from_euler("xyz", [40, -25, 70], degrees=True).as_matrix()
WORLD[:3, 3] = [3.0, -2.0, 5.0]
"""From the table's frame, whose z is up, to the source's: no axis of it is up."""


def table(kind: int = cv2.aruco.DICT_4X4_50, number: int = 7) -> np.ndarray:
    """What lies on the table: a marker of `SIDE` of 200 pixels a side, in the middle of white paper."""
    marker = cv2.aruco.generateImageMarker(cv2.aruco.getPredefinedDictionary(kind), number, 200)
    return np.pad(marker.astype(np.float64) / 255 * 0.7, 60, constant_values=0.7)


def taken(eye: np.ndarray, sheet: np.ndarray, distortion: np.ndarray | None = None) -> Photo:
    """A photograph of the sheet on a grey table, from `eye` in the table's frame."""
    pose = look_at(eye[None], np.zeros(3), np.array([0, 0, 1.0]))[0]
    matrix = np.array([[FOCAL, 0, WIDTH / 2 + 5], [0, FOCAL, HEIGHT / 2 - 3], [0, 0, 1]])
    rows, columns = (np.mgrid[: 3 * HEIGHT, : 3 * WIDTH] + 0.5) / 3
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)
    plane = cv2.undistortPoints(pixels, matrix, np.zeros(4) if distortion is None else distortion).reshape(-1, 2)
    rays = np.column_stack([plane, np.ones(len(plane))]) @ pose[:3, :3].T
    hit = pose[:3, 3] - rays * (pose[2, 3] / rays[:, 2:])
    step = 200 / SIDE
    place = np.stack([(len(sheet) / 2 - hit[:, 1] * step), (len(sheet) / 2 + hit[:, 0] * step)]) - 0.5
    light = map_coordinates(sheet, place, order=1, cval=0.25).reshape(HEIGHT, 3, WIDTH, 3).mean(axis=(1, 3))
    color = np.repeat(light[..., None], 3, axis=2).astype(np.float32)
    return Photo(Picture(color, None), None, WORLD @ pose, matrix, distortion=distortion)


def eyes(count: int = 6) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([1.2 * np.cos(angle), 1.2 * np.sin(angle), 1.5 + 0 * angle], axis=1)


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return [taken(eye, table()) for eye in eyes()]


def finder(photos: list[Photo], millimetres: float = 60.0) -> MarkerFinder:
    found = MarkerFinder(millimetres)
    for i, photo in enumerate(photos):
        found.look(photo, f"frame {i}")
    return found


def test_the_marker_gives_metres_and_up(photos: list[Photo]) -> None:
    scale = finder(photos).scale("table")
    assert scale.metres == pytest.approx(0.060 / SIDE, rel=0.005)
    np.testing.assert_allclose(scale.up, WORLD[:3, 2], atol=0.01)
    assert scale.views == 6 and scale.marker == "4X4_1000 7" and scale.unevenness < 0.01


def test_two_views_are_enough(photos: list[Photo]) -> None:
    assert finder(photos[:2]).scale("table").metres == pytest.approx(0.060 / SIDE, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (cv2.aruco.DICT_5X5_100, "5X5_1000 23"),
        (cv2.aruco.DICT_6X6_250, "6X6_1000 23"),
        (cv2.aruco.DICT_7X7_50, "7X7_1000 23"),
        (cv2.aruco.DICT_ARUCO_ORIGINAL, "ARUCO_ORIGINAL 23"),
        (cv2.aruco.DICT_APRILTAG_36h11, "APRILTAG_36h11 23"),
    ],
)
def test_every_kind_of_marker_is_found(kind: int, name: str) -> None:
    scale = finder([taken(eye, table(kind, 23)) for eye in eyes(3)]).scale("table")
    assert scale.marker == name and scale.metres == pytest.approx(0.15, rel=0.01)


def test_the_distortion_of_the_lens_is_undone() -> None:
    photos = [taken(eye, table(), np.array([-0.3, 0.1, 0.002, -0.001])) for eye in eyes()]
    assert finder(photos).scale("table").metres == pytest.approx(0.15, rel=0.005)
    straight = [photo._replace(distortion=None) for photo in photos]
    assert finder(straight).scale("table").metres != pytest.approx(0.15, rel=0.005)


def test_a_view_with_a_wrong_pose_is_left_out(photos: list[Photo]) -> None:
    off = photos[2].pose.copy()
    off[:3, 3] += 0.3
    scale = finder([*photos[:2], photos[2]._replace(pose=off), *photos[3:]]).scale("table")
    assert scale.views == 5 and scale.metres == pytest.approx(0.15, rel=0.005)


def test_large_photographs_are_looked_at_in_small(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.capture.marker.LARGEST", 200)
    assert finder(photos).scale("table").metres == pytest.approx(0.15, rel=0.02)


def test_markers_that_tell_nothing(photos: list[Photo]) -> None:
    blank = [taken(eye, np.full((320, 320), 0.7)) for eye in eyes(3)]
    with pytest.raises(ReconError, match="table: '--marker': none of 3 photographs shows an ArUco marker; expected"):
        finder(blank).scale("table")
    with pytest.raises(ReconError, match="'--marker': frame 3 alone shows a marker \\(4X4_1000 7\\); expected two"):
        finder([*blank, photos[0]]).scale("table")
    with pytest.raises(ReconError, match="all 2 photographs of 4X4_1000 7 are from about one place"):
        finder([photos[0], photos[0]]).scale("table")
    nodded = photos[1]._replace(pose=photos[1].pose @ np.diag([1.0, 1, 1, 1]))
    nodded.pose[:3, :3] = nodded.pose[:3, :3] @ Rotation.from_euler("z", 40, degrees=True).as_matrix()
    with pytest.raises(ReconError, match="make no square, its sides differ by"):
        finder([photos[0], nodded]).scale("table")


def written(folder: Path, photos: list[Photo]) -> Path:
    """A transforms.json with the photographs as 16-bit linear PNG."""
    frames = []
    for i, photo in enumerate(photos):
        imageio.imwrite(folder / f"{i}.png", np.rint(photo.picture.color * 65535).astype(np.uint16), plugin="opencv")
        frames.append({"file_path": f"{i}.png", "transform_matrix": photo.pose.tolist()})
    matrix = photos[0].intrinsics
    camera = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": matrix[0, 2], "cy": matrix[1, 2], "w": WIDTH, "h": HEIGHT}
    rest = {"camera_convention": "opencv", "color_space": "linear", "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(camera | rest))
    return folder


SPHERE = (*WORLD[:3, 3].tolist(), 0.5)


def test_extract_keeps_what_the_marker_tells(
    photos: list[Photo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    views = extract(written(tmp_path, photos), tmp_path / "views.npz", sphere=SPHERE, size=32, marker=60.0)
    assert views.metres == pytest.approx(0.15, rel=0.005)
    assert views.up == pytest.approx(WORLD[:3, 2].tolist(), abs=0.01)
    assert split(views, 3, tmp_path)[1].metres == views.metres
    inspect(tmp_path / "views.npz")
    assert f"scale      a unit of the source is {views.metres:.4g} m, by the marker 4X4_1000 7 in 6 views" in (
        capsys.readouterr().out
    )


def test_without_a_marker_the_scale_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_views(sphere_views(8, 24), tmp_path / "views.npz")
    inspect(tmp_path / "views.npz")
    assert "scale      unknown: nothing says how long a unit of the source is" in capsys.readouterr().out


def test_bad_input_is_one_line(photos: list[Photo], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blank = [taken(eye, np.full((320, 320), 0.7)) for eye in eyes(3)]
    folder, out = written(tmp_path, blank), tmp_path / "out.npz"
    for text in ("0", "-3", "wide"):
        with pytest.raises(SystemExit) as ended:
            main(["extract", str(folder), "--out", str(out), f"--marker={text}"])
        assert ended.value.code == 2
        assert "must be a positive number" in capsys.readouterr().err
    sphere = ",".join(map(str, SPHERE))
    assert main(["extract", str(folder), "--out", str(out), "--marker", "60", f"--sphere={sphere}"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1 and "none of 3 photographs shows an ArUco marker" in lines[0]
    scene = tmp_path / "scene.yaml"
    scene.write_text("objects: []\n")
    assert main(["extract", str(scene), "--out", str(out), "--marker", "60"]) == 2
    assert "'--marker' goes with" in capsys.readouterr().err
    assert not out.exists()


def told(metres: object) -> Views:
    views = sphere_views(6, 24)
    return replace(views, metadata={**views.metadata, "settings": {"scale": {"metres": metres, "up": [0, 0, 1]}}})


def test_the_exports_scale_follows_unless_a_person_says_another() -> None:
    assert scaled(load_config(None), told(0.15)).export.metres == 0.15
    assert scaled(load_config(None, ["export.metres=2"]), told(0.15)).export.metres == 2
    assert scaled(load_config(None), sphere_views(6, 24)).export.metres is None
    with pytest.raises(ReconError, match="'settings.scale.metres' must be a positive number, got -1"):
        scaled(load_config(None), told(-1))


@pytest.mark.slow
def test_the_glb_is_in_metres(tmp_path: Path) -> None:
    import trimesh

    tiny = ["surface.cells=[4,8]", "train.levels=[2]", "train.iterations=2", "export.texture=16", "render.samples=1"]
    for name, views in (("plain", sphere_views(6, 24)), ("told", told(0.15))):
        save_views(views, tmp_path / f"{name}.npz")
        train(tmp_path / f"{name}.npz", load_config(None, tiny), tmp_path / name, options=Options(quiet=True))
    plain, metric = (trimesh.load(tmp_path / name / "mesh.glb").extents for name in ("plain", "told"))
    np.testing.assert_allclose(metric, 0.15 * plain, rtol=1e-5)
    assert "metres: 0.15" in (tmp_path / "told" / "train.yaml").read_text()

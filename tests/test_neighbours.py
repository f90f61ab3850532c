"""Data of other programs: NeuS, IRON, Polycam, Metashape, fisheye lenses; the same cameras come out of each."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest

from recon.capture.extract import extract
from recon.capture.paths import even_sphere
from recon.capture.photographs import Photo, undistorted
from recon.capture.resample import resampled
from recon.capture.source_files import source_files
from recon.errors import ReconError
from recon.images.photograph import Picture
from recon.views import Views, load_views

SIZE = 24, 32
"""Height and width."""

MATRIX = np.array([[40.0, 0, 15.2], [0, 41, 12.7], [0, 0, 1]])
POSES = even_sphere(4, 5.0)
POSES[:, :3, 3] += [0.3, -0.2, 0.1]
CENTER, RADIUS = np.array([0.3, -0.2, 0.1]), 1.4


def pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        imageio.imwrite(folder / name, np.random.default_rng(i).integers(20, 200, (*SIZE, 3), dtype=np.uint8))


def masks(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        mask = np.zeros(SIZE, np.uint8)
        mask[8:16, 10:20] = 255
        imageio.imwrite(folder / name, mask)


def neus(folder: Path) -> Path:
    pictures(folder / "image", [f"{i:03}.png" for i in range(4)])
    masks(folder / "mask", [f"{i:03}.png" for i in range(4)])
    scale = np.diag([RADIUS, RADIUS, RADIUS, 1.0])
    scale[:3, 3] = CENTER
    centred_at_zero = MATRIX - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    arrays = {}
    for i, pose in enumerate(POSES):
        projection = np.eye(4)
        projection[:3] = centred_at_zero @ np.linalg.inv(pose)[:3] * (-1) ** i * (1 + i)  # known up to a factor
        arrays |= {f"world_mat_{i}": projection, f"scale_mat_{i}": scale}
    np.savez(folder / "cameras_sphere.npz", **arrays)
    return folder


def iron(folder: Path) -> Path:
    """In the unit sphere already."""
    pictures(folder / "image", [f"{i}.png" for i in range(4)])
    entries = {}
    for i, pose in enumerate(POSES):
        unit = pose.copy()
        unit[:3, 3] = (unit[:3, 3] - CENTER) / RADIUS
        matrix = np.eye(4)
        matrix[:3, :3] = MATRIX
        entries[f"{i}.png"] = {
            "K": matrix.ravel().tolist(),
            "W2C": np.linalg.inv(unit).ravel().tolist(),
            "img_size": [SIZE[1], SIZE[0]],
        }
    (folder / "cam_dict_norm.json").write_text(json.dumps(entries))
    return folder


def polycam(folder: Path) -> Path:
    pictures(folder / "keyframes" / "corrected_images", [f"{100 + i}.png" for i in range(4)])
    cameras = folder / "keyframes" / "corrected_cameras"
    cameras.mkdir()
    for i, pose in enumerate(POSES):
        arkit = pose[:3].copy()
        arkit[:, :3] = arkit[:, :3] @ np.diag([1, -1, -1])
        entry = {f"t_{row}{column}": arkit[row, column] for row in range(3) for column in range(4)}
        entry |= {"fx": 40.0, "fy": 41.0, "cx": 15.2, "cy": 12.7, "width": 32, "height": 24, "blur_score": 3}
        (cameras / f"{100 + i}.json").write_text(json.dumps(entry))
    return folder


CHUNK = np.array([[0, -3.0, 0, 7], [3, 0, 0, 1], [0, 0, 3, -2], [0, 0, 0, 1]])


def metashape(folder: Path) -> Path:
    pictures(folder / "images", [f"IMG_{i}.png" for i in range(4)])
    root = ElementTree.Element("document", version="1.5.0")
    chunk = ElementTree.SubElement(root, "chunk", label="Chunk 1", enabled="true")
    sensors = ElementTree.SubElement(chunk, "sensors")
    sensor = ElementTree.SubElement(sensors, "sensor", id="0", label="Camera", type="frame")
    ElementTree.SubElement(sensor, "resolution", width="32", height="24")
    for kind, focal in (("initial", 99.0), ("adjusted", 41.0)):
        calibration = ElementTree.SubElement(sensor, "calibration", {"type": "frame", "class": kind})
        ElementTree.SubElement(calibration, "resolution", width="32", height="24")
        for name, value in {"f": focal, "cx": -0.8, "cy": 0.7, "b1": -1.0}.items():
            ElementTree.SubElement(calibration, name).text = str(value)
    cameras = ElementTree.SubElement(chunk, "cameras")
    for i, pose in enumerate(POSES):
        local = np.linalg.inv(CHUNK) @ pose
        local[:3, :3] *= 3
        camera = ElementTree.SubElement(cameras, "camera", id=str(i), sensor_id="0", label=f"IMG_{i}")
        ElementTree.SubElement(camera, "transform").text = " ".join(map(str, local.ravel()))
    ElementTree.SubElement(cameras, "camera", id="8", sensor_id="0", label="IMG_8")
    ElementTree.SubElement(cameras, "camera", id="9", sensor_id="0", label="IMG_9", enabled="false")
    transform = ElementTree.SubElement(chunk, "transform")
    ElementTree.SubElement(transform, "rotation").text = " ".join(map(str, (CHUNK[:3, :3] / 3).ravel()))
    ElementTree.SubElement(transform, "translation").text = " ".join(map(str, CHUNK[:3, 3]))
    ElementTree.SubElement(transform, "scale").text = "3"
    ElementTree.ElementTree(root).write(folder / "cameras.xml")
    return folder / "cameras.xml"


def read(source: Path, folder: Path, **options: object) -> Views:
    extract(source, folder / "v.npz", **options)  # type: ignore[arg-type]
    return load_views(folder / "v.npz")


def world_poses(views: Views) -> np.ndarray:
    poses = views.world_from_unit @ views.camera_to_world
    poses[:, :3, :3] /= np.cbrt(np.linalg.det(views.world_from_unit[:3, :3]))
    return poses


@pytest.mark.parametrize("make", [neus, polycam, metashape])
def test_cameras_come_out_as_they_went_in(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = make(tmp_path / "data")
    views = read(source, tmp_path)
    assert views.images.shape == (4, *SIZE, 3) and np.allclose(views.intrinsics, MATRIX)
    assert np.allclose(world_poses(views), POSES, atol=1e-6)
    watched = {path.suffix for path in source_files(source)}
    assert ".png" in watched


def test_neus_says_where_the_unit_sphere_is(tmp_path: Path) -> None:
    views = read(neus(tmp_path / "data"), tmp_path)
    assert views.metadata["settings"]["framed_by"] == "sphere" and views.masks is not None
    assert np.allclose(views.world_from_unit[:3, 3], CENTER) and np.isclose(views.world_from_unit[0, 0], RADIUS)
    other = read(tmp_path / "data", tmp_path, sphere=(0.0, 0.0, 0.0, 2.0))
    assert np.isclose(other.world_from_unit[0, 0], 2)


def test_iron_is_in_the_unit_sphere_already(tmp_path: Path) -> None:
    views = read(iron(tmp_path / "data"), tmp_path)
    assert np.array_equal(views.world_from_unit, np.eye(4)) and np.allclose(views.intrinsics, MATRIX)
    assert np.allclose(views.camera_to_world[:, :3, 3], (POSES[:, :3, 3] - CENTER) / RADIUS)
    assert np.allclose(views.camera_to_world[:, :3, :3], POSES[:, :3, :3])


def test_metashape_s_cameras_that_are_not_aligned_are_told(tmp_path: Path) -> None:
    views = read(metashape(tmp_path / "data"), tmp_path)
    path = tmp_path / "data" / "cameras.xml"
    assert views.metadata["warnings"] == [f"{path}: IMG_8: not aligned by Metashape, and left out"]


def test_metashape_s_tangential_terms_are_opencv_s_the_other_way_round(tmp_path: Path) -> None:
    from recon.capture.metashape import _sensor

    path = metashape(tmp_path / "data")
    sensor = ElementTree.parse(path).getroot().find("chunk/sensors/sensor")
    assert sensor is not None
    for calibration in sensor.findall("calibration"):
        for name, value in {"k1": 0.1, "k2": 0.02, "k3": 0.003, "p1": 0.01, "p2": -0.02}.items():
            ElementTree.SubElement(calibration, name).text = str(value)
    intrinsics, size, distortion, fisheye = _sensor(sensor, "x")
    assert size == SIZE and not fisheye and distortion is not None
    x, y = 0.2, -0.15
    squared = x * x + y * y
    radial = 1 + 0.1 * squared + 0.02 * squared**2 + 0.003 * squared**3
    bent_x = x * radial + 0.01 * (squared + 2 * x * x) + 2 * -0.02 * x * y
    bent_y = y * radial - 0.02 * (squared + 2 * y * y) + 2 * 0.01 * x * y
    expected = 16 - 0.8 + bent_x * (41 - 1), 12 + 0.7 + bent_y * 41
    point = np.array([[[x, y, 1.0]]])
    (found,) = cv2.projectPoints(point, np.zeros(3), np.zeros(3), intrinsics, distortion)[0][0]
    assert np.allclose(found, expected)


# Fisheye

COEFFICIENTS = np.array([0.05, -0.02, 0.01, -0.003])


def fisheye_photo(height: int = 300, width: int = 400, focal: float = 180.0) -> Photo:
    """A picture whose colours are the rays that a fisheye lens has there."""
    matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    given = matrix - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).reshape(-1, 1, 2).astype(np.float64)
    straight = cv2.fisheye.undistortPoints(pixels, given, COEFFICIENTS).reshape(height, width, 2)
    color = np.dstack([straight.clip(-5, 5) + 6, np.ones((height, width))]).astype(np.float32)
    return Photo(Picture(color, None), None, np.eye(4), matrix, distortion=COEFFICIENTS, fisheye=True)


def rays(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y = (columns - matrix[0, 2]) / matrix[0, 0], (rows - matrix[1, 2]) / matrix[1, 1]
    return np.stack([x + 6, y + 6, np.ones_like(x)], axis=2).astype(np.float32)


def test_a_fisheye_becomes_a_pinhole() -> None:
    photo = fisheye_photo()
    whole = undistorted(photo)
    assert not whole.fisheye and whole.distortion is None
    inner = slice(60, 240), slice(80, 320)
    assert np.abs(whole.picture.color - rays(photo.intrinsics, 300, 400))[inner].max() < 0.02
    asked = np.array([[40.0, 0, 20], [0, 40, 20], [0, 0, 1]])
    small = resampled(photo, asked, 40, 40)
    known = np.ones((40, 40), bool) if small.known is None else small.known
    assert known.mean() > 0.9
    assert np.abs(small.picture.color - rays(asked, 40, 40))[known].max() < 0.02


def test_fisheye_lenses_of_transforms(tmp_path: Path) -> None:
    pictures(tmp_path / "images", [f"{i}.png" for i in range(4)])
    frames = [{"file_path": f"images/{i}.png", "transform_matrix": pose.tolist()} for i, pose in enumerate(POSES)]
    tree = {"camera_convention": "opencv", "fl_x": 40.0, "fl_y": 41.0, "cx": 15.2, "cy": 12.7, "frames": frames}
    found = []
    for kind in (
        {},
        {"camera_model": "OPENCV_FISHEYE"},
        {"is_fisheye": True},
        {"camera_model": "OPENCV_FISHEYE", "k4": 0.2},
    ):
        (tmp_path / "transforms.json").write_text(json.dumps(tree | kind))
        found.append(read(tmp_path / "transforms.json", tmp_path, sphere=(*CENTER.tolist(), 1.0)).images)
    assert not np.allclose(found[0], found[1]) and np.array_equal(found[1], found[2])
    assert not np.allclose(found[1], found[3])


# Bad input


def _neus_without_matrix(folder: Path) -> Path:
    neus(folder)
    arrays = dict(np.load(folder / "cameras_sphere.npz"))
    arrays.pop("world_mat_2")
    np.savez(folder / "cameras_sphere.npz", **arrays)
    return folder


def _neus_skewed(folder: Path) -> Path:
    neus(folder)
    arrays = dict(np.load(folder / "cameras_sphere.npz"))
    arrays["world_mat_1"] = np.diag([1, 1, 1, 1.0]) @ np.array(
        [[1, 5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )
    np.savez(folder / "cameras_sphere.npz", **arrays)
    return folder


def _neus_without_picture(folder: Path) -> Path:
    """Its matrices are by position: all that follow would be another camera's."""
    neus(folder)
    for place in ("image", "mask"):
        (folder / place / "001.png").unlink()
    return folder


def _neus_fewer_masks(folder: Path) -> Path:
    neus(folder)
    (folder / "mask" / "000.png").unlink()
    return folder


def _iron_broken(folder: Path) -> Path:
    iron(folder)
    (folder / "cam_dict_norm.json").write_text('{"0.png": {"K": [1, 2]}}')
    return folder


def _iron_missing_picture(folder: Path) -> Path:
    iron(folder)
    (folder / "image" / "1.png").unlink()
    return folder


def _polycam_missing_key(folder: Path) -> Path:
    polycam(folder)
    (folder / "keyframes" / "corrected_cameras" / "101.json").write_text('{"t_00": 1}')
    return folder


def _polycam_missing_picture(folder: Path) -> Path:
    polycam(folder)
    (folder / "keyframes" / "corrected_images" / "101.png").unlink()
    return folder


def _metashape_changed(before: str, after: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = metashape(folder)
        path.write_text(path.read_text().replace(before, after))
        return path

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_neus_without_matrix, "cameras_sphere.npz: key 'world_mat_2' is missing"),
        (_neus_skewed, "key 'world_mat_1': its pixels are skewed"),
        (_neus_without_picture, "cameras_sphere.npz: has 4 of world_mat_i, .*, but image/ holds 3; expected as many"),
        (_neus_fewer_masks, r"image/ holds 4 pictures, mask/ 3"),
        (_iron_broken, "cam_dict_norm.json: '0.png': 'K' must be 16 numbers"),
        (_iron_missing_picture, "1.png: no such picture"),
        (_polycam_missing_key, "101.json: not a camera of Polycam: key 't_01' is missing"),
        (_polycam_missing_picture, "101.json: has no picture of its name in corrected_images/"),
        (_metashape_changed("<chunk", "<chink"), "cameras.xml: not readable XML"),
        (_metashape_changed('type="frame" class', 'type="spherical" class'), "has a lens of type 'spherical'"),
        (_metashape_changed("<b1>", "<b2>4</b2><b1>"), "'b2' and 'k4' have no counterpart"),
        (_metashape_changed('label="IMG_0"', 'label="IMG_7"'), "camera IMG_7: no photograph of that name"),
        (_metashape_changed("<f>41.0</f>", "<f>many</f>"), "camera IMG_0: f: expected 1 finite numbers"),
        (_metashape_changed("<f>41.0</f>", "<fx>41.0</fx><fy>43</fy>"), "camera IMG_0: its calibration has 'fx'"),
        (_metashape_changed('width="32"', 'width="wide"'), "camera IMG_0: width of the resolution: expected 1 finite"),
    ],
)
def test_bad_data_is_one_line(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(ReconError, match=message) as caught:
        extract(make(tmp_path / "data"), tmp_path / "v.npz")
    assert "\n" not in str(caught.value) and not (tmp_path / "v.npz").exists()

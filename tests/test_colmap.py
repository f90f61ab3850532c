"""Sparse models of COLMAP: the same views as our own, lenses, masks, the unit sphere, and every bad input."""

import builtins
import json
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from recon.camera import intrinsics_from_fov
from recon.capture.extract import extract
from recon.capture.normalise import frame_from_points
from recon.capture.paths import arc, even_sphere
from recon.capture.rendering import photograph
from recon.capture.world import join
from recon.errors import ReconError
from recon.frames import moved
from recon.geometry.meshes import primitive
from recon.views import Views, load_views

SIZE = 24, 32
MATRIX = np.array([[36.0, 0, 15], [0, 36, 12.5], [0, 0, 1]])
POSES = arc(4, 2.5, (-70.0, 70.0), (-15.0, 35.0))
PINHOLE = "PINHOLE 32 24 36 36 15 12.5"


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Linear radiance and masks of a capsule of radius 0.7."""
    mesh = primitive("capsule").apply_scale(0.7)
    world = join([mesh], [], np.ones((len(mesh.vertices), 3)))
    return photograph(world, POSES, np.tile(MATRIX, (4, 1, 1)), *SIZE, 2, "test")


def model(
    folder: Path,
    pictures: tuple[np.ndarray, np.ndarray],
    *,
    camera: str = PINHOLE,
    masks: bool = True,
    points: np.ndarray | None = None,
    scale: float = 1.0,
    seen: list[tuple[int, ...]] | None = None,
) -> Path:
    """A model in text, and its photographs as 8-bit sRGB; the world of COLMAP is `scale` times ours.

    `seen`: by which photographs, counted from 0, each point is seen; by all where left out.
    """
    sparse = folder / "sparse" / "0"
    for made in (sparse, folder / "images", folder / "masks"):
        made.mkdir(parents=True)
    lines = []
    points = np.zeros((0, 3)) if points is None else points
    tracks: list[tuple[int, ...]] = [(0, 1, 2, 3)] * len(points) if seen is None else seen
    elements = [""] * len(points)
    for i, pose in enumerate(POSES):
        rotation = pose[:3, :3].T
        x, y, z, w = Rotation.from_matrix(rotation).as_quat()
        translation = -rotation @ pose[:3, 3] * scale
        by_this = [k for k, views in enumerate(tracks) if i in views]
        found = " ".join(f"1 1 {k + 1}" for k in by_this)
        lines += [f"{i + 1} {w} {x} {y} {z} {' '.join(map(str, translation))} 1 {'dcba'[i]}.png", found]
        for place, k in enumerate(by_this):
            elements[k] += f" {i + 1} {place}"
        linear = np.clip(pictures[0][i] / pictures[0].max(), 0, 1)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        imageio.imwrite(folder / "images" / f"{'dcba'[i]}.png", np.round(255 * encoded).astype(np.uint8))
        if masks:
            imageio.imwrite(folder / "masks" / f"{'dcba'[i]}.png.png", pictures[1][i])
    (sparse / "cameras.txt").write_text(f"1 {camera}\n")
    (sparse / "images.txt").write_text("\n".join(lines) + "\n")
    (sparse / "points3D.txt").write_text(
        "".join(
            f"{i} {x} {y} {z} 255 255 255 0.1{seen_by}\n"
            for i, ((x, y, z), seen_by) in enumerate(zip(points * scale, elements, strict=True), 1)
        )
    )
    return folder


def read(folder: Path, **options: Any) -> Views:
    extract(folder, folder / "views.npz", **options)
    return load_views(folder / "views.npz")


def test_a_model_gives_the_views_it_was_made_of(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    views = read(model(tmp_path / "pot", pictures, scale=7.0))
    assert views.metadata["settings"]["images"] == ["a.png", "b.png", "c.png", "d.png"]  # by name, not by number
    assert views.metadata["set"] == "pot" and views.metadata["versions"]["pycolmap"]
    assert views.metadata["settings"]["framed_by"] == "masks"
    assert np.allclose(views.images, (pictures[0] / pictures[0].max())[::-1], atol=0.01)
    assert views.masks is not None and np.array_equal(views.masks, pictures[1][::-1])
    assert np.allclose(views.intrinsics, MATRIX)
    poses = views.world_from_unit @ views.camera_to_world
    assert np.allclose(poses[:, :3, 3] / 7, POSES[::-1, :3, 3], atol=1e-6)
    # The capsule of half-length 0.7 fills most of the unit sphere.
    assert 0.6 < np.cbrt(np.linalg.det(views.world_from_unit[:3, :3])) / 7 < 1.1


def test_binary_models_and_those_of_the_undistorter_are_read(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    import pycolmap

    folder = model(tmp_path / "a", pictures)
    sparse = folder / "sparse"
    pycolmap.Reconstruction(str(sparse / "0")).write_binary(str(sparse))
    text = read(folder)
    for file in (sparse / "0").iterdir():
        file.unlink()
    binary = read(folder)
    assert np.array_equal(text.images, binary.images) and np.allclose(text.camera_to_world, binary.camera_to_world)


@pytest.mark.parametrize(
    "camera",
    ["SIMPLE_RADIAL 32 24 36 15 12.5 1.5", "FULL_OPENCV 32 24 36 36 15 12.5 1.5 0 0.01 0 0 0 0 0"],
)
def test_distorted_lenses_are_undone(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], camera: str) -> None:
    plain, bent = read(model(tmp_path / "a", pictures)), read(model(tmp_path / "b", pictures, camera=camera))
    assert np.allclose(bent.intrinsics, MATRIX)
    assert bent.masks is not None and plain.masks is not None
    # A positive k1 spreads the photograph, so that undoing it shrinks what is seen.
    assert (bent.masks > 0).sum() < 0.95 * (plain.masks > 0).sum()


def ball(count: int, radius: float, seed: int = 0) -> np.ndarray:
    surface = np.random.default_rng(seed).normal(size=(count, 3))
    return surface * radius / np.linalg.norm(surface, axis=1, keepdims=True)


def test_without_masks_the_points_tell_the_size(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    lit = pictures[0] + 0.05 * pictures[0].max(), pictures[1]  # no black background
    surface = ball(500, 0.5)
    surface[:5] *= 20
    views = read(model(tmp_path / "a", lit, masks=False, points=surface, scale=3.0))
    assert views.metadata["settings"]["framed_by"] == "points" and views.masks is None
    assert np.isclose(np.cbrt(np.linalg.det(views.world_from_unit[:3, :3])), 3 * 0.5 / 0.85, rtol=0.05)
    few = read(model(tmp_path / "b", lit, masks=False, points=surface[:20]))
    assert few.metadata["settings"]["framed_by"] != "points"


def test_points_are_kept_with_the_views_that_see_them(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    surface = ball(60, 0.5)
    folder = model(tmp_path / "a", pictures, points=surface, scale=3.0, seen=[(i % 4, (i + 1) % 4) for i in range(60)])
    views = read(folder)
    assert views.points is not None and views.observations is not None
    assert np.allclose(moved(views.points, views.world_from_unit), 3 * surface, atol=1e-6)
    # Point 0 is seen by the first and second photographs of the model, d and c: by name the last two views.
    assert views.observations[:4].tolist() == [[0, 2], [0, 3], [1, 1], [1, 2]]
    assert np.bincount(views.observations[:, 0]).tolist() == [2] * 60


def cameras(count: int, radius: float, field: float = 40.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    poses = even_sphere(count, radius)
    return poses, np.tile(intrinsics_from_fov(field, 64, 64), (count, 1, 1)), np.full((count, 2), 64)


def test_far_points_do_not_matter() -> None:
    wall = np.random.default_rng(2).uniform(-9, 9, (5000, 3)) + [20, 0, 0]
    points = np.concatenate([ball(1000, 0.3), wall])
    frame = frame_from_points(points, np.full(6000, 5), *cameras(12, 2.0))
    assert frame is not None
    assert np.allclose(frame[:3, 3], 0, atol=0.02) and np.isclose(frame[0, 0], 0.3 / 0.85, rtol=0.05)


def test_what_a_gap_parts_from_the_object_and_lone_points_do_not_matter() -> None:
    wall = np.random.default_rng(2).uniform(-0.2, 0.2, (3000, 3)) + [1.2, 0, 0]
    lone = np.array([[0, 0, 0.6], [0, 0.55, 0], [-0.7, 0, 0]])
    points = np.concatenate([ball(1000, 0.3), wall, lone])
    frame = frame_from_points(points, np.full(len(points), 5), *cameras(12, 2.0))
    assert frame is not None and np.isclose(frame[0, 0], 0.3 / 0.85, rtol=0.05)


def test_a_handle_with_few_points_is_not_cut() -> None:
    handle = np.random.default_rng(3).normal(0, 0.02, (12, 3)) + [0.45, 0, 0]
    points = np.concatenate([ball(1000, 0.3), handle])
    frame = frame_from_points(points, np.full(len(points), 4), *cameras(12, 2.0))
    assert frame is not None
    assert np.linalg.norm((points - frame[:3, 3]) / frame[0, 0], axis=1).max() < 0.9


def test_points_that_two_views_see_do_not_matter_and_cameras_stay_outside() -> None:
    points = np.concatenate([ball(200, 0.3), ball(200, 0.9, seed=4)])
    frame = frame_from_points(points, np.repeat([4, 2], 200), *cameras(12, 2.0))
    assert frame is not None and np.isclose(frame[0, 0], 0.3 / 0.85, rtol=0.05)
    near = frame_from_points(ball(200, 0.3), np.full(200, 4), *cameras(12, 0.33, field=150.0))
    assert near is not None and near[0, 0] < 0.33


def test_like_brings_a_second_model_into_the_firsts_frame(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    first = read(model(tmp_path / "a", pictures))
    second = read(model(tmp_path / "b", pictures, masks=False), like=tmp_path / "a" / "views.npz", set_name="test")
    assert np.allclose(first.camera_to_world, second.camera_to_world)
    assert second.metadata["set"] == "test"


# Several models, masks by other names, photographs that are not registered, EXIF


def numbered(folder: Path, number: int, names: str) -> None:
    """Another model of the project, of the photographs `names`."""
    other = folder / "sparse" / str(number)
    other.mkdir()
    for file in (folder / "sparse" / "0").iterdir():
        text = file.read_text()
        if file.name == "images.txt":
            lines = [line for line in text.splitlines() if line]
            text = "".join(f"{line}\n\n" for line in lines if line.split()[-1][0] in names)
        (other / file.name).write_text(text)


def noted(folder: Path, **options: Any) -> tuple[Views, list[str]]:
    views = read(folder, **options)
    return views, [line.removeprefix(f"{folder}: ") for line in views.metadata.get("warnings", [])]


def test_the_model_with_the_most_photographs_is_taken(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = model(tmp_path / "pot", pictures)
    numbered(folder, 1, "abcd")
    numbered(folder, 0 + 10, "ab")
    (folder / "sparse/0/images.txt").write_text((folder / "sparse/10/images.txt").read_text())
    views, notes = noted(folder)
    assert len(views) == 4
    assert notes == [
        "sparse/ holds 3 models, which share no frame: 0 (2 photographs), 1 (4 photographs), 10 (2 photographs); "
        f"taken is 1; another is extracted by its folder: {folder / 'sparse/0'}"
    ]
    assert capfd.readouterr().err == f"recon: warning: {folder}: {notes[0]}\n"
    extract(folder / "sparse" / "0", tmp_path / "v.npz")
    assert load_views(tmp_path / "v.npz").metadata["settings"]["images"] == ["a.png", "b.png"]
    (folder / "sparse/10/images.txt").write_text("broken")
    assert "10 (unreadable)" in noted(folder)[1][0]


def test_photographs_that_are_not_registered_are_told(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    folder = model(tmp_path / "pot", pictures)
    assert noted(folder)[1] == []
    for name in "vwxyz":
        (folder / "images" / f"{name}.PNG").write_bytes((folder / "images" / "a.png").read_bytes())
    (folder / "images" / "notes.txt").write_text("")
    assert noted(folder)[1] == ["4 of 9 photographs in images/ are registered; left out: v.PNG, w.PNG, x.PNG, … (5)"]


def test_masks_that_are_called_like_no_photograph_are_an_error(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    folder = model(tmp_path / "pot", pictures)
    for name in "abcd":
        (folder / "masks" / f"{name}.png.png").rename(folder / "masks" / f"{name}_mask.png")
    with pytest.raises(
        ReconError,
        match=r"masks/ holds 4 pictures, such as a_mask.png, but none is called like a photograph; "
        r"expected masks/a.png.png, a.png$",
    ):
        read(folder)


@pytest.mark.parametrize("name", ["{}.PNG", "{}.png.PNG", "{}.PNG.png", "{}.png"])
def test_masks_by_other_spellings(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], name: str) -> None:
    folder = model(tmp_path / "pot", pictures)
    for letter in "abcd":
        (folder / "masks" / f"{letter}.png.png").rename(folder / "masks" / name.format(letter))
    views, notes = noted(folder)
    assert views.masks is not None and np.array_equal(views.masks, pictures[1][::-1]) and notes == []
    (folder / "masks" / "b.tif").write_bytes((folder / "masks" / name.format("b")).read_bytes())
    with pytest.raises(ReconError, match="image b.png has several masks: .*; expected one"):
        read(folder)


def test_a_mask_by_colmap_s_own_name_goes_before_others(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    folder = model(tmp_path / "pot", pictures)
    imageio.imwrite(folder / "masks" / "b.PNG.png", np.full_like(pictures[1][0], 255))  # of a b.PNG
    views, notes = noted(folder)
    assert views.masks is not None and np.array_equal(views.masks, pictures[1][::-1]) and notes == []


@pytest.mark.parametrize("name", ["mask", "Masks"])
def test_masks_in_another_folder_are_told(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], name: str) -> None:
    folder = model(tmp_path / "pot", pictures)
    (folder / "masks").rename(folder / "elsewhere")
    (folder / "elsewhere").rename(folder / name)
    views, notes = noted(folder)
    assert views.masks is None
    assert f"no masks are taken, though {folder / name} holds pictures; expected them in {folder / 'masks'}" in notes


def test_what_macos_and_inspect_leave_beside_photographs_is_none(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    folder = model(tmp_path / "pot", pictures)
    for name in ("._a.png", "views.inspection.png"):
        (folder / "images" / name).write_bytes(b"no picture")
        (folder / "masks" / name).write_bytes(b"no picture")
    assert noted(folder)[1] == []


def test_the_camera_s_size_tells_whether_a_photograph_is_to_be_turned(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    folder = model(tmp_path / "pot", pictures)
    plain, _ = noted(folder)
    for name in "abcd":
        path = folder / "images" / f"{name}.png"
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(np.rot90(imageio.imread(path))).save(path, exif=exif)  # 6: to be turned clockwise
    views, notes = noted(folder)
    assert np.array_equal(views.images, plain.images)
    assert notes == [
        "image a.png, image b.png, image c.png, image d.png: turned by the EXIF orientation, "
        "as the camera's width and height ask"
    ]


# Bad input


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("sparse/0/images.txt", None, "sparse/0: not a readable model of COLMAP"),
        ("sparse/0/images.txt", "1 1 0 x 0 0 0 2.5 1 a.png\n\n", "sparse/0: not a readable model of COLMAP"),
        ("sparse/0/images.txt", "1 1 0 0 0 0 0 2.5 7 a.png\n\n", "sparse/0: not a readable model of COLMAP"),
        (
            "sparse/0/images.txt",
            "1 1 0 0 0 0 0 2.5 1 a.png\n\n2 1 0 0 0 1 0 2.5 1 a.png\n\n",
            "sparse/0: image a.png is registered twice",
        ),
        ("sparse/0/images.txt", "", "sparse/0: the model has no registered image"),
        ("sparse/0/cameras.txt", "1 NOSUCH 32 24 36 36 15 12.5\n", "sparse/0: not a readable model of COLMAP"),
        (
            "sparse/0/cameras.txt",
            "1 FOV 32 24 36 36 15 12.5 0.1\n",
            "image a.png: the camera model FOV is not known",
        ),
        ("sparse/0/cameras.txt", "1 PINHOLE 32 24 -36 36 15 12.5\n", "image a.png: .*focal lengths must be positive"),
        ("sparse/0/cameras.txt", "1 PINHOLE 64 48 36 36 15 12.5\n", "image a.png: .*a.png has 32x24 pixels, .* 64x48"),
        ("images/b.png", None, "image b.png: no such file in .*images"),
        ("images/b.png", "no picture", "b.png: not a readable picture"),
        ("masks/c.png.png", None, "image c.png has no mask in masks/, but others have one"),
        ("masks/c.png.png", "no picture", "c.png.png: not a readable picture"),
    ],
)
def test_bad_folders_are_one_line(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], file: str, text: str | None, message: str
) -> None:
    folder = model(tmp_path / "a", pictures)
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(ReconError, match=message) as caught:
        extract(folder, tmp_path / "out.npz")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_truncated_models_are_one_line(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], name: str) -> None:
    import pycolmap

    folder = model(tmp_path / "a", pictures, points=np.zeros((2, 3)))
    sparse = folder / "sparse" / "0"
    pycolmap.Reconstruction(str(sparse)).write_binary(str(sparse))
    (sparse / name).write_bytes((sparse / name).read_bytes()[:-20])
    with pytest.raises(ReconError, match="sparse/0[:/]") as caught:
        extract(folder, tmp_path / "out.npz")
    assert "\n" not in str(caught.value)


def test_without_pycolmap_one_line_says_what_to_install(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def fails(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pycolmap":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(ReconError, match=r"pip install -e '\.\[colmap\]'"):
        extract(model(tmp_path / "a", pictures), tmp_path / "out.npz")


# Beside a transforms.json


def transforms(folder: Path, *, similarity: np.ndarray, noise: float = 0.0, suffix: str = ".png") -> Path:
    """A transforms.json of the model's photographs, whose frame is `similarity` of the model's."""
    frames = []
    for i, pose in enumerate(POSES):
        there = similarity @ pose
        there[:3, :3] /= np.cbrt(np.linalg.det(similarity[:3, :3]))
        there[:3, :3] = there[:3, :3] @ np.diag([1.0, -1, -1])
        there[0, 3] += noise * i**2
        frames.append({"file_path": f"images/{'dcba'[i]}{suffix}", "transform_matrix": there.tolist()})
    tree = {"fl_x": 36.0, "cx": 15, "cy": 12.5, "w": 32, "h": 24, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(tree))
    return folder


TURNED = np.array([[0, -2.0, 0, 5], [2, 0, 0, -1], [0, 0, 2, 3], [0, 0, 0, 1]])


def test_poses_of_transforms_and_points_of_the_model_beside_it(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    lit = pictures[0] + 0.05 * pictures[0].max(), pictures[1]
    surface = ball(300, 0.5)
    folder = transforms(model(tmp_path / "a", lit, masks=False, points=surface), similarity=TURNED)
    views = read(folder)
    line = f"{folder / 'transforms.json'}: poses are this file's, points those of {folder / 'sparse' / '0'}"
    assert views.metadata["warnings"] == [line]
    assert views.metadata["settings"]["framed_by"] == "points"
    assert np.allclose(views.world_from_unit[:3, 3], [5, -1, 3], atol=0.02)
    assert np.isclose(views.world_from_unit[0, 0], 2 * 0.5 / 0.85, rtol=0.05)
    assert views.points is not None and views.observations is not None
    carried = views.points @ views.world_from_unit[:3, :3].T + views.world_from_unit[:3, 3]
    assert np.allclose(carried, surface @ TURNED[:3, :3].T + TURNED[:3, 3], atol=1e-4)
    assert np.bincount(views.observations[:, 0]).tolist() == [4] * 300


def test_points_in_another_frame_are_left_out_with_a_line(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    folder = transforms(
        model(tmp_path / "a", pictures, masks=False, points=ball(300, 0.5)), similarity=TURNED, noise=0.3
    )
    views, notes = noted(folder)
    assert views.points is None
    assert "stand otherwise, so its points are left out" in notes[0]
    (folder / "sparse/0/images.txt").write_text("broken")
    assert "not a readable model of COLMAP" in noted(folder)[1][0]


def test_photographs_of_several_sizes_become_views_of_one(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    folder = model(tmp_path / "a", pictures)
    cameras = folder / "sparse" / "0" / "cameras.txt"
    cameras.write_text(f"1 {PINHOLE}\n2 PINHOLE 16 12 18 18 7.5 6.25\n")
    images = folder / "sparse" / "0" / "images.txt"
    images.write_text(images.read_text().replace(" 1 b.png", " 2 b.png"))
    for path in (folder / "images" / "b.png", folder / "masks" / "b.png.png"):
        stored = imageio.imread(path)
        imageio.imwrite(path, stored[::2, ::2])
    views = read(folder, size=20)
    assert views.images.shape == (4, 20, 20, 3) and views.masks is not None
    shares = (views.masks > 0).mean(axis=(1, 2))
    assert shares.min() > 0.25 and shares.max() < 1.3 * shares.min()

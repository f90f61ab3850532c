"""Pictures without poses: small photographs of a ball with a pattern, placed, kept, and gone on with."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from scipy.ndimage import map_coordinates

from recon.camera import look_at
from recon.capture import structure_from_motion
from recon.capture.extract import extract
from recon.capture.source_files import source_files
from recon.capture.sparse_points import _similarity
from recon.errors import ReconError
from recon.views import load_views

HEIGHT, WIDTH, FOCAL = 240, 320, 420.0
STEP = 8.0
"""Degrees between two pictures."""


def eyes(count: int) -> np.ndarray:
    angles = np.radians(STEP * np.arange(count))
    height = 0.6 * np.sin(2 * angles)
    return look_at(3 * np.stack([np.cos(angles), np.sin(angles), height], axis=1), np.zeros(3), np.array([0, 0, 1.0]))


def picture(pose: np.ndarray, seed: int = 0, wall: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A ball of radius 0.9 that carries noise, before grey or a `wall` that stands still in the picture; and its
    mask."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(columns - WIDTH / 2) / FOCAL, (rows - HEIGHT / 2) / FOCAL, np.ones_like(rows)], axis=2)
    rays = rays @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    along = -rays @ pose[:3, 3]
    under = along**2 - (pose[:3, 3] @ pose[:3, 3] - 0.81)
    hit = pose[:3, 3] + (along - np.sqrt(under.clip(0)))[..., None] * rays
    noise = np.random.default_rng(seed).random((24, 24, 24))
    level = map_coordinates(noise, ((hit + 1) * 11.5).reshape(-1, 3).T, order=1, mode="nearest").reshape(rows.shape)
    back = np.full(rows.shape, 0.3) if wall is None else wall
    return np.round(255 * np.where(under > 0, level, back)).astype(np.uint8), (under > 0).astype(np.uint8) * 255


def write(folder: Path, count: int = 9, focal: bool = True, seed: int = 0, wall: np.ndarray | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[272] = "Camera"
    if focal:
        exif.get_ifd(0x8769)[41989] = round(FOCAL / WIDTH * 36)  # in millimetres of a 35 mm film
    for i, pose in enumerate(eyes(count)):
        level, _ = picture(pose, seed, wall)
        Image.fromarray(np.repeat(level[..., None], 3, axis=2)).save(folder / f"{i:02}.jpg", quality=95, exif=exif)
    return folder


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of nine pictures, and the views that were made of them."""
    folder = tmp_path_factory.mktemp("sfm")
    extract(write(folder / "ball"), folder / "v.npz")
    return folder / "ball", folder / "v.npz"


def test_pictures_alone_become_views(placed: tuple[Path, Path]) -> None:
    views = load_views(placed[1])
    notes = views.metadata["warnings"]
    assert len(views) == 9 and views.metadata["settings"]["framed_by"] == "points" and views.metadata["set"] == "ball"
    assert f"{placed[0]}: the scale is unknown: lengths are in a unit of structure from motion's own" in notes
    assert not any("EXIF" in note or "not placed" in note for note in notes)
    world = views.camera_to_world.copy()
    world[:, :3, 3] *= np.cbrt(np.linalg.det(views.world_from_unit[:3, :3]))
    carried = _similarity(world, eyes(9))
    assert carried is not None  # within 1% of the cameras' spread
    # z is up, as the camera was held; the tilt is as open as the focal length.
    assert -views.camera_to_world[:, 2, 1].mean() > 0.85 and np.abs(views.camera_to_world[:, 2, 0]).max() < 0.1
    assert 300 < views.intrinsics[0, 0, 0] < 560  # an arc of 64° leaves it open
    assert views.points is not None and len(views.points) > 100


def test_what_was_found_is_kept_beside_the_views_and_used_again(
    placed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = placed[1].with_name("v.sfm")
    assert (work / "sparse" / "0" / "cameras.bin").is_file() and (work / "database.db").is_file()
    before = load_views(placed[1])
    monkeypatch.setattr(structure_from_motion, "_features", lambda *ignored: pytest.fail("found again"))
    extract(placed[0], placed[1], size=64)
    assert load_views(placed[1]).images.shape == (9, 64, 64, 3)
    extract(placed[0], placed[1])
    assert load_views(placed[1]).digest == before.digest


def test_a_stopped_run_goes_on(placed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(placed[1].with_name("v.sfm"), tmp_path / "v.sfm")
    shutil.rmtree(tmp_path / "v.sfm" / "sparse")
    import pycolmap

    monkeypatch.setattr(pycolmap, "match_image_pairs", lambda *ignored, **more: None)  # all matches are there
    extract(placed[0], tmp_path / "v.npz")
    assert len(load_views(tmp_path / "v.npz")) == 9


def test_a_changed_picture_starts_over(placed: tuple[Path, Path], tmp_path: Path) -> None:
    work = tmp_path / "v.sfm"
    shutil.copytree(placed[1].with_name("v.sfm"), work)
    shutil.copytree(placed[0], tmp_path / "ball")
    names = sorted(path.name for path in placed[0].iterdir())
    same = structure_from_motion.Pictures(placed[0], names, [None] * len(names))
    assert structure_from_motion._begin(same, work) and (work / "database.db").is_file()
    fewer = same._replace(names=names[:-1], masks=[None] * (len(names) - 1))
    assert not structure_from_motion._begin(fewer, work)
    assert not (work / "database.db").exists() and not (work / "sparse").exists()
    assert len(json.loads((work / "pictures.json").read_text())) == len(names) - 1
    (work / "database.db").write_text("")
    assert not structure_from_motion._begin(same, work)
    assert (work / "database.db").is_file()  # one more is no reason to find the others' features again


def test_a_workflow_watches_pictures_and_masks(placed: tuple[Path, Path]) -> None:
    assert [path.name for path in source_files(placed[0])] == [f"{i:02}.jpg" for i in range(9)]


def test_without_a_focal_length_one_line_says_so_and_pictures_that_fit_nowhere_are_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "ball", 8, focal=False)
    stranger, _ = picture(eyes(3)[0], seed=7)
    imageio.imwrite(folder / "other.png", np.repeat(stranger[..., None], 3, axis=2))
    imageio.imwrite(folder / "plain.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    extract(folder, tmp_path / "v.npz")
    views = load_views(tmp_path / "v.npz")
    notes = [line.removeprefix(f"{folder}: ") for line in views.metadata["warnings"]]
    assert 7 <= len(views) <= 8
    assert any(note.startswith("00.jpg, 01.jpg, 02.jpg, … (10): no focal length in EXIF") for note in notes)
    assert any(note.startswith("pictures of 2 cameras or focal lengths") for note in notes)
    assert any(note.startswith("plain.png: not placed") and "few features: blurred, dark" in note for note in notes)
    assert any(note.startswith("other.png: not placed") and "no other picture shows the same" in note for note in notes)


def test_masks_keep_features_on_what_turns(tmp_path: Path) -> None:
    """The wall stands still in the picture: with its features, the camera stands still too."""
    wall = np.kron(np.random.default_rng(5).random((HEIGHT // 4, WIDTH // 4)), np.ones((4, 4)))
    folder = write(tmp_path / "ball", 9, wall=wall)
    (folder / "masks").mkdir()
    for i, pose in enumerate(eyes(9)):
        imageio.imwrite(folder / "masks" / f"{i:02}.png", picture(pose)[1])
    extract(folder, tmp_path / "v.npz")
    views = load_views(tmp_path / "v.npz")
    assert len(views) == 9 and views.masks is not None and views.metadata["settings"]["framed_by"] == "masks"
    assert _similarity(views.camera_to_world, eyes(9)) is not None


# Bad input


def test_folders_that_give_no_poses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ReconError, match="empty: no such source; expected .*a folder of pictures"):
        extract(empty, tmp_path / "v.npz")
    few = write(tmp_path / "few", 2)
    with pytest.raises(ReconError, match="few: holds 2 pictures; structure from motion needs 3"):
        extract(few, tmp_path / "v.npz")
    apart = tmp_path / "apart"
    apart.mkdir()
    for seed in range(3):
        level, _ = picture(eyes(1)[0], seed)
        imageio.imwrite(apart / f"{seed}.png", np.repeat(level[..., None], 3, axis=2))
    with pytest.raises(ReconError, match="apart: no two pictures show the same: .*; and no EXIF says") as caught:
        extract(apart, tmp_path / "v.npz")
    assert "\n" not in str(caught.value) and not (tmp_path / "v.npz").exists()
    (few / "02.jpg").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(ReconError, match="02.jpg: not a readable picture"):
        extract(few, tmp_path / "v.npz")


def test_masks_of_another_size_are_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "ball", 3)
    (folder / "masks").mkdir()
    for i in range(3):
        imageio.imwrite(folder / "masks" / f"{i:02}.png", np.full((8, 8), 255, np.uint8))
    with pytest.raises(ReconError, match="00.png: has 8x8 pixels, expected the picture's 320x240"):
        extract(folder, tmp_path / "v.npz")


def test_without_pycolmap_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def fails(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pycolmap":
            raise ImportError(name)
        return real(name, *rest, **more)

    folder = write(tmp_path / "ball", 3)
    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(ReconError, match=r"ball: pictures without poses need pycolmap: pip install -e '\.\[colmap\]'"):
        extract(folder, tmp_path / "v.npz")


def test_pictures_that_colmap_cannot_read_are_given_to_it_as_copies(tmp_path: Path) -> None:
    folder = tmp_path / "ball"
    folder.mkdir()
    import OpenEXR

    for i, pose in enumerate(eyes(8)):
        level = (picture(pose)[0] / np.float32(255)) ** np.float32(2.2)
        pixels = np.repeat(level[..., None], 3, axis=2).astype(np.float32)
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": OpenEXR.Channel(pixels)}).write(str(folder / f"{i}.exr"))
    extract(folder, tmp_path / "v.npz")
    views = load_views(tmp_path / "v.npz")
    assert len(views) == 8 and views.metadata["settings"]["images"][0] == "0.exr"
    # Views are made of the pictures themselves, in linear light.
    assert np.unique(views.images).size > 300
    assert _similarity(views.camera_to_world, eyes(8)) is not None


def test_another_picture_of_the_same_name_is_copied_anew_whatever_its_age(tmp_path: Path) -> None:
    import OpenEXR

    for level, age in ((0.2, 2_000_000_000), (0.8, 1_000_000_000)):
        path, pixels = tmp_path / "a.exr", np.tile(np.float32([1, level, level]), (4, 4, 1))
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": OpenEXR.Channel(pixels)}).write(str(path))
        os.utime(path, (age, age))
        place, (name,) = structure_from_motion._readable(tmp_path, ["a.exr"], tmp_path / "copies")
        copied = imageio.imread(place / name)[0, 0]
        assert copied[0] > 250 and (copied[1] > 200) == (level > 0.5)


def test_names_with_spaces_and_files_that_are_no_photographs(tmp_path: Path) -> None:
    """COLMAP parts its lists at spaces, and comments begin with #."""
    folder = write(tmp_path / "ball", 6)
    for i in range(6):
        (folder / f"{i:02}.jpg").rename(folder / (f"#{i}.jpg" if i == 3 else f"IMG ({i}).jpg"))
    (folder / "._IMG (0).jpg").write_bytes(b"what macOS leaves")
    (folder / "views.inspection.png").write_bytes(b"ours")
    extract(folder, tmp_path / "v.npz")
    views = load_views(tmp_path / "v.npz")
    names = ["#3.jpg", *(f"IMG ({i}).jpg" for i in (0, 1, 2, 4, 5))]
    assert views.metadata["settings"]["images"] == names
    assert _similarity(views.camera_to_world, eyes(6)[[3, 0, 1, 2, 4, 5]]) is not None


def test_a_picture_that_views_cannot_be_made_of_is_told_before_features_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "ball", 3)
    Image.new("CMYK", (WIDTH, HEIGHT)).save(folder / "01.jpg")
    monkeypatch.setattr(structure_from_motion, "_features", lambda *ignored: pytest.fail("too late"))
    with pytest.raises(ReconError, match=r"01\.jpg: "):
        extract(folder, tmp_path / "v.npz")


def test_a_lens_that_says_no_focal_length_is_one_camera(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[37386] = IFDRational(0, 0)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert structure_from_motion._exif(tmp_path / "a.jpg") == ((8, 8), None, None)


def test_a_raw_file_is_taken_in_place_of_the_picture_beside_it() -> None:
    names, notes = structure_from_motion._one_a_photograph(["a.CR2", "a.JPG", "b.jpg"], Path("vase"))
    assert names == ["a.CR2", "b.jpg"] and notes == ["vase: a.JPG: left out, as the raw files of these names are taken"]

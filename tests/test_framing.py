"""Photographs of any size as views of one: windows, areas, what is known, and where the sphere comes from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest

from recon.camera import look_at
from recon.capture.extract import split
from recon.capture.framing import Points, Wishes, framed
from recon.capture.normalise import frame_from_still, masks_from_still
from recon.capture.paths import even_sphere
from recon.capture.photographs import Photo, Shot
from recon.capture.resample import reduced, resampled, square_around, square_intrinsics
from recon.errors import ReconError
from recon.images.photograph import Picture
from recon.views import Views

POSES = even_sphere(6, 4.0)


def pinhole(focal: float, x: float, y: float) -> np.ndarray:
    return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]])


def rays(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each pixel's ray at depth 1, as a colour: what a window of the picture must hold, too."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y = (columns - matrix[0, 2]) / matrix[0, 0], (rows - matrix[1, 2]) / matrix[1, 1]
    return np.stack([x + 2, y + 2, np.ones_like(x)], axis=2).astype(np.float32)


def ray_photo(pose: np.ndarray, matrix: np.ndarray, height: int, width: int, **more: Any) -> Photo:
    return Photo(Picture(rays(matrix, height, width), None), more.pop("mask", None), pose, matrix, **more)


def shots(photos: list[Photo]) -> list[Shot]:
    return [Shot(Path(f"{i}.png"), f"image {i}.png", lambda photo=photo: photo) for i, photo in enumerate(photos)]


def test_whole_pixels_are_averaged_exactly() -> None:
    color = np.random.default_rng(0).random((48, 64, 3), dtype=np.float32)
    mask = np.zeros((48, 64), bool)
    mask[8:24, 16:42] = True
    matrix = pinhole(80.0, 30.0, 25.0)
    photo = Photo(Picture(color, color[..., 0]), mask, np.eye(4), matrix)
    # The window [16:48, 8:24] of the picture, four pixels to one.
    small = resampled(photo, pinhole(20.0, (30 - 16) / 4, (25 - 8) / 4), 4, 8)
    expected = color[8:24, 16:48].reshape(4, 4, 8, 4, 3).mean(axis=(1, 3))
    assert np.allclose(small.picture.color, expected, atol=1e-6)
    assert small.picture.alpha is not None and np.allclose(small.picture.alpha, expected[..., 0], atol=1e-6)
    assert small.known is None
    assert small.mask is not None and small.mask.sum() == 4 * 6  # half of a column's pixels are not most of them


def test_every_pixel_of_a_window_keeps_its_ray() -> None:
    photo = ray_photo(np.eye(4), np.array([[300.0, 0, 211], [0, 280, 160], [0, 0, 1]]), 300, 400)
    asked = pinhole(45.0, 21.3, 17.9)
    small = resampled(photo, asked, 40, 40)
    assert small.known is None
    assert np.abs(small.picture.color - rays(asked, 40, 40)).max() < 1e-3
    large = resampled(photo, pinhole(900.0, 20, 20), 40, 40)  # more pixels than the photograph has
    assert np.abs(large.picture.color - rays(pinhole(900.0, 20, 20), 40, 40)).max() < 1e-3


def test_a_distorted_photograph_is_straightened_on_the_way() -> None:
    matrix, coefficients = pinhole(300.0, 200, 150), np.array([0.2, -0.05, 0.01, -0.02, 0.0])
    given = matrix - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    pixels = np.stack(np.meshgrid(np.arange(400), np.arange(300)), axis=2).reshape(-1, 1, 2).astype(np.float32)
    straight = cv2.undistortPoints(pixels, given, coefficients).reshape(300, 400, 2)
    color = np.dstack([straight + 2, np.ones((300, 400))]).astype(np.float32)
    photo = Photo(Picture(color, None), None, np.eye(4), matrix, distortion=coefficients)
    asked = pinhole(60.0, 24, 24)
    small = resampled(photo, asked, 48, 48)
    assert small.distortion is None and small.known is None
    assert np.abs(small.picture.color - rays(asked, 48, 48)).max() < 5e-3


def test_what_the_photograph_does_not_show_is_not_known() -> None:
    photo = ray_photo(np.eye(4), pinhole(80.0, 16, 16), 32, 32)
    wide = resampled(photo, pinhole(20.0, 8, 8), 16, 16)  # the photograph is the middle 8x8 pixels
    expected = np.zeros((16, 16), bool)
    expected[4:12, 4:12] = True
    assert wide.known is not None and np.array_equal(wide.known, expected)
    assert np.isfinite(wide.picture.color).all()


def test_reducing_keeps_rays() -> None:
    photo = reduced(ray_photo(np.eye(4), pinhole(300.0, 211, 160), 301, 403), 100)
    assert photo.size == (75, 100)
    assert np.abs(photo.picture.color - rays(photo.intrinsics, 75, 100)).max() < 2e-3


@pytest.mark.parametrize("offset", [(0.0, 0.0), (1.2, -0.7)])
def test_the_square_touches_the_sphere(offset: tuple[float, float]) -> None:
    center = np.array([*offset, 5.0])
    square = square_around(center, 0.8, np.eye(4), 0.0)
    assert square is not None
    directions = np.random.default_rng(0).normal(size=(200_000, 3))
    points = center + 0.8 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    seen = points[:, :2] / points[:, 2:]
    low, high = seen.min(axis=0), seen.max(axis=0)
    assert np.allclose(square[:2], (low + high) / 2, atol=1e-3)
    assert np.isclose(square[2], (high - low).max(), rtol=2e-3)
    matrix = square_intrinsics(square, 64)
    pixels = seen * matrix[0, 0] + matrix[:2, 2]
    assert pixels.min() > -0.1 and pixels.max() < 64.1


def test_a_sphere_behind_the_camera_has_no_square() -> None:
    assert square_around(np.array([0, 0, -5.0]), 0.8, np.eye(4), 0.0) is None


def test_portrait_landscape_crops_and_several_cameras_become_views_of_one_shape() -> None:
    lenses = [(700, 520, 900.0), (520, 700, 900.0), (600, 600, 1500.0), (400, 640, 700.0), (640, 480, 800.0)]
    photos = [
        ray_photo(pose, pinhole(focal, width / 2 + 20, height / 2 - 9), height, width)
        for pose, (height, width, focal) in zip(POSES, lenses, strict=False)
    ]
    found = framed(shots(photos), "", "x", Wishes(sphere=(0.0, 0.0, 0.0, 1.0), size=40))
    assert found.images.shape == (5, 40, 40, 3) and found.size == 40
    for image, matrix, i in zip(found.images, found.intrinsics, range(5), strict=True):
        known = np.ones((40, 40), bool) if found.known is None else found.known[i]
        assert known.mean() > 0.4
        assert np.abs(image - rays(matrix, 40, 40))[known].max() < 2e-3
        # The sphere from distance 4, with the margin of a background.
        assert np.isclose(matrix[0, 0], 40 / (2 * np.tan(np.arcsin(1 / 4)) * 1.15))


def test_small_photographs_of_one_size_stay_as_they_are() -> None:
    photos = [ray_photo(pose, pinhole(60.0, 24, 16), 32, 48) for pose in POSES]
    found = framed(shots(photos), "", "x", Wishes(sphere=(0.0, 0.0, 0.0, 1.0)))
    assert found.size is None and np.array_equal(found.images, np.stack([p.picture.color for p in photos]))
    squares = [ray_photo(pose, pinhole(60.0, 24, 16), 32, 32) for pose in POSES]
    same = framed(shots(squares), "", "x", Wishes(sphere=(0.0, 0.0, 0.0, 1.0), size=32))
    assert same.size is None and np.array_equal(same.images[0], squares[0].picture.color)
    other = framed(shots(squares), "", "x", Wishes(sphere=(0.0, 0.0, 0.0, 1.0), size=24))
    assert other.size == 24


@pytest.mark.parametrize(("focal", "size"), [(400.0, 236), (2000.0, 512), (20.0, 16)])
def test_the_size_is_what_the_photographs_resolve(focal: float, size: int) -> None:
    photos = [ray_photo(pose, pinhole(focal, 300, 300), 600, 600) for pose in POSES]
    found = framed(shots(photos), "", "x", Wishes(sphere=(0.0, 0.0, 0.0, 1.0)))
    assert found.size == size and found.images.shape[1:3] == (size, size)


def test_masks_are_averaged_and_leave_no_margin() -> None:
    matrix = pinhole(600.0, 300, 260)
    rows, columns = np.mgrid[:520, :600] + 0.5
    disc = np.hypot(columns - 300, rows - 260) < 600 * np.tan(np.arcsin(0.8 / 4))
    photos = [ray_photo(pose, matrix, 520, 600, mask=disc) for pose in POSES]
    found = framed(shots(photos), "", "x", Wishes(size=64))
    assert found.framed_by == "masks" and found.masks is not None
    radius = np.cbrt(np.linalg.det(found.world_from_unit[:3, :3]))
    assert 0.8 < radius < 1.1
    expected = np.hypot(*(np.mgrid[:64, :64] + 0.5 - 32)) < 32 * np.tan(np.arcsin(0.2)) / np.tan(np.arcsin(radius / 4))
    assert (found.masks[0] == expected).mean() > 0.97


def test_views_that_show_nothing_of_the_sphere_are_left_out_with_their_points() -> None:
    photos = [ray_photo(pose, pinhole(600.0, 300, 300), 600, 600) for pose in POSES]
    away = photos[2].pose.copy()
    away[:3, :3] = away[:3, :3] @ np.diag([-1.0, 1, -1])
    photos[2] = photos[2]._replace(pose=away)
    places = np.array([[0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3]])
    points = Points(places, np.array([[0, 0], [0, 2], [1, 2], [2, 3], [2, 5]]))
    found = framed(shots(photos), "", "x", Wishes(sphere=(0.0, 0.0, 0.0, 2.0), size=32), points)
    assert found.shown == [0, 1, 3, 4, 5]
    assert found.notes == ["x: 2.png: shows nothing of the unit sphere: left out"]
    views = found.views({})
    assert views.points is not None and np.allclose(views.points, places[[0, 2]] / 2)
    assert views.observations is not None and views.observations.tolist() == [[0, 0], [1, 2], [1, 4]]


@pytest.mark.parametrize(
    ("sphere", "message"),
    [
        ((50.0, 0.0, 0.0, 1.0), "x: the unit sphere lies outside all pictures"),
        (
            (0.0, 0.0, 0.0, 4.5),
            r"image \d.png: the camera is 4 from the centre of '--sphere', inside its radius",
        ),
    ],
)
def test_spheres_that_cannot_be(sphere: tuple[float, float, float, float], message: str) -> None:
    photos = [ray_photo(pose, pinhole(600.0, 300, 300), 600, 600) for pose in POSES]
    with pytest.raises(ReconError, match=message):
        framed(shots(photos), "", "x", Wishes(sphere=sphere))


def turntable(count: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses around a ball with a pattern, seen by a camera that stands before a still wall; and pictures of it."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    eyes = 4 * np.stack([np.cos(angles), np.sin(angles), np.zeros(count)], axis=1)
    poses = look_at(eyes, np.zeros(3), np.array([0, 0, 1.0]))
    matrix = pinhole(80.0, 32, 32)
    wall = np.random.default_rng(0).uniform(0.1, 0.5, (64, 64, 3)).astype(np.float32)
    rows, columns = np.mgrid[:64, :64] + 0.5
    inside = np.hypot(columns - 32, rows - 32) < 80 * np.tan(np.arcsin(0.8 / 4))
    stripes = 0.5 + 0.4 * np.sin(columns / 3 + 2 * np.arange(count)[:, None, None])
    images = np.where(inside[..., None], stripes[..., None], wall).astype(np.float32)
    return poses, np.tile(matrix, (count, 1, 1)), images


def test_what_moves_before_a_still_background_is_the_object() -> None:
    poses, matrices, images = turntable()
    frame = frame_from_still(poses, matrices, images, None, "x")
    assert frame is not None and np.allclose(frame[:3, 3], 0, atol=0.1)
    assert 0.8 < frame[0, 0] < 1.4
    assert masks_from_still(np.random.default_rng(1).random((8, 16, 16, 3)).astype(np.float32)) is None
    assert masks_from_still(np.ones((8, 16, 16, 3), np.float32)) is None
    photos = [Photo(Picture(image, None), None, pose, matrices[0]) for image, pose in zip(images, poses, strict=True)]
    assert framed(shots(photos), "", "x").framed_by == "still background"


def test_every_nth_view_is_held_out_in_the_same_frame() -> None:
    photos = [ray_photo(pose, pinhole(60.0, 24, 24), 48, 48) for pose in even_sphere(7, 4.0)]
    photos[2].picture.color[0, 0] = 9  # the brightest is held out
    points = Points(np.array([[0.1, 0, 0], [0, 0.2, 0]]), np.array([[0, 2], [1, 2], [1, 4]]))
    views: Views = framed(shots(photos), "", "x", Wishes(sphere=(0.0, 0.0, 0.0, 1.0)), points).views({"set": "a"})
    fitted, held = split(views, 3, Path("x"))
    assert len(fitted) == 5 and len(held) == 2
    assert fitted.metadata["set"] == "a" and held.metadata["set"] == "a_held_out"
    assert fitted.images.max() == pytest.approx(1) and held.radiance_scale == fitted.radiance_scale
    assert np.allclose(held.images * held.radiance_scale, views.images[[2, 5]] * views.radiance_scale, rtol=1e-5)
    assert np.array_equal(held.world_from_unit, fitted.world_from_unit)
    assert fitted.points is not None and np.allclose(fitted.points, [[0, 0.2, 0]])
    assert held.observations is not None and held.observations.tolist() == [[0, 0], [1, 0]]
    with pytest.raises(ReconError, match="x: '--hold-out' 8 holds no view back: there are 7 views"):
        split(views, 8, Path("x"))
    black = replace(views, images=np.zeros_like(views.images))
    assert split(black, 3, Path("x"))[0].radiance_scale == views.radiance_scale


def test_large_photographs_are_read_one_at_a_time(tmp_path: Path) -> None:
    imageio.imwrite(tmp_path / "a.png", np.zeros((600, 600, 3), np.uint8))
    alive: list[int] = []

    class Counted(np.ndarray):
        def __array_finalize__(self, other: object) -> None:
            if self.shape == (600, 600, 3):
                alive.append(1)

        def __del__(self) -> None:
            if self.shape == (600, 600, 3):
                alive.append(-1)

    most = 0

    def read(pose: np.ndarray) -> Photo:
        nonlocal most
        most = max(most, sum(alive))
        photo = ray_photo(pose, pinhole(600.0, 300, 300), 600, 600)
        return photo._replace(picture=photo.picture._replace(color=photo.picture.color.view(Counted)))

    made = [Shot(tmp_path / "a.png", str(i), lambda pose=pose: read(pose)) for i, pose in enumerate(POSES)]
    framed(made, "", "x", Wishes(sphere=(0.0, 0.0, 0.0, 1.0), size=32))
    assert most <= 2  # the one that is being worked on, and the last

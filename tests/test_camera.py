"""Pinhole cameras: projection by hand, crops as slices, poses that look where they shall."""

import numpy as np
import pytest
import torch

from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.views import Views


def cameras(n: int = 4) -> Cameras:
    eyes = 2.5 * np.random.default_rng(0).normal(size=(n, 3))
    eyes = 2.5 * eyes / np.linalg.norm(eyes, axis=1, keepdims=True)
    poses = look_at(eyes, np.array([0.1, 0, 0]), np.array([0.0, 0, 1]))
    matrix = intrinsics_from_fov(49.0, 40, 60)
    matrix[0, 2] += 3.3  # off-centre
    return Cameras(torch.tensor(poses), torch.tensor(matrix).expand(n, 3, 3).clone(), 40, 60)


POINTS = torch.tensor(np.random.default_rng(1).normal(size=(20, 3)) * 0.4)


def test_projection_of_a_point_straight_ahead_and_of_one_aside() -> None:
    matrix = torch.tensor([[[50.0, 0, 30], [0, 50, 20], [0, 0, 1]]], dtype=torch.float64)
    view = Cameras(torch.eye(4, dtype=torch.float64)[None], matrix, 40, 60)
    points = torch.tensor([[0.0, 0, 2], [1, 0, 2], [0, 1, 5]], dtype=torch.float64)
    expected = torch.tensor([[[30.0, 20, 2], [55, 20, 2], [30, 30, 5]]], dtype=torch.float64)
    assert torch.equal(view.project(points), expected)


def test_looking_at_a_target_puts_it_in_the_centre_and_up_at_the_top() -> None:
    eyes = np.array([[3.0, 0, 1], [0, -2, 0.5]])
    poses = look_at(eyes, np.zeros(3), np.array([0.0, 0, 1]))
    assert np.allclose(poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.eye(3))
    assert np.allclose(np.linalg.det(poses[:, :3, :3]), 1)
    assert poses.shape == (2, 4, 4) and np.array_equal(poses[:, 3], [[0, 0, 0, 1]] * 2)
    matrix = torch.tensor(intrinsics_from_fov(49.0, 40, 60)).expand(2, 3, 3).clone()
    view = Cameras(torch.tensor(poses), matrix, 40, 60)
    pixels = view.project(torch.tensor([[0.0, 0, 0], [0, 0, 0.5]], dtype=torch.float64))
    assert torch.allclose(pixels[:, 0, :2], torch.tensor([30.0, 20], dtype=torch.float64))
    assert torch.allclose(pixels[:, 1, 0], torch.tensor(30.0, dtype=torch.float64))
    assert (pixels[:, 1, 1] < 20).all()


def test_field_of_view_spans_the_width() -> None:
    matrix = intrinsics_from_fov(90.0, 100, 200)
    assert np.allclose(matrix, [[100, 0, 100], [0, 100, 50], [0, 0, 1]])


def test_a_crop_is_a_slice_of_the_projection() -> None:
    whole = cameras()
    offsets = torch.tensor([[0, 0], [3, 7], [11, 2], [-1, -1]])
    crop = whole.cropped(offsets, 16, 24)
    moved = whole.project(POINTS)
    moved[..., :2] -= offsets.flip(1)[:, None]
    assert torch.allclose(crop.project(POINTS), moved, atol=1e-12)
    assert (crop.height, crop.width) == (16, 24)
    assert torch.equal(crop.centers, whole.centers)


def test_scaling_multiplies_pixels_and_keeps_depth() -> None:
    fine = cameras().scaled(3)
    assert (fine.height, fine.width) == (120, 180)
    factor = torch.tensor([3.0, 3, 1], dtype=torch.float64)
    assert torch.allclose(fine.project(POINTS), cameras().project(POINTS) * factor)


@pytest.mark.parametrize("index", [slice(1, 3), [1, 2], torch.tensor([1, 2])])
def test_indexing_keeps_the_views(index: slice | list[int] | torch.Tensor) -> None:
    some = cameras()[index]
    assert len(some) == 2
    assert torch.equal(some.project(POINTS), cameras().project(POINTS)[1:3])


def views(**lights: np.ndarray) -> Views:
    some = cameras(3)
    poses, intrinsics = some.camera_to_world.numpy(), some.intrinsics.numpy()
    return Views(np.zeros((3, 40, 60, 3), dtype=np.float32), poses, intrinsics, **lights)


PLACES = np.array([[1.0, 2, 3], [4, 5, 6], [0.6, 0, 0.8]])


@pytest.mark.parametrize(
    ("lights", "expected"),
    [
        ({}, None),
        ({"light_position": PLACES}, np.column_stack([PLACES, np.ones(3)])),
        ({"light_direction": PLACES}, np.column_stack([PLACES, np.zeros(3)])),
    ],
)
def test_the_cameras_of_a_viewpoint_set(lights: dict[str, np.ndarray], expected: np.ndarray | None) -> None:
    """And these cameras in another dtype, and some of them, with their lights."""
    single = Cameras.from_views(views(**lights))
    double = Cameras.from_views(views(**lights), torch.float64)
    assert (single.height, single.width) == (40, 60)
    for given, dtype in ((single, torch.float32), (double, torch.float64), (single.to(torch.float64), torch.float64)):
        assert given.camera_to_world.dtype == given.intrinsics.dtype == dtype
        pixels = cameras(3).project(POINTS).to(dtype)
        torch.testing.assert_close(given.project(POINTS.to(dtype)), pixels, atol=1e-4, rtol=1e-4)
        if expected is None:
            assert given.lights is None and given[[2, 0]].lights is None
        else:
            assert given.lights is not None and given.lights.dtype == dtype
            torch.testing.assert_close(given.lights, torch.tensor(expected, dtype=dtype), atol=1e-6, rtol=0)
            assert torch.equal(given[[2, 0]].lights, given.lights[[2, 0]])


def test_a_margin_moves_pixels_and_nothing_else() -> None:
    padded = cameras().padded(3)
    assert (padded.height, padded.width) == (46, 66)
    moved = cameras().project(POINTS) + torch.tensor([3.0, 3, 0], dtype=torch.float64)
    torch.testing.assert_close(padded.project(POINTS), moved)
    torch.testing.assert_close(cameras().cropped(torch.full((4, 2), -3), 46, 66).project(POINTS), moved)


def test_offsets_in_the_world_to_homogeneous_pixels() -> None:
    some = cameras()
    offsets = POINTS - some.centers[:, None]
    pixels = torch.einsum("nij,nvj->nvi", some.world_to_image, offsets)
    expected = some.project(POINTS)
    torch.testing.assert_close(pixels[..., 2], expected[..., 2])
    torch.testing.assert_close(pixels[..., :2] / pixels[..., 2:], expected[..., :2])


def test_other_cameras_leave_these_as_they_are() -> None:
    some, before = cameras(), cameras()
    assert len(some.scaled(2)) == len(some.padded(1)) == len(some.cropped(torch.ones(4, 2, dtype=torch.long), 3, 3))
    assert torch.equal(some.intrinsics, before.intrinsics)
    assert (some.height, some.width) == (before.height, before.width)

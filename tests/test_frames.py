"""Similarities between frames, and what they carry."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon.frames import frame_rotation, frame_scale, moved, moved_poses

TURN = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()


def similarity(scale: float = 0.25) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * TURN, [3, -2, 1]
    return matrix


@pytest.mark.parametrize("scale", [1e-6, 0.25, 1.0, 3e5])
def test_scale_and_rotation_are_those_that_the_frame_was_made_of(scale: float) -> None:
    assert frame_scale(similarity(scale)) == pytest.approx(scale, rel=1e-14)
    np.testing.assert_allclose(frame_rotation(similarity(scale)), TURN, atol=1e-14)


def test_a_mirror_has_a_negative_scale_and_a_plane_none() -> None:
    assert frame_scale(np.diag([-2.0, 2, 2, 1])) == pytest.approx(-2)
    assert frame_scale(np.diag([0.0, 2, 2, 1])) == 0


def test_moved_poses_are_rigid_and_see_the_moved_points_at_the_same_place() -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, :3] = Rotation.random(3, random_state=0).as_matrix()
    random = np.random.default_rng(0)
    poses[:, :3, 3] = random.normal(size=(3, 3))
    carried = moved_poses(poses, similarity())
    np.testing.assert_allclose(
        carried[:, :3, :3] @ carried[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (3, 1, 1)), atol=1e-14
    )
    np.testing.assert_array_equal(carried[:, 3], poses[:, 3])
    points = random.normal(size=(5, 3))
    for pose, other in zip(poses, carried, strict=True):
        seen = moved(points, np.linalg.inv(pose))
        np.testing.assert_allclose(moved(moved(points, similarity()), np.linalg.inv(other)), 0.25 * seen, atol=1e-14)


def test_moving_poses_leaves_the_given_ones_as_they_are() -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    moved_poses(poses, similarity())
    np.testing.assert_array_equal(poses, np.tile(np.eye(4), (2, 1, 1)))

"""Up, by how a camera was held."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon.camera import look_at
from recon.capture.upright import as_held, upright
from recon.images.encoding import turned

UP = np.array([0.0, 0, 1])


def held(elevation: float, reach: float = 360.0, count: int = 12, roll: float = 0.0) -> np.ndarray:
    """Rotations of cameras on an arc at an elevation, level but for a random roll (degrees)."""
    azimuth = np.radians(np.linspace(0, reach, count, endpoint=False))
    high, level = np.sin(np.radians(elevation)), np.cos(np.radians(elevation))
    eyes = 3 * np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.full(count, high)], axis=1)
    tilts = np.random.default_rng(0).normal(scale=max(roll, 1e-9), size=count)
    return (
        look_at(eyes, np.zeros(3), UP)[:, :3, :3] @ Rotation.from_euler("z", tilts[:, None], degrees=True).as_matrix()
    )


@pytest.mark.parametrize("elevation", [-30.0, 0.0, 35.0, 60.0])
@pytest.mark.parametrize("reach", [60.0, 180.0, 360.0])
def test_level_cameras_tell_it_from_any_side_and_height(elevation: float, reach: float) -> None:
    world = Rotation.from_euler("xyz", [70, 20, -110], degrees=True).as_matrix()
    found = upright(world @ held(elevation, reach))
    assert found is not None
    np.testing.assert_allclose(found @ world @ UP, UP, atol=1e-6)
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-9)


def test_a_hand_that_is_not_steady_leaves_a_few_degrees() -> None:
    found = upright(held(30.0, roll=5.0))
    assert found is not None and (found @ UP)[2] > np.cos(np.radians(5))


def test_cameras_that_all_look_one_way_have_their_tops_up() -> None:
    found = upright(held(40.0, reach=1e-3))
    assert found is not None
    np.testing.assert_allclose((found @ UP)[2], np.cos(np.radians(40)), atol=1e-3)  # they look down by as much


def test_pictures_of_both_formats_have_the_mean_of_their_tops() -> None:
    turned = held(20.0)
    turned[::3] = turned[::3] @ Rotation.from_euler("z", 90, degrees=True).as_matrix()
    found = upright(turned)
    assert found is not None and (found @ UP)[2] > 0.9


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_s_axes_are_those_of_its_picture_as_turned_by_exif(orientation: int) -> None:
    """The stored row and column of what is right of and below the middle, once the picture is upright."""
    stored = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij"), axis=2) - 1
    seen = turned(stored, orientation)
    axes = as_held(np.eye(3), orientation)
    np.testing.assert_array_equal(axes[:2, 0][::-1], seen[1, 2])
    np.testing.assert_array_equal(axes[:2, 1][::-1], seen[2, 1])
    np.testing.assert_array_equal(axes[:, 2], [0, 0, 1])


def test_a_telephone_held_upright_stores_its_top_at_the_left() -> None:
    """Orientation 6: to be turned clockwise."""
    np.testing.assert_array_equal(as_held(np.eye(3), 6), [[0, 1, 0], [-1, 0, 0], [0, 0, 1]])


def test_what_exif_does_not_say_is_as_stored() -> None:
    np.testing.assert_array_equal(as_held(np.eye(3), 0), np.eye(3))


def test_pictures_held_in_all_ways_tell_nothing() -> None:
    assert upright(Rotation.random(400, random_state=0).as_matrix()) is None

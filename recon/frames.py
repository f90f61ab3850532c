"""Similarities between frames of coordinates, and what they carry: points and cameras' poses.

A similarity is a 4x4 matrix on homogeneous points: its upper 3x3 block is a rotation times one positive scale, its last
column the shift. `world_from_unit` is one, from the unit frame to the source's frame.
"""

import numpy as np
from jaxtyping import Float, Float64


def frame_scale(similarity: Float[np.ndarray, "4 4"]) -> float:
    """How long a unit of the frame that a similarity starts from is in the one that it leads to: the cube root of the
    determinant of its upper block. Negative where the map mirrors, and 0 where it flattens."""
    return float(np.cbrt(np.linalg.det(similarity[:3, :3])))


def frame_rotation(similarity: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3 3"]:
    """The rotation of a similarity: what turns directions of the one frame into those of the other."""
    return similarity[:3, :3] / frame_scale(similarity)


def moved(points: Float[np.ndarray, "m 3"], transform: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "m 3"]:
    """The points carried by an affine map, in double precision."""
    return points.astype(np.float64) @ transform[:3, :3].T + transform[:3, 3]


def moved_poses(
    camera_to_world: Float64[np.ndarray, "n 4 4"], similarity: Float64[np.ndarray, "4 4"]
) -> Float64[np.ndarray, "n 4 4"]:
    """Cameras' poses carried by a similarity, and rigid again: centres move with all else, and the camera's own frame
    takes the other frame's unit of length."""
    poses = similarity @ camera_to_world
    poses[:, :3, :3] /= frame_scale(similarity)
    return poses

"""Which way is up, by how a camera was held: what structure from motion does not know."""

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from recon.images.encoding import turned

AGREED = 0.3
"""Length of the mean of the directions to which the pictures' tops point, below which there is no common one."""

LEVEL, AROUND = 0.1, 0.01
"""How much less the rows of the pictures reach along the vertical than along the least direction across it, and how far
they must reach along that, as mean squares: a hand that is not steady leaves as much."""


def as_held(rotation: Float64[np.ndarray, "3 3"], orientation: int) -> Float64[np.ndarray, "3 3"]:
    """The axes of a camera, to the world, as it was held; `rotation` has those of its picture as it is stored, and
    `orientation` is what EXIF says of that."""
    # Rows and columns from the middle to a pixel beside it, as they are stored: of one to the right, and of one below.
    offsets = turned(np.moveaxis(np.indices((3, 3)) - 1, 0, 2), orientation)
    right, down = (rotation[:, :2] @ offset[::-1] for offset in (offsets[1, 2], offsets[2, 1]))
    return np.stack([right, down, rotation[:, 2]], axis=1)


def upright(rotations: Float64[np.ndarray, "n 3 3"]) -> Float64[np.ndarray, "3 3"] | None:
    """A rotation of the world after which z is up; None where pictures were held in all ways.

    Whoever walks around an object holds the camera level, wherever it looks: up is across the rows of all pictures.
    Where these are parallel, or pictures of both formats are mixed, it is the mean direction to their tops.

    Args:
        rotations: of the cameras as they were held, to the world; their axes are OpenCV's (x to the right, y down).
    """
    tops = -rotations[:, :, 1].mean(axis=0)
    if np.linalg.norm(tops) < AGREED:
        return None
    rows = rotations[:, :, 0]
    spread, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    up = tops
    if spread[0] < LEVEL * spread[1] and spread[1] > AROUND:
        up = directions[:, 0] * np.sign(directions[:, 0] @ tops)
    return Rotation.align_vectors([[0.0, 0.0, 1.0]], [up / np.linalg.norm(up)])[0].as_matrix()

"""The unit sphere in the pictures, and the points of structure from motion inside and outside."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from recon.views import Views

MANY = 4
"""Views that see a point which is hardly an error."""


def outline(
    pose: Float[np.ndarray, "4 4"], matrix: Float[np.ndarray, "3 3"], count: int = 90
) -> Float[np.ndarray, "k 2"] | None:
    """The outline of the unit sphere in a camera's picture, in pixels; None where the camera is inside, or sees a part
    of the sphere behind itself.

    From distance d the outline is the circle of radius √(1 - 1/d²) about 1/d of the way to the camera, across it.
    """
    center = pose[:3, 3]
    distance = float(np.linalg.norm(center))
    if distance <= 1:
        return None
    towards = center / distance
    across = np.linalg.svd(towards[None])[2][1:]
    angles = np.linspace(0, 2 * np.pi, count)
    circle = np.sqrt(1 - 1 / distance**2) * (np.cos(angles)[:, None] * across[0] + np.sin(angles)[:, None] * across[1])
    local = (towards / distance + circle - center) @ pose[:3, :3] @ matrix.T
    return local[:, :2] / local[:, 2:] if (local[:, 2] > 0).all() else None


def covered(
    pose: Float[np.ndarray, "4 4"], matrix: Float[np.ndarray, "3 3"], height: int, width: int
) -> Bool[np.ndarray, "h w"]:
    """The pixels whose rays meet the unit sphere: whatever is the object shows there, and other things may, too."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=2) @ np.linalg.inv(matrix).T @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    center = pose[:3, 3]
    along = rays @ center  # below 0 where the sphere's middle is ahead
    squared = center @ center
    return (squared <= 1) | ((squared - along**2 < 1) & (along < 0))


class Outside(NamedTuple):
    """How many points there are and lie outside the unit sphere: of all, and of those that `MANY` views see."""

    all: int
    outside: int
    many: int
    many_outside: int


def points_outside(views: Views) -> Outside | None:
    """None where the set has no points."""
    if views.points is None or views.observations is None:
        return None
    out = np.linalg.norm(views.points, axis=1) > 1
    many = np.bincount(views.observations[:, 0], minlength=len(out)) >= MANY
    return Outside(len(out), int(out.sum()), int(many.sum()), int((out & many).sum()))

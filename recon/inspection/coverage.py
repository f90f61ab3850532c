"""Which parts of the object how many views see, as far as masks and frusta tell.

The object stands for a surface around the origin: in each direction it reaches as far as the masks'
common volume does, and without masks as far as the unit sphere. What hides behind other parts of the
object cannot be told from that.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from recon.views import Views

ROWS, COLUMNS = 60, 120
"""Cells of the map in latitude and longitude."""

RADII = np.linspace(0.05, 1.0, 20)
"""How far the object may reach."""

GRAZING = np.cos(np.radians(80))
"""Least cosine at which a surface counts as seen."""

CARVING_VIEWS = 48
"""Views whose masks are looked at, evenly spread."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """A map in latitude (from -90 degrees) and longitude (from -180 degrees) of the unit sphere's directions.

    Attributes:
        directions: unit vectors at the cells' centres.
        radius: how far the object reaches there.
        seen: how many views see it there.
    """

    directions: Float[np.ndarray, "r c 3"]
    radius: Float[np.ndarray, "r c"]
    seen: Int[np.ndarray, "r c"]

    def share(self, fewest: int, most: int | None = None) -> float:
        """The part of the sphere's area that at least `fewest` and at most `most` views see."""
        weight = np.sqrt(1 - self.directions[..., 2] ** 2)
        chosen = (self.seen >= fewest) & (self.seen <= (self.seen.max() if most is None else most))
        return float((weight * chosen).sum() / weight.sum())

    def unseen_center(self) -> tuple[float, float]:
        """Azimuth and elevation in degrees of the middle of what fewer than two views see."""
        weight = np.sqrt(1 - self.directions[..., 2] ** 2) * (self.seen < 2)
        x, y, z = (weight[..., None] * self.directions).sum(axis=(0, 1))
        return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def coverage(views: Views) -> Coverage:
    """How many views see each part of the object."""
    latitude = np.radians((np.arange(ROWS) + 0.5) * 180 / ROWS - 90)[:, None]
    longitude = np.radians((np.arange(COLUMNS) + 0.5) * 360 / COLUMNS - 180)[None, :]
    level = np.cos(latitude)
    directions = np.stack(
        [level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude) + 0 * longitude], axis=-1
    )
    flat = directions.reshape(-1, 3)
    radius = np.ones(len(flat)) if views.masks is None else _reach(views, flat)
    points = radius[:, None] * flat
    seen = np.zeros(len(flat), int)
    for poses, matrix, count in distinct_cameras(views):
        to_camera = poses[:3, 3] - points
        facing = (to_camera * flat).sum(axis=1) > GRAZING * np.linalg.norm(to_camera, axis=1)
        _, _, inside = _pixels(points, poses, matrix, views.height, views.width)
        seen += count * (facing & inside)
    shape = ROWS, COLUMNS
    return Coverage(directions, radius.reshape(shape), seen.reshape(shape))


def _reach(views: Views, directions: Float[np.ndarray, "d 3"]) -> Float[np.ndarray, " d"]:
    """How far from the origin every view that looks there shows the object."""
    assert views.masks is not None
    points = (RADII[:, None, None] * directions).reshape(-1, 3)
    kept = np.ones(len(points), bool)
    chosen = np.flatnonzero(views.masks.any(axis=(1, 2)))
    for i in (
        chosen[np.unique(np.linspace(0, len(chosen) - 1, CARVING_VIEWS).round().astype(int))] if len(chosen) else ()
    ):
        alive = np.flatnonzero(kept)
        matrix, pose = views.intrinsics[i], views.camera_to_world[i]
        row, column, inside = _pixels(points[alive], pose, matrix, views.height, views.width)
        kept[alive] = ~inside | (views.masks[i, row, column] > 0)
    reached = RADII[:, None] * kept.reshape(len(RADII), -1)
    return reached.max(axis=0).clip(min=RADII[0])


def distinct_cameras(
    views: Views,
) -> list[tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"], int]]:
    """Each camera with the number of its images: under several lights one stands for many."""
    rows = np.concatenate([views.camera_to_world.reshape(-1, 16), views.intrinsics.reshape(-1, 9)], axis=1)
    _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
    return [(views.camera_to_world[i], views.intrinsics[i], int(n)) for i, n in zip(first, counts, strict=True)]


def _pixels(
    points: Float[np.ndarray, "p 3"],
    pose: Float[np.ndarray, "4 4"],
    matrix: Float[np.ndarray, "3 3"],
    height: int,
    width: int,
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
    """Row and column of points in a picture, and whether they are in it; 0 where they are not."""
    local = (points - pose[:3, 3]) @ pose[:3, :3] @ matrix.T
    ahead = local[:, 2] > 1e-6
    place = local[:, :2] / np.where(ahead, local[:, 2], 1)[:, None]
    inside = ahead & (place >= 0).all(axis=1) & (place < [width, height]).all(axis=1)
    column, row = np.where(inside[:, None], place, 0).astype(int).T
    return row, column, inside

"""Light from all sides: equirectangular pictures of linear radiance, and directions drawn from them.

The world has z up, as scenes have it and Blender has: the top of the picture is +z, its middle is what one sees along
+x, and to the right of that comes -y. Blender's environment texture puts a picture in the same place.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.stats import qmc

from recon.errors import ReconError
from recon.images.photograph import read_picture

SUFFIXES = (".hdr", ".exr")
"""Of pictures that hold radiance, however bright."""


class Sample(NamedTuple):
    """Directions of an environment that together stand for all of it.

    directions: unit, in the world, to where the light comes from. irradiance: that each brings to a surface which
    faces it. Sums over the samples of irradiance times any function are, on average, integrals over the sphere of
    radiance times that function.
    """

    directions: Float[np.ndarray, "s 3"]
    irradiance: Float[np.ndarray, "s 3"]


@dataclass(frozen=True, eq=False)
class EnvironmentMap:
    """Linear radiance by direction; each pixel has one radiance over all its solid angle."""

    radiance: Float32[np.ndarray, "h w 3"]

    @property
    def mean(self) -> float:
        """The mean radiance over all directions and channels."""
        return float((self.radiance.mean(axis=(1, 2), dtype=np.float64) * self._solid_angles).sum() / 2)

    @property
    def _solid_angles(self) -> Float[np.ndarray, " h"]:
        """Of each row, over 2 pi: differences of the height z on the sphere (Archimedes)."""
        return -np.diff(np.cos(np.linspace(0, np.pi, len(self.radiance) + 1)))

    def sample(self, count: int, seed: int = 0) -> Sample:
        """Directions drawn in proportion to the radiance of pixels times their solid angles.

        A row is drawn, then a pixel of the row (Pharr, Jakob, Humphreys: Physically Based Rendering, 14.2.4), then a
        direction in the pixel, evenly; by a scrambled Sobol sequence, which covers the picture more evenly than
        chance.

        Args:
            count: of directions; powers of two are covered best.
            seed: of the scrambling: the same seed gives the same directions.
        """
        height, width, _ = self.radiance.shape
        brightness = self.radiance.mean(axis=2, dtype=np.float64)
        weights = brightness * self._solid_angles[:, None]
        total = weights.sum()
        points = qmc.Sobol(2, seed=seed).random_base2(int(np.ceil(np.log2(count))))[:count]
        row, down = _invert(weights.sum(axis=1)[None], np.zeros(count, int), points[:, 0])
        column, right = _invert(weights, row, points[:, 1])
        edges = np.cos(np.linspace(0, np.pi, height + 1))
        z = edges[row] + down * (edges[row + 1] - edges[row])
        azimuth = np.pi - 2 * np.pi * (column + right) / width
        level = np.sqrt(np.maximum(1 - z * z, 0))
        directions = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), z], axis=1)
        # Radiance over probability: the probability per solid angle is brightness / total, in units of 2 pi / width.
        colors = self.radiance[row, column] / brightness[row, column][:, None]
        return Sample(directions, colors * (total * 2 * np.pi / width / count))

    def seen(self, directions: Float[np.ndarray, "*batch 3"]) -> Float32[np.ndarray, "*batch 3"]:
        """The radiance in unit directions of the world, bilinear between the centres of pixels."""
        height, width, _ = self.radiance.shape
        azimuth = np.arctan2(directions[..., 1], directions[..., 0])
        x = (np.pi - azimuth) / (2 * np.pi) * width - 0.5
        y = np.arccos(directions[..., 2].clip(-1, 1)) / np.pi * height - 0.5
        left, above = np.floor(x).astype(int), np.floor(y).astype(int)
        right, below = (x - left)[..., None], (y - above)[..., None]
        rows = [(above + i).clip(0, height - 1) for i in (0, 1)]
        columns = [(left + i) % width for i in (0, 1)]
        upper, lower = (
            (1 - right) * self.radiance[row, columns[0]] + right * self.radiance[row, columns[1]] for row in rows
        )
        return ((1 - below) * upper + below * lower).astype(np.float32)


def read_environment_map(path: Path) -> EnvironmentMap:
    """The environment in a picture; what is negative there, as filters leave it, is black.

    Raises:
        ReconError: no .hdr or .exr, unreadable, not twice as wide as high, or black all over.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ReconError(f"{path}: not an environment: expected linear radiance, as .hdr or .exr hold it")
    color = read_picture(path).color
    height, width, _ = color.shape
    if width != 2 * height:
        raise ReconError(
            f"{path}: not an environment: {width}x{height} pixels; an equirectangular picture is twice as wide as high"
        )
    radiance = np.maximum(color, 0)
    if not radiance.any():
        raise ReconError(f"{path}: not an environment: black all over")
    return EnvironmentMap(radiance)


def _invert(
    weights: Float[np.ndarray, "r c"], row: Int[np.ndarray, " s"], share: Float[np.ndarray, " s"]
) -> tuple[Int[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Of rows of weights the places before which a share of the row's sum lies: index, and how far into it."""
    sums = np.pad(weights.cumsum(axis=1), ((0, 0), (1, 0)))
    index = np.empty(len(row), int)
    part = np.empty(len(row))
    for each in np.unique(row):
        here = row == each
        target = share[here] * sums[each, -1]
        # The last place whose sum is not above the target: one of weight 0 is passed over.
        found = np.searchsorted(sums[each], target, side="right") - 1
        found = np.minimum(found, weights.shape[1] - 1)
        index[here] = found
        part[here] = (target - sums[each, found]) / np.maximum(weights[each, found], np.finfo(float).tiny)
    return index, part.clip(0, np.nextafter(1, 0))

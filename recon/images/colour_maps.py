"""Numbers and directions as colours, with perceptually uniform maps."""

from math import floor, log10

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8

DIFFERENCE = "magma"
DEPTH = "viridis"

Range = tuple[float, float]


def colours(values: Float[np.ndarray, "*shape"], name: str, limits: Range) -> UInt8[np.ndarray, "*shape 3"]:
    """`values` between `limits` in matplotlib's colour map `name`; beyond them its end colours."""
    low, high = limits
    relative = (values - low) / max(high - low, np.finfo(float).tiny)
    return matplotlib.colormaps[name](relative.clip(0, 1), bytes=True)[..., :3]


def normal_colours(
    normals: Float[np.ndarray, "n h w 3"], camera_to_world: Float[np.ndarray, "n 4 4"]
) -> UInt8[np.ndarray, "n h w 3"]:
    """World normals as seen from each camera: red to the right, green up, blue towards it; none is black."""
    local = np.einsum("nij,nhwi->nhwj", camera_to_world[:, :3, :3], normals) * (1, -1, -1)
    seen = (normals != 0).any(axis=-1, keepdims=True)
    return np.where(seen, np.rint(127.5 * (local.clip(-1, 1) + 1)), 0).astype(np.uint8)


def depth_range(depth: Float[np.ndarray, "n h w"], seen: Bool[np.ndarray, "n h w"]) -> Range:
    """The nearest and the farthest depth that is seen; (0, 1) where nothing is."""
    return (float(depth[seen].min()), float(depth[seen].max())) if seen.any() else (0.0, 1.0)


def difference_range(difference: Float[np.ndarray, "*shape"]) -> Range:
    """From 0 to a round number that 99% of the differences stay below."""
    return 0.0, round_up(float(np.quantile(difference, 0.99)))


def round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten, at least 0.001, so that scales of runs mostly agree."""
    value = max(value, 1e-3)
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))

"""How bright radiance is shown, as a camera's light meter finds it."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32

from recon.camera import Cameras
from recon.relighting.picture import Studio

METERED = 8
"""Frames that the meter looks at, evenly spread over the path."""

SMALL = 96
"""Pixels along the longer side of its pictures."""

SHARE = 0.98
"""Of the object's pixels that come out darker than `BRIGHT`. What is above it is highlights, which may be white."""

BRIGHT = 0.8


def metered_gain(studio: Studio, cameras: Cameras) -> float:
    """What radiance is multiplied with before it is shown, one number for all frames of a film.

    1 where the object is black or out of sight.
    """
    chosen = np.unique(np.linspace(0, len(cameras) - 1, METERED).round().astype(int)).tolist()
    factor = min(1.0, SMALL / max(cameras.height, cameras.width))
    pictures = (studio.picture(_smaller(cameras[[i]], factor), samples=1) for i in chosen)
    level = _level(pictures)
    return BRIGHT / level if level > 0 else 1.0


def _smaller(cameras: Cameras, factor: float) -> Cameras:
    height, width = (max(1, round(factor * side)) for side in (cameras.height, cameras.width))
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, 0] *= width / cameras.width
    intrinsics[:, 1] *= height / cameras.height
    return Cameras(cameras.camera_to_world, intrinsics, height, width)


def _level(pictures: Iterable[Float32[np.ndarray, "h w 4"]]) -> float:
    """The radiance of the brightest channel that `SHARE` of the object's pixels do not reach."""
    brightest = [picture[picture[..., 3] > 0.5][:, :3].max(axis=1) for picture in pictures]
    values = np.concatenate(brightest)
    return float(np.quantile(values, SHARE)) if len(values) else 0.0

"""What can be measured of each view of a viewpoint set."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import binary_erosion

from recon.inspection.sphere import covered
from recon.views import Views

BRIGHT = 0.95
"""Quantile of the object's pixels that stands for a view's brightness: what faces the light."""

EQUAL = 1e-4
"""Share of the brightest value by which resampling, in single precision, may move what was cut off there."""


@dataclass(frozen=True, eq=False)
class Measures:
    """One value a view; the object is the whole picture where there are no masks.

    Attributes:
        distance, azimuth, elevation: of the camera from the origin of the unit frame; degrees, z is up.
        share: of the pixels that are known, those that show the object; None without masks.
        touches: whether the object reaches the border of what is known of the picture; False throughout without masks.
        inverted: whether the object is all along that border, but not everywhere; False throughout without masks.
        brightness: linear radiance that 95% of the object's pixels stay below.
        saturated: share of the object's pixels that are as bright as the brightest of the whole set; without masks, of
            those whose rays meet the unit sphere: lamps beside it may be as bright as they like.
        cut_off: how many pixels that are.
    """

    distance: Float[np.ndarray, " n"]
    azimuth: Float[np.ndarray, " n"]
    elevation: Float[np.ndarray, " n"]
    share: Float[np.ndarray, " n"] | None
    touches: Bool[np.ndarray, " n"]
    inverted: Bool[np.ndarray, " n"]
    brightness: Float[np.ndarray, " n"]
    saturated: Float[np.ndarray, " n"]
    cut_off: Int[np.ndarray, " n"]


def measure(views: Views) -> Measures:
    """The measures of every view."""
    centers = views.camera_to_world[:, :3, 3]
    distance = np.linalg.norm(centers, axis=1)
    peak = views.images.max()
    brightness, saturated, cut_off = np.zeros(len(views)), np.zeros(len(views)), np.zeros(len(views), int)
    for i in range(len(views)):
        level = object_radiance(views, i).max(axis=1)
        if len(level):
            brightness[i] = np.quantile(level, BRIGHT)
        of_object = views.images[i].max(axis=2)[likely_object(views, i)]
        cut_off[i] = (of_object >= (1 - EQUAL) * peak).sum()
        saturated[i] = cut_off[i] / max(of_object.size, 1)
    share = None
    touches: Bool[np.ndarray, " n"] = np.zeros(len(views), bool)
    inverted = touches
    if views.masks is not None:
        known = np.ones(views.masks.shape, bool) if views.known is None else views.known > 0
        share = ((views.masks > 0) & known).sum(axis=(1, 2)) / known.sum(axis=(1, 2))
        border = known & ~np.stack([binary_erosion(each, np.ones((3, 3))) for each in known])
        touches = ((views.masks > 0) & border).any(axis=(1, 2))
        inverted = ((views.masks > 0) & border).sum(axis=(1, 2)) > 0.95 * border.sum(axis=(1, 2))
    return Measures(
        distance=distance,
        azimuth=np.degrees(np.arctan2(centers[:, 1], centers[:, 0])),
        elevation=np.degrees(np.arcsin((centers[:, 2] / np.maximum(distance, 1e-12)).clip(-1, 1))),
        share=share,
        touches=touches,
        inverted=inverted,
        brightness=brightness,
        saturated=saturated,
        cut_off=cut_off,
    )


def likely_object(views: Views, view: int) -> Bool[np.ndarray, "h w"]:
    """The pixels of the object in one view, those of the unit sphere without masks, as far as they are known."""
    if views.masks is not None:
        shown = views.masks[view] > 0
    else:
        shown = covered(views.camera_to_world[view], views.intrinsics[view], views.height, views.width)
    return shown if views.known is None else shown & (views.known[view] > 0)


def object_radiance(views: Views, view: int) -> Float[np.ndarray, "p 3"]:
    """The pixels of the object in one view, all of them without masks, as far as they are known."""
    shown = np.ones(views.images.shape[1:3], bool) if views.masks is None else views.masks[view] > 0
    return views.images[view][shown if views.known is None else shown & (views.known[view] > 0)]

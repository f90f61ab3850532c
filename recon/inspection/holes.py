"""Holes in masks: background that the object encloses, as through a handle or a ring."""

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import binary_opening, label

from recon.views import Views

LEAST = 0.003
"""Share of a mask's pixels below which what it encloses is a speck."""

SEVERAL = 3
"""Views whose masks have a hole, from which on the object has one."""

EIGHT = np.ones((3, 3), bool)


def views_with_holes(views: Views) -> list[int]:
    """The views whose masks enclose background; none where these are fewer than `SEVERAL`, or there are no masks."""
    if views.masks is None:
        return []
    found = [i for i, mask in enumerate(views.masks > 0) if enclosed(mask).any()]
    return found if len(found) >= SEVERAL else []


def enclosed(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The background that the object encloses, without specks.

    Pixels of the background that share a corner are joined, and what is joined to the picture's border is outside.
    """
    parts, count = label(~mask, EIGHT)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    inner = ~np.isin(parts, np.append(edge, 0))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    large = sizes >= max(4, LEAST * mask.sum())
    # Wide enough to be looked through: a seam between two parts of a mask is not.
    open_ = np.unique(parts[binary_opening(inner, np.ones((2, 2), bool))])
    return inner & large[parts] & np.isin(parts, open_)

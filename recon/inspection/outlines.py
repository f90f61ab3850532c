"""Outlines of an object before black, which stand in for masks where the hull is asked for."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import binary_erosion, binary_fill_holes

from recon.images.black import BLACK
from recon.views import Views

FRAMED = 0.99
"""Share of the pixels at the borders of what is known of all pictures that are black where the object stands before
black."""


def outlined(views: Views) -> Views:
    """The views with masks of what is lit, where they have no masks and lie before black.

    As they are where they have masks, where nothing is lit, and where something is at the borders of the pictures. What
    is dark within counts as the object, be it a shadow or a hole.
    """
    if views.masks is not None:
        return views
    known = np.ones(views.images.shape[:3], bool) if views.known is None else views.known > 0
    lit = known & np.stack([image.max(axis=2) > BLACK for image in views.images])
    border = known & ~np.stack([binary_erosion(each, np.ones((3, 3))) for each in known])
    if not lit.any() or lit[border].mean() > 1 - FRAMED:
        return views
    return replace(views, masks=np.stack([binary_fill_holes(view) for view in lit]).astype(np.uint8) * np.uint8(255))

"""Outlines of an object before black, which are as good as masks."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import binary_fill_holes

from recon.images.black import BLACK
from recon.views import Views

FRAMED = 0.99
"""Share of the pixels at the borders of all pictures that are black where the object stands before black."""


def outlined(views: Views) -> Views:
    """The views with masks of what is lit, shadows within it too, where they have no masks and lie before black.

    As they are where they have masks, where nothing is lit, and where something is at the borders of the pictures.
    """
    if views.masks is not None:
        return views
    lit = np.stack([image.max(axis=2) > BLACK for image in views.images])
    border = np.concatenate([lit[:, [0, -1]].ravel(), lit[:, :, [0, -1]].ravel()])
    if not lit.any() or border.mean() > 1 - FRAMED:
        return views
    return replace(views, masks=np.stack([binary_fill_holes(view) for view in lit]).astype(np.uint8) * np.uint8(255))

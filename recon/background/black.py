"""What a surface without a background is compared with outside the masks: black.

A surface alone explains nothing beside the object. So with `background: none` the views of training, of its
checkpoints and of `recon validate` are blackened by this one rule, and their errors are of the same pictures.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool

from recon.images.black import BLACK
from recon.views import Views


def before_black(views: Views) -> Views:
    """The views with what lies outside their masks blackened, where it is not black already.

    Pixels at the border of a mask stay as they are before black: a mask says yes or no of them, but the
    surface covers them in part.
    """
    return blackened(views) if shows_more_than_black(views) else views


def shows_more_than_black(views: Views, radiance_scale: float | None = None) -> bool:
    """Whether the views have masks and, away from their borders, light outside them.

    `radiance_scale` is that of the model they are compared with; their own where None.
    """
    return parts_show_more_than_black([views], radiance_scale)


def parts_show_more_than_black(parts: Iterable[Views], radiance_scale: float | None = None) -> bool:
    """The same of a viewpoint set that comes in parts."""
    gain, total, count = 1.0, 0.0, 0
    # View by view: a copy of all that lies outside would be as large as the views.
    for part in parts:
        if radiance_scale is not None:
            gain = part.radiance_scale / radiance_scale
        for i, mask in enumerate(() if part.masks is None else part.masks):
            beyond = _away_from(mask)
            if part.known is not None:
                beyond &= part.known[i] > 0
            outside = part.images[i][beyond]
            total, count = total + float(outside.sum(dtype=np.float64)), count + outside.size
    return count > 0 and gain * total / count > BLACK


def blackened(views: Views) -> Views:
    """The views times their masks, which they have."""
    assert views.masks is not None
    return replace(views, images=views.images * (views.masks[..., None] / np.float32(255)))


def _away_from(mask: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """The pixels outside a mask whose neighbours are outside, too."""
    outside = torch.from_numpy(mask == 0).float()[None]
    return (-torch.nn.functional.max_pool2d(-outside, 3, stride=1, padding=1))[0].bool().numpy()

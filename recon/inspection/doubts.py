"""What makes a training on a viewpoint set doubtful from the start: what is lit otherwise than it assumes."""

from collections.abc import Iterator

import numpy as np
import torch

from recon.background.visible_cells import black_beside_sphere
from recon.camera import Cameras
from recon.config import RunConfig
from recon.inspection.coverage import coverage
from recon.inspection.findings import find_light
from recon.inspection.light import light_of
from recon.inspection.outlines import outlined
from recon.views import Views

LOOKED_AT = 12
"""Views that tell light and surroundings, evenly spread."""


def doubts(views: Views, config: RunConfig) -> list[str]:
    """A line for each; none where light and surroundings are what `config` has them be, as far as can be told.

    A training says it again to who did not read what `recon extract` and `recon inspect` said. `LOOKED_AT` of the views
    tell; all of them where points of structure from motion do, which takes a fifth of a second.
    """
    some = views.select(np.linspace(0, len(views) - 1, min(LOOKED_AT, len(views))).round().astype(int))
    return [*_of_light(views if views.points is not None else some, config), *_of_surroundings(some, config)]


def _of_light(views: Views, config: RunConfig) -> Iterator[str]:
    lit = views if views.points is not None else outlined(views)
    light = light_of(lit, coverage(lit))
    taken_care_of = {"mixed": config.light.ambient, "fixed": config.loss.silhouette > 0 and views.masks is not None}
    if not taken_care_of.get(light.kind, True):
        yield from (finding.line() for finding in find_light(light))


def _of_surroundings(views: Views, config: RunConfig) -> Iterator[str]:
    if config.background != "none" or views.masks is not None:
        return
    if not black_beside_sphere(Cameras.from_views(views), torch.from_numpy(views.images)):
        yield (
            "there are no masks and the surroundings are in view, which 'background: none' takes for the object: give "
            "masks, or '--set background=field'"
        )

"""What makes a training on a viewpoint set doubtful from the start: what is lit otherwise than it assumes."""

from collections.abc import Iterator

import torch

from recon.background.visible_cells import black_beside_sphere
from recon.camera import Cameras
from recon.config import RunConfig
from recon.inspection.coverage import coverage
from recon.inspection.findings import find_light
from recon.inspection.light import light_of
from recon.inspection.outlines import outlined
from recon.views import Views


def doubts(views: Views, config: RunConfig) -> list[str]:
    """A line for each; none where light and surroundings are what `config` has them be, as far as can be told.

    It takes a fifth of a second, so that a training says it again to who did not read what `recon extract` and
    `recon inspect` said.
    """
    return [*_of_light(views, config), *_of_surroundings(views, config)]


def _of_light(views: Views, config: RunConfig) -> Iterator[str]:
    light = light_of(views, coverage(outlined(views)))
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

"""A first guess of what images tell at once: how bright the surface is."""

import numpy as np
import torch

from recon.camera import Cameras
from recon.config import RunConfig
from recon.errors import ReconError
from recon.model.model import Model
from recon.views import Views

TYPICAL_RADIUS = 0.6
"""Distance from the origin, in the unit frame, at which the brightest points of an object lie."""


def initial_model(config: RunConfig, views: Views, device: torch.device) -> Model:
    """A model whose surface is the unit sphere and whose albedo makes it about as bright as the images.

    Raises:
        ReconError: the images are black.
    """
    torch.manual_seed(config.train.seed)
    model = Model(config, views.world_from_unit, views.radiance_scale, _brightness(views))
    model.background.confine(Cameras.from_views(views), torch.from_numpy(views.images))
    return model.to(device)


def _brightness(views: Views) -> float:
    """Albedo with which a point facing its light shows the images' bright radiance."""
    lit = views.images.max(axis=3)
    lit = lit[lit > 0.05] if views.known is None else lit[(lit > 0.05) & (views.known > 0)]
    if len(lit) == 0:
        raise ReconError("the training images are black: nothing in them is brighter than 5% of the radiance scale")
    bright = float(np.quantile(lit, 0.98))
    if views.light_direction is not None:
        return bright
    lights = views.camera_to_world[:, :3, 3] if views.light_position is None else views.light_position
    distance = np.linalg.norm(lights, axis=1).mean() - TYPICAL_RADIUS
    return bright * float(distance**2)

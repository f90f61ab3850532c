"""A first guess of what images tell at once: how bright the surface is, and of which colour."""

import numpy as np
import torch
from jaxtyping import Float32

from recon.background.background import Background
from recon.background.field import BackgroundField
from recon.background.visible_cells import black_beside_sphere
from recon.camera import Cameras
from recon.config import RunConfig
from recon.errors import ReconError
from recon.images.black import BLACK
from recon.model.model import Model
from recon.views import Views

DARKEST = 0.02
"""Of a channel of the first guess: none is out of reach."""

TYPICAL_RADIUS = 0.6
"""Distance from the origin, in the unit frame, at which the brightest points of an object lie."""


def initial_model(config: RunConfig, views: Views, device: torch.device) -> Model:
    """A model whose surface is the unit sphere and whose albedo makes it about as bright as the images.

    Raises:
        ReconError: the images are black.
    """
    torch.manual_seed(config.train.seed)
    cameras = Cameras.from_views(views)
    model = Model(config, views.world_from_unit, views.radiance_scale, _brightness(views), len(views))
    model.light.adapt(cameras, _distance_from_light(views))
    model.poses.adapt(cameras)
    model.background.confine(cameras, torch.from_numpy(views.images))
    with torch.no_grad():
        model.reflectance.log_albedo.add_(torch.from_numpy(_tint(views, model.background)).log())
    return model.to(device)


def _brightness(views: Views) -> float:
    """Albedo with which a point facing its light shows the images' bright radiance."""
    lit = views.images.max(axis=3)
    lit = lit[lit > 0.05] if views.known is None else lit[(lit > 0.05) & (views.known > 0)]
    if len(lit) == 0:
        raise ReconError("the training images are black: nothing in them is brighter than 5% of the radiance scale")
    bright = float(np.quantile(lit, 0.98))
    distance = _distance_from_light(views)
    return bright * (distance * distance)


def _distance_from_light(views: Views) -> float:
    """Of bright points of the surface; 1 for distant lights, whose irradiance does not fall."""
    if views.light_direction is not None:
        return 1.0
    lights = views.camera_to_world[:, :3, 3] if views.light_position is None else views.light_position
    return float(np.linalg.norm(lights, axis=1).mean() - TYPICAL_RADIUS)


def _tint(views: Views, background: Background) -> Float32[np.ndarray, " 3"]:
    """The colour of the bright half of what is known to be the object, relative to its brightest channel.

    Where nothing says what the object is, and before a background, grey: the brightest may be the wall.
    """
    images = views.images
    if views.masks is not None:
        images = images[views.masks > 127]
    elif not _before_black(views, background):
        return np.ones(3, np.float32)
    pixels = images.reshape(-1, 3).astype(np.float64)
    brightness = pixels.max(axis=1)
    bright = pixels[brightness > 0.5 * np.quantile(brightness[brightness > BLACK], 0.98)]
    color = bright.mean(axis=0)
    return np.maximum(color / color.max(), DARKEST).astype(np.float32)


def _before_black(views: Views, background: Background) -> bool:
    """Whether nothing is lit but the object; a field has looked already."""
    if isinstance(background, BackgroundField):
        return background.empty
    return black_beside_sphere(Cameras.from_views(views), torch.from_numpy(views.images))

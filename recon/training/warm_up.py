"""The first part of a run with a radiance field: a volume in place of the surface.

A surface that starts as the unit sphere hides what stands behind it, and what hides something
wrongly has no gradient that says so. A volume starts transparent and hides nothing. So the field,
with its continuation into the unit sphere, learns the images alone first, and what it then shows
inside the sphere guides the surface's outline. Soon the field is better, and what it leaves unexplained
guides the surface instead.
"""

import torch
from torch import Tensor

from recon.background.rays import rays_through
from recon.background.visual_hull import shrunk
from recon.model.model import Model
from recon.training.data import Batch, TrainingData
from recon.training.losses import spread_loss, veil_loss

LOOKS = (0.0, 0.15, 0.3, 0.45)
"""Fractions of the surface's schedule at which the object is looked for."""

REFRESH = 100
"""Iterations between looks at where the field is empty."""


def warm_up(model: Model) -> float:
    """The part of the schedule that has no surface; none where there is nothing but the object."""
    return 0.0 if model.surroundings is None or model.surroundings.empty else model.config.field.warm_up


def warming_up(model: Model, fraction: float) -> bool:
    return fraction < warm_up(model)


def surface_fraction(model: Model, fraction: float) -> float:
    """How far the surface is: its schedule starts after the warm-up."""
    start = warm_up(model)
    return max(fraction - start, 0.0) / (1 - start)


def look_around(model: Model, data: TrainingData, iteration: int, fraction: float) -> None:
    """What follows from the field from time to time: empty cells, veils, and the guide."""
    if model.surroundings is None or model.hints is None or model.surroundings.empty:
        return
    ready = not warming_up(model, fraction)
    due = ready and int(model.hints.looks) < sum(surface_fraction(model, fraction) >= at for at in LOOKS)
    if not due and (iteration == 0 or iteration % REFRESH):
        return
    model.surroundings.prune()
    if due:
        find_object(model, data)
        # From the last look on the surface covers what a wall could be made to show.
        model.surroundings.turning.fill_(int(model.hints.looks) == len(LOOKS))
    if ready:
        model.hints.find_veils(model.surroundings, data.cameras)


def find_object(model: Model, data: TrainingData) -> None:
    """Which pixels show the object: at first by the volume, later by what the field leaves unexplained."""
    assert model.surroundings is not None and model.hints is not None
    if model.hints.looks == 0:
        model.hints.guess_object(model.surroundings, data.cameras)
        return
    model.hints.find_object(model.surroundings, *shrunk(data.cameras, data.images))


def hinted(batch: Batch, model: Model) -> Batch:
    """The batch of whole views with what the warm-up left of them."""
    if model.hints is None:
        return batch
    index = batch.views
    guide = model.hints.guide[index].float() / 255
    if batch.weights is not None:
        guide[..., 1] *= batch.weights
    return batch._replace(guide=guide, veiled=model.hints.veiled[index])


def warm_up_terms(model: Model, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """The loss terms of the field alone, on random pixels of whole views."""
    assert model.surroundings is not None
    config = model.config
    count = batch.images[..., 0].numel()
    pixel = torch.randint(count, (config.field.rays,), generator=generator).to(model.device)
    rays = rays_through(batch.cameras, pixel)
    shift = torch.rand(len(pixel), 1, generator=generator).to(rays.enter)
    around, volume = model.surroundings.with_volume(rays, shift)
    prediction = around.around(volume.radiance, 1 - volume.transmittance)
    target = batch.images.flatten(0, 2).index_select(0, pixel)
    error = (prediction - target).abs()
    if batch.weights is not None:
        error = error * batch.weights.flatten().index_select(0, pixel)[:, None]
    terms = {"image": error.mean()}
    if config.loss.veil:
        terms["veil"] = veil_loss(rays, around, volume)
    if config.loss.spread:
        terms["spread"] = spread_loss([around.front, volume, around.behind])
    if config.loss.smoothness:
        terms["smoothness"] = model.surroundings.roughness(generator)
    return terms

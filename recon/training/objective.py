"""What an iteration minimises: a batch rendered and compared."""

import torch
from jaxtyping import Float
from torch import Tensor

from recon.background.composite import chosen_pixels, composite_some
from recon.background.curriculum import Curriculum
from recon.background.losses import outline_weights
from recon.config import RunConfig
from recon.model.model import Model, SurfaceMesh, exposed
from recon.model.poses import corrected
from recon.surface.flow import Flow
from recon.surface.icosphere import icosphere
from recon.training.crop import Crops, cropped, crops_at, inside_crops, occupied_pixels
from recon.training.data import Batch, random_rotation
from recon.training.draws import Draws
from recon.training.losses import loss_terms
from recon.training.schedule import POSES_FROM, level


def evaluate(
    model: Model, curriculum: Curriculum | None, batch: Batch, fraction: float, draws: Draws
) -> dict[str, Tensor]:
    """The loss terms of a batch of whole views, or of a crop of each, at `fraction` of the run.

    `curriculum` is that of the background's field; None where there is none.
    """
    if curriculum is not None:
        if curriculum.warming_up(fraction):
            exposure = model.light.exposure(batch.cameras, batch.views)
            cameras = model.light.placed(batch.cameras)
            terms = curriculum.warm_up_terms(cameras, batch.images, batch.weights, draws.generator, exposure)
            return terms | light_terms(model)
        fraction = curriculum.surface_fraction(fraction)
        masks, foreground = curriculum.of_views(batch.views)
        if batch.weights is not None:
            masks[..., 1] *= batch.weights
        batch = batch._replace(pseudo_masks=masks, foreground=foreground)
    batch = with_poses(model, batch, fraction)
    sphere, faces = icosphere(level(model.config.train, fraction), model.device)
    if model.config.train.random_rotation:
        sphere = sphere @ draws.take(random_rotation).to(sphere)
    flow = model.flow()
    path = flow.trajectory(sphere)
    mesh = SurfaceMesh(path[-1], faces, model.reflectance.attributes(sphere))
    batch = crop(batch, mesh, model.config, draws)
    if curriculum is not None:
        return terms_with_field(model, curriculum, batch, mesh, flow, path, fraction, draws)
    rendering = model.render(mesh, batch.cameras, batch.backgrounds, batch.views, batch.corrections)
    return loss_terms(model, rendering, batch, mesh, flow, path, draws) | light_terms(model)


def with_poses(model: Model, batch: Batch, fraction: float) -> Batch:
    """The batch with its cameras corrected where poses are learned; before that, they are as given.

    `fraction` is of the surface's schedule.
    """
    if not model.config.cameras.refine or fraction < POSES_FROM:
        return batch
    corrections = model.poses.corrections()[batch.views]
    return batch._replace(cameras=corrected(batch.cameras, corrections), corrections=corrections)


def light_terms(model: Model) -> dict[str, Tensor]:
    """The prior of what is learned of the light; nothing where that is nothing."""
    return {"light": model.light.prior()} if model.light.learned and model.config.loss.light else {}


def terms_with_field(
    model: Model,
    curriculum: Curriculum,
    batch: Batch,
    mesh: SurfaceMesh,
    flow: Flow,
    path: list[Float[Tensor, "v 3"]],
    fraction: float,
    draws: Draws,
) -> dict[str, Tensor]:
    """The loss terms of a surface within a radiance field, and those of the field."""
    masks, foreground, known = batch.pseudo_masks, batch.foreground, batch.weights
    assert masks is not None and foreground is not None
    rendering = model.render_surface(mesh, batch.cameras, batch.corrections)
    alpha = rendering.alpha
    pixel, weights = chosen_pixels(alpha, foreground, model.config.field.rays, draws.generator)
    samples = curriculum.samples(model.light.placed(batch.cameras), pixel, weights, alpha, draws.generator)
    weights = weights * outline_weights(rendering, samples.outer, pixel)
    batch = batch._replace(weights=weights if batch.weights is None else weights * batch.weights)
    composed, images = composite_some(rendering, samples.outer, pixel), batch.images
    exposure = model.light.exposure(batch.cameras, batch.views)
    if exposure is not None:
        composed, images = exposed(composed, exposure), images / exposure.detach()
    terms = loss_terms(model, composed, batch, mesh, flow, path, draws) | light_terms(model)
    return terms | curriculum.terms(alpha, images, masks, samples, fraction, draws.generator, known)


def crop(batch: Batch, mesh: SurfaceMesh, config: RunConfig, draws: Draws) -> Batch:
    """A random crop of each view where the configuration asks for crops."""
    size = config.train.crop.size
    if size is None:
        return batch
    if config.train.crop.mode == "inside":
        offsets = draws.take(lambda generator: inside_crops(batch.images, size, generator).offsets)
        return cropped(batch, size, Crops(offsets, torch.ones(len(offsets), size, size, device=offsets.device)))
    occupied = torch.ones_like(batch.images[..., 0], dtype=torch.bool)
    # Only before black is a crop without the object known to be without error.
    if config.train.crop.mode == "object" and config.background == "none":
        images = batch.images if batch.weights is None else batch.images * batch.weights[..., None]
        occupied = occupied_pixels(images, batch.cameras, mesh.vertices, draws.static)
    uniform = draws.take(lambda generator: torch.rand(len(occupied), 1, generator=generator))
    return cropped(batch, size, crops_at(occupied, size, uniform, draws.static))

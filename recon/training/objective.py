"""What an iteration minimises: a batch rendered and compared."""

import torch
from jaxtyping import Float
from torch import Tensor

from recon.background.composite import chosen_pixels, compose_some
from recon.background.rays import rays_through
from recon.background.visual_hull import ALIKE
from recon.config import RunConfig
from recon.model.model import Model, SurfaceMesh
from recon.surface.flow import Flow
from recon.surface.icosphere import icosphere
from recon.training.crop import cropped, draw_windows, inside_windows, occupied_pixels
from recon.training.data import Batch, random_rotation
from recon.training.losses import guide_loss, loss_terms, outline_weights, spread_loss, surplus_loss, veil_loss
from recon.training.schedule import level
from recon.training.warm_up import hinted, surface_fraction, warm_up_terms, warming_up

GUIDED = 0.85
"""Fraction of the surface's schedule at which the guide has faded out."""

STRICTER = 0.5
"""Fraction from which the field has to explain a pixel better and better for the surface to be surplus there."""


def evaluate(model: Model, batch: Batch, fraction: float, generator: torch.Generator) -> dict[str, Tensor]:
    """The loss terms of a batch of whole views, or of a window of each, at `fraction` of the run."""
    if warming_up(model, fraction):
        return warm_up_terms(model, batch, generator)
    fraction = surface_fraction(model, fraction)
    sphere, faces = icosphere(level(model.config.train, fraction), model.device)
    if model.config.train.random_rotation:
        sphere = sphere @ random_rotation(generator).to(sphere)
    flow = model.flow()
    path = flow.trajectory(sphere)
    mesh = SurfaceMesh(path[-1], faces, model.reflectance(sphere))
    batch = crop(hinted(batch, model), mesh, model.config, generator)
    if model.surroundings is None or model.surroundings.empty:
        return loss_terms(
            model, model.render(mesh, batch.cameras, batch.backgrounds), batch, mesh, flow, path, generator
        )
    return surrounded_terms(model, batch, mesh, flow, path, fraction, generator)


def surrounded_terms(
    model: Model,
    batch: Batch,
    mesh: SurfaceMesh,
    flow: Flow,
    path: list[Float[Tensor, "v 3"]],
    fraction: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The loss terms of a surface within a radiance field, and those of the field."""
    guide, veiled = batch.guide, batch.veiled
    assert model.surroundings is not None and guide is not None and veiled is not None
    config = model.config.loss
    rendering = model.render_surface(mesh, batch.cameras)
    pixel, weights = chosen_pixels(rendering.coverage, veiled, model.config.field.rays, generator)
    rays = rays_through(batch.cameras, pixel)
    shift = torch.rand(len(pixel), 1, generator=generator).to(weights)
    covered = rendering.coverage.flatten().index_select(0, pixel) == 1
    around = model.surroundings.surroundings(rays, shift, covered)
    weights = weights * outline_weights(rendering, around, pixel)
    batch = batch._replace(weights=weights if batch.weights is None else weights * batch.weights)
    terms = loss_terms(model, compose_some(rendering, around, pixel), batch, mesh, flow, path, generator)
    if config.surplus:
        # Once no membrane is left, a price would only hold back outlines that are right.
        alike = ALIKE * min(1.0, 1 + STRICTER - fraction)
        terms["surplus"] = surplus_loss(rendering.coverage, around, pixel, batch.images, alike)
    if config.guide and fraction < GUIDED:
        terms["guide"] = guide_weight(fraction) * guide_loss(rendering.coverage, guide)
    if config.veil:
        terms["veil"] = veil_loss(rays, around)
    if config.spread:
        terms["spread"] = spread_loss([around.front, around.behind])
    if config.smoothness:
        terms["smoothness"] = model.surroundings.roughness(generator)
    return terms


def guide_weight(fraction: float) -> float:
    """One to begin with, a half from a fifth of the surface's schedule on, and nothing from `GUIDED` on."""
    return max(1 - 2.5 * fraction, min(0.5, (GUIDED - fraction) / 0.8), 0.0)


def crop(batch: Batch, mesh: SurfaceMesh, config: RunConfig, generator: torch.Generator) -> Batch:
    """A random window of each view where the configuration asks for windows."""
    size = config.train.crop.size
    if size is None:
        return batch
    if config.train.crop.mode == "inside":
        return cropped(batch, size, inside_windows(batch.images, size, generator))
    occupied = torch.ones_like(batch.images[..., 0], dtype=torch.bool)
    # Only before black is a window without the object known to be without error.
    if config.train.crop.mode == "object" and config.background == "none":
        images = batch.images if batch.weights is None else batch.images * batch.weights[..., None]
        occupied = occupied_pixels(images, batch.cameras, mesh.vertices)
    return cropped(batch, size, draw_windows(occupied, size, generator))

"""The optimisation: render, compare, step."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from recon.config import RunConfig
from recon.errors import ReconError
from recon.surface.icosphere import icosphere
from recon.surface.model import Model, SurfaceMesh
from recon.training.crop import cropped, draw_windows, occupied_pixels
from recon.training.data import Batch, TrainingData, random_rotation, shuffled
from recon.training.losses import loss_terms
from recon.training.schedule import Progress, learning_rate, level

REFLECTANCE_RATE = 5.0
"""Step size of the reflectance relative to the flow's: it has few, well-determined parameters."""

MAX_GRADIENT = 1.0
"""Norm to which gradients of the flow are clipped: a flipped silhouette must not throw the shape away."""


class Step(NamedTuple):
    """What one iteration did."""

    iteration: int
    seconds: float
    level: int
    learning_rate: float
    loss: float
    terms: dict[str, float]


def fit(model: Model, data: TrainingData, progress: Progress, on_step: Callable[[Step], None]) -> None:
    """Train `model` in place until `progress` is over, calling `on_step` after every iteration.

    Raises:
        ReconError: a loss term is not finite; the model keeps the weights before that step.
    """
    config = model.config.train
    generator = torch.Generator().manual_seed(config.seed)
    choices = shuffled(len(data), min(config.views_per_iteration, len(data)), generator)
    rest = [value for name, value in model.named_parameters() if not name.startswith("velocity.")]
    optimizer = torch.optim.Adam(
        [
            {"params": list(model.velocity.parameters()), "factor": 1.0},
            {"params": rest, "factor": REFLECTANCE_RATE},
        ],
        betas=(0.9, 0.99),
    )
    while progress.fraction < 1:
        fraction = progress.fraction
        rate = learning_rate(config, fraction)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        detail = level(config, fraction)
        terms = evaluate(model, data.batch(next(choices).to(model.device)), detail, generator)
        weights = model.config.loss.model_dump()
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        _check_finite(terms, progress.iteration)
        torch.nn.utils.clip_grad_norm_(model.velocity.parameters(), MAX_GRADIENT)
        optimizer.step()
        progress.iteration += 1
        values = {name: term.item() for name, term in terms.items()}
        on_step(Step(progress.iteration, progress.seconds, detail, rate, total.item(), values))


def evaluate(model: Model, batch: Batch, detail: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The loss terms of a batch of whole views, or of a window of each, on the icosphere of level `detail`."""
    sphere, faces = icosphere(detail, model.device)
    if model.config.train.random_rotation:
        sphere = sphere @ random_rotation(generator).to(sphere)
    path = model.trajectory(sphere)
    mesh = SurfaceMesh(path[-1], faces, model.reflectance(sphere))
    batch = crop(batch, mesh, model.config, generator)
    rendering = model.render(mesh, batch.cameras)
    return loss_terms(model, rendering, batch, mesh, path, generator)


def crop(batch: Batch, mesh: SurfaceMesh, config: RunConfig, generator: torch.Generator) -> Batch:
    """A random window of each view where the configuration asks for windows."""
    size = config.train.crop.size
    if size is None:
        return batch
    occupied = torch.ones_like(batch.images[..., 0], dtype=torch.bool)
    # Only before black is a window without the object known to be without error.
    if config.train.crop.mode == "object" and config.background == "none":
        occupied = occupied_pixels(batch.images, batch.cameras, mesh.vertices)
    return cropped(batch, size, draw_windows(occupied, size, generator))


def _check_finite(terms: dict[str, Tensor], iteration: int) -> None:
    for name, term in terms.items():
        if not math.isfinite(term.item()):
            raise ReconError(f"training diverged at iteration {iteration}: loss term '{name}' is {term.item()}")

"""The optimisation: render, compare, step."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from recon.config import RunConfig
from recon.errors import ReconError
from recon.surface.model import Model
from recon.training.data import TrainingData, shuffled
from recon.training.objective import evaluate
from recon.training.schedule import Progress, learning_rate, level
from recon.training.warm_up import look_around, surface_fraction

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
    field = [] if model.surroundings is None else list(model.surroundings.parameters())
    rest = [*model.reflectance.parameters(), *([] if model.background is None else [model.background])]
    optimizer = torch.optim.Adam(
        [
            {"params": list(model.velocity.parameters()), "factor": 1.0},
            {"params": rest, "factor": REFLECTANCE_RATE},
            *([{"params": field, "factor": field_factor(model.config)}] if field else []),
        ],
        betas=(0.9, 0.99),
        fused=True,
    )
    while progress.fraction < 1:
        fraction = progress.fraction
        rate = learning_rate(config, fraction)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        look_around(model, data.cameras, progress.iteration, fraction)
        terms = evaluate(model, data.batch(next(choices).to(model.device)), fraction, generator)
        weights = model.config.loss.model_dump()
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        _check_finite(terms, progress.iteration)
        torch.nn.utils.clip_grad_norm_(model.velocity.parameters(), MAX_GRADIENT)
        optimizer.step()
        progress.iteration += 1
        values = {name: term.item() for name, term in terms.items()}
        detail = level(config, surface_fraction(model.config, fraction))
        on_step(Step(progress.iteration, progress.seconds, detail, rate, total.item(), values))


def field_factor(config: RunConfig) -> float:
    """Step size of a radiance field relative to the flow's; a network takes the flow's."""
    return config.field.learning_rate / config.train.learning_rate if config.field.representation == "grid" else 1.0


def _check_finite(terms: dict[str, Tensor], iteration: int) -> None:
    for name, term in terms.items():
        if not math.isfinite(term.item()):
            raise ReconError(f"training diverged at iteration {iteration}: loss term '{name}' is {term.item()}")

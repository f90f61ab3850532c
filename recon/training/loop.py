"""The optimisation: render, compare, step."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recon.background.curriculum import Curriculum
from recon.background.field import BackgroundField
from recon.config import RunConfig
from recon.errors import ReconError
from recon.model.model import Model
from recon.training.crop import views_per_iteration
from recon.training.crossings import Crossings
from recon.training.data import Shuffled, TrainingData
from recon.training.objective import evaluate
from recon.training.schedule import Progress, learning_rate, level

REFLECTANCE_RATE = {"grid": 1.0, "mlp": 5.0}
"""Step size of the albedo relative to the flow's: it has few, well-determined parameters."""

PAINT_RATE = 1.0
"""And of the network that makes it vary: larger steps paint the photographs on whatever surface there is."""

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


class Optimisation:
    """A training between two iterations: all that the next one depends on, and the way to take it.

    Every random choice comes from one generator on the CPU, whose state is part of `state_dict`.
    """

    def __init__(self, model: Model, data: TrainingData, progress: Progress) -> None:
        config = model.config.train
        self.model = model
        self.progress = progress
        self._data = data
        self._generator = torch.Generator().manual_seed(config.seed)
        views = views_per_iteration(config, data.cameras.height, data.cameras.width)
        self.curriculum = Curriculum.of(model.background, model.config.loss, data.cameras)
        self._crossings = Crossings()
        self._batches = Shuffled(len(data), min(views, len(data)), self._generator)
        self._optimizer = torch.optim.Adam(parameter_groups(model), betas=(0.9, 0.99), fused=True)

    def step(self) -> Step:
        """One iteration.

        Raises:
            ReconError: a loss term or a gradient is not finite; all is as before the iteration then.
        """
        config, progress = self.model.config, self.progress
        fraction, before = progress.fraction, self._random_state()
        rate = learning_rate(config.train, fraction)
        of_surface = fraction if self.curriculum is None else self.curriculum.surface_fraction(fraction)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["factor"] if of_surface >= group["start"] else 0.0
        renewed = self._renew(fraction)
        if config.loss.crossing:
            self._crossings.look(self.model, fraction)
        terms = self._evaluate(fraction)
        weights = config.loss.model_dump()
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        try:
            values = finite_values(terms, progress.iteration)
            self._check_gradients(fraction, before)
        except ReconError:
            self._load_random_state(before)
            for buffer, former in renewed:
                buffer.copy_(former)
            raise
        torch.nn.utils.clip_grad_norm_(self.model.velocity.parameters(), MAX_GRADIENT)
        self._optimizer.step()
        progress.iteration += 1
        detail = level(config.train, of_surface)
        return Step(progress.iteration, progress.seconds, detail, rate, total.item(), values)

    def state_dict(self, finished: bool = False) -> dict[str, Any]:
        """Weights, random state, progress and, until it is `finished`, the optimiser's averages."""
        averages = {} if finished else {"optimizer": self._optimizer.state_dict()}
        return {
            "model": self.model.state_dict(),
            "random": self._random_state(),
            "curriculum": None if self.curriculum is None else self.curriculum.state_dict(),
            "crossings": self._crossings.state_dict(),
            "iteration": self.progress.iteration,
            "seconds": self.progress.seconds,
            **averages,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        if "optimizer" in state:
            self._optimizer.load_state_dict(state["optimizer"])
        self._load_random_state(state["random"])
        if self.curriculum is not None:
            self.curriculum.load_state_dict(state["curriculum"])
        self._crossings.load_state_dict(state["crossings"])
        self.progress.resume(state["iteration"], state["seconds"])

    def _renew(self, fraction: float) -> list[tuple[Tensor, Tensor]]:
        """Have the curriculum do what is due; returns the buffers that it may have changed, and what they held."""
        curriculum, iteration = self.curriculum, self.progress.iteration
        if curriculum is None or not curriculum.is_due(iteration, fraction):
            return []
        buffers = [*self.model.background.buffers(), *curriculum.pseudo_masks.buffers()]
        renewed = [(buffer, buffer.clone()) for buffer in buffers]
        curriculum.update(self._data.cameras, self._data.images, self._data.known, fraction)
        return renewed

    def _evaluate(self, fraction: float) -> dict[str, Tensor]:
        batch = self._data.batch(next(self._batches).to(self.model.device))
        terms = evaluate(self.model, self.curriculum, batch, fraction, self._generator)
        if len(self._crossings.pairs):
            terms["crossing"] = self._crossings.loss(self.model)
        return terms

    def _check_gradients(self, fraction: float, before: Mapping[str, Tensor]) -> None:
        for group in self._optimizer.param_groups:
            # A sum is finite only where every gradient is, and costs one look for each parameter.
            sums = [p.grad.sum() for p in group["params"] if p.grad is not None]
            if sums and not math.isfinite(torch.stack(sums).sum().item()):
                self._load_random_state(before)
                term = self._culprit(group["params"], fraction)
                raise ReconError(
                    f"training diverged at iteration {self.progress.iteration}: "
                    f"the gradient of {term} by the {group['name']}'s parameters is not finite"
                )

    def _culprit(self, parameters: list[Tensor], fraction: float) -> str:
        """The loss term whose gradient is not finite, by taking the iteration's evaluation again."""
        for name, term in self._evaluate(fraction).items():
            if term.requires_grad:
                gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
                if not all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None):
                    return f"loss term '{name}'"
        return "the loss"

    def _random_state(self) -> dict[str, Tensor]:
        return {"generator": self._generator.get_state(), "queue": self._batches.queue}

    def _load_random_state(self, state: Mapping[str, Tensor]) -> None:
        self._generator.set_state(state["generator"])
        self._batches.queue = state["queue"]


def fit(optimisation: Optimisation, on_step: Callable[[Step], object]) -> None:
    """Take iterations until the progress is over, calling `on_step` after each.

    Raises:
        ReconError: a loss term or a gradient is not finite; the model keeps the weights before that step.
    """
    while optimisation.progress.fraction < 1:
        on_step(optimisation.step())


def parameter_groups(model: Model) -> list[dict[str, Any]]:
    """What is learned, in groups with step sizes of their own."""
    field = list(model.background.parameters()) if isinstance(model.background, BackgroundField) else []
    albedo = model.reflectance.log_albedo
    paint = [each for each in model.reflectance.parameters() if each is not albedo]
    rest = [albedo, *([] if field else model.background.parameters())]
    rate = REFLECTANCE_RATE[model.config.surface.representation]
    groups = [
        {"name": "flow", "params": list(model.velocity.parameters()), "factor": 1.0, "start": 0.0},
        {"name": "albedo", "params": rest, "factor": rate, "start": 0.0},
    ]
    if paint:
        start = model.config.train.constant_albedo
        groups.append({"name": "reflectance", "params": paint, "factor": PAINT_RATE, "start": start})
    if field:
        groups.append({"name": "field", "params": field, "factor": field_factor(model.config), "start": 0.0})
    return groups


def field_factor(config: RunConfig) -> float:
    """Step size of a radiance field relative to the flow's; a network takes the flow's."""
    return config.field.learning_rate / config.train.learning_rate if config.field.representation == "grid" else 1.0


def finite_values(terms: Mapping[str, Tensor], iteration: int) -> dict[str, float]:
    """The values of loss terms; raises `ReconError` where one is not finite."""
    values = {name: term.item() for name, term in terms.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise ReconError(f"training diverged at iteration {iteration}: loss term '{name}' is {value}")
    return values

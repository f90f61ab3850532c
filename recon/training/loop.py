"""The optimisation: render, compare, step."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recon.background.curriculum import Curriculum
from recon.background.field import BackgroundField
from recon.config import RunConfig
from recon.errors import ReconError
from recon.model.model import Model
from recon.render.renderer import kernels_work
from recon.training.crop import views_per_iteration
from recon.training.crossings import Crossings
from recon.training.data import Shuffled, TrainingData
from recon.training.draws import Draws, StagedDraws
from recon.training.graph import Recorded, Replay
from recon.training.objective import evaluate
from recon.training.paint import PaintLooks
from recon.training.schedule import POSES_FROM, Progress, learning_rate, level

REFLECTANCE_RATE = {"grid": 1.0, "mlp": 5.0}
"""Step size of the albedo relative to the flow's: it has few, well-determined parameters."""

PAINT_RATE = {"grid": 3.0, "mlp": 1.0}
"""And of the textures, or the network, that make it vary. Larger steps of a network paint the photographs on whatever
surface there is; textures that are slow hold the surface back."""

COARSE_PAINT = 0.05
"""Part of the surface's schedule after which coarse textures vary already: an object that is dark on one side has no
one albedo that its shape could be found with, and a photograph cannot be painted with a few texels."""

COARSE = 8
"""Texels along a side of the largest texture that counts as coarse."""

LIGHT_RATE = {"log_strength": 1.0, "offset": 0.2, "ambient": 3.0, "vignetting": 1.0}
"""Step sizes of what is learned of the light, relative to the flow's. A strength is told by its own view alone, which
comes in few iterations. Ambient light has to be found before shape and albedo have explained what it does: slower, its
mean is taken for a brighter albedo (0.05 in place of 0.25 after 150 iterations of the tests' scene)."""

POSES_RATE = 0.06
"""Step size of twists relative to the flow's: poses are off by less than shapes are."""

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


class _Pending(NamedTuple):
    """An iteration that is under way, and all that tells it: what is to be put back should it fail."""

    replay: Replay
    iteration: int
    fraction: float
    level: int
    learning_rate: float
    before: dict[str, Tensor]


class Optimisation:
    """A training between two iterations: all that the next one depends on, and the way to take it.

    Every random choice comes from one generator on the CPU, whose state is part of `state_dict`.

    On a CUDA device whole iterations are recorded as graphs (`recon.training.graph`), where that can be done: with
    recon's own renderer and without a radiance field. What such an iteration found is known one iteration later.
    """

    def __init__(self, model: Model, data: TrainingData, progress: Progress, recorded: bool | None = None) -> None:
        """`recorded`: whether to take iterations as they are recorded; None: where it is worth it."""
        config = model.config.train
        self.model = model
        self.progress = progress
        self._data = data
        self._generator = torch.Generator().manual_seed(config.seed)
        self._draws = Draws(self._generator, model.device)
        views = views_per_iteration(config, data.cameras.height, data.cameras.width)
        self.curriculum = Curriculum.of(model.background, model.config.loss, data.cameras)
        self._crossings = Crossings()
        self._paint = PaintLooks(model)
        self._batches = Shuffled(len(data), min(views, len(data)), self._generator)
        recorded = self._can_be_recorded() if recorded is None else recorded
        self._optimizer = torch.optim.Adam(
            parameter_groups(model), betas=(0.9, 0.99), fused=True, capturable=recorded and model.device.type == "cuda"
        )
        self._recorded = self._recording(min(views, len(data))) if recorded else None
        self._pending: _Pending | None = None

    def step(self) -> Step | None:
        """One iteration.

        Returns:
            What it did; where iterations are recorded, what the one before did, or None where there is none.

        Raises:
            ReconError: a loss term or a gradient is not finite; all is as before that iteration then.
        """
        config, progress = self.model.config, self.progress
        fraction, before = progress.fraction, self._random_state()
        rate = learning_rate(config.train, fraction)
        of_surface = fraction if self.curriculum is None else self.curriculum.surface_fraction(fraction)
        detail = level(config.train, of_surface)
        renewed = self._renew(fraction)
        if self._paint.is_due(of_surface):
            self._paint.look(self.model, self._optimizer, self._data, self._developed(), detail, of_surface)
        rates = [rate * group["factor"] if self._has_begun(group, of_surface) else 0.0 for group in self._groups]
        if config.loss.crossing:
            self._crossings.look(self.model, fraction)
        if self._recorded is not None:
            replay = self._replay(self._recorded, fraction, detail, rates)
            if replay is not None:
                progress.iteration += 1
                former = self._pending
                self._pending = _Pending(replay, progress.iteration - 1, fraction, detail, rate, before)
                return None if former is None else self._look_at(former)
            if self._pending is not None:
                return self.settle()  # the next call takes this iteration
        for group, own in zip(self._groups, rates, strict=True):
            group["lr"] = own
        terms = self._evaluate(fraction, self._draws)
        weights = config.loss.model_dump()
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        try:
            values = finite_values(terms, progress.iteration)
            self._check_gradients(fraction, before)
        except ReconError:
            self._load_random_state(before)
            for buffer, former_values in renewed:
                buffer.copy_(former_values)
            raise
        torch.nn.utils.clip_grad_norm_(self.model.velocity.parameters(), MAX_GRADIENT)
        self._optimizer.step()
        progress.iteration += 1
        return Step(progress.iteration, progress.seconds, detail, rate, total.item(), values)

    def settle(self) -> Step | None:
        """Wait for the iteration that is under way, and return what it did; None where there is none.

        Raises:
            ReconError: as `step`.
        """
        pending, self._pending = self._pending, None
        return None if pending is None else self._look_at(pending)

    def state_dict(self, finished: bool = False) -> dict[str, Any]:
        """Weights, random state, progress and, until it is `finished`, the optimiser's averages.

        No iteration may be under way: see `settle`.
        """
        averages = {} if finished else {"optimizer": self._averages()}
        return {
            "model": self.model.state_dict(),
            "random": self._random_state(),
            "curriculum": None if self.curriculum is None else self.curriculum.state_dict(),
            "crossings": self._crossings.state_dict(),
            "paint": self._paint.state_dict(self.model),
            "iteration": self.progress.iteration,
            "seconds": self.progress.seconds,
            **averages,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        if "optimizer" in state:
            self._load_averages(state["optimizer"])
        self._load_random_state(state["random"])
        if self.curriculum is not None:
            self.curriculum.load_state_dict(state["curriculum"])
        self._crossings.load_state_dict(state["crossings"])
        if "paint" in state:  # states of before have none
            self._paint.load_state_dict(state["paint"], self.model)
        self.progress.resume(state["iteration"], state["seconds"])

    @property
    def look_due(self) -> bool:
        """Whether the next iteration begins with a look at all views, which takes as long as many iterations."""
        return self.curriculum is not None and self.curriculum.look_due(self.progress.fraction)

    def _renew(self, fraction: float) -> list[tuple[Tensor, Tensor]]:
        """Have the curriculum do what is due; returns the buffers that it may have changed, and what they held."""
        curriculum, iteration = self.curriculum, self.progress.iteration
        if curriculum is None or not curriculum.is_due(iteration, fraction):
            return []
        buffers = [*self.model.background.buffers(), *curriculum.pseudo_masks.buffers()]
        renewed = [(buffer, buffer.clone()) for buffer in buffers]
        cameras = self.model.light.placed(self.model.poses.corrected(self._data.cameras))
        curriculum.update(cameras, self._developed(), self._data.known, fraction)
        return renewed

    @torch.no_grad()
    def _developed(self) -> Float[Tensor, "n h w 3"]:
        """The training images, with what strengths and vignetting did to them undone."""
        data = self._data
        exposure = self.model.light.exposure(data.cameras, torch.arange(len(data), device=self.model.device))
        return data.images if exposure is None else data.images / exposure

    @property
    def recorded(self) -> bool:
        """Whether iterations are taken as they are recorded."""
        return self._recorded is not None

    def _has_begun(self, group: Mapping[str, Any], fraction: float) -> bool:
        return fraction >= group["start"] or (self._paint.released and group["name"] == "fine paint")

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return self._optimizer.param_groups

    def _can_be_recorded(self) -> bool:
        config = self.model.config
        return (
            self.curriculum is None
            and not self.model.light.learned  # tried on no device yet
            and not config.light.shadows  # whose maps take numbers from the device
            and not config.cameras.refine  # nor this
            and config.render.backend == "torch"
            and config.loss.laplacian == 0  # which counts neighbours, and waits
            and self.model.device.type == "cuda"
            and kernels_work(self.model.device)
        )

    def _recording(self, views: int) -> Recorded:
        """Iterations of this optimisation, with room for all that one draws."""
        config = self.model.config
        capacity = 4 * views + config.loss.velocity_points + 64
        draws = StagedDraws(self._generator, self.model.device, capacity)
        clipped = list(self.model.velocity.parameters())
        return Recorded(self._optimizer, draws, config.loss.model_dump(), clipped, MAX_GRADIENT)

    def _replay(self, recorded: Recorded, fraction: float, detail: int, rates: list[float]) -> Replay | None:
        """The iteration from its recording; None where it cannot be recorded: then, none is from here on."""
        crossings = self._crossings.looks if len(self._crossings.pairs) else 0
        situation = detail, crossings, self.model.reflectance.uniform
        state = self._random_state()
        try:
            if not recorded.knows(situation):
                recorded.record(situation, lambda: self._evaluate(fraction, recorded.draws))
                self._load_random_state(state)
            return recorded.replay(rates)
        except Exception as error:  # whatever recording, or a compiler, may raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"recon: iterations cannot be recorded, and are taken step by step: {reason}", file=sys.stderr)
        self._load_random_state(state)
        self._recorded = None
        self._optimizer.found_inf = None  # type: ignore[attr-defined]
        return None

    def _look_at(self, pending: _Pending) -> Step:
        """What an iteration did, once it is over."""
        names = pending.replay.names
        values = pending.replay.wait()
        terms, total, gradients = dict(zip(names, values, strict=False)), values[len(names)], values[len(names) + 1 :]
        try:
            finite_values(terms, pending.iteration)
            if not all(map(math.isfinite, gradients)):
                self._load_random_state(pending.before)
                self._raise_for_gradients(gradients, pending)
        except ReconError:
            # The one that may have followed had no effect either.
            self._pending = None
            self._load_random_state(pending.before)
            self.progress.iteration = pending.iteration
            if self._recorded is not None:
                self._recorded.forgive()
            raise
        return Step(pending.iteration + 1, self.progress.seconds, pending.level, pending.learning_rate, total, terms)

    def _raise_for_gradients(self, sums: list[float], pending: _Pending) -> None:
        for group, value in zip(self._groups, sums, strict=True):
            if not math.isfinite(value):
                raise self._diverged(group, pending.iteration, pending.fraction)

    def _averages(self) -> dict[str, Any]:
        """The optimiser's state; its step sizes follow from the progress, and may be on the device."""
        state = self._optimizer.state_dict()
        return {**state, "param_groups": [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]}

    def _load_averages(self, state: Mapping[str, Any]) -> None:
        capturable = self._groups[0]["capturable"]
        self._optimizer.load_state_dict(dict(state))
        for group in self._groups:
            group["capturable"] = capturable
        if self._recorded is not None:
            self._recorded.forget()

    def _evaluate(self, fraction: float, draws: Draws) -> dict[str, Tensor]:
        batch = self._data.batch(draws.take(lambda _: next(self._batches)))
        terms = evaluate(self.model, self.curriculum, batch, fraction, draws)
        if len(self._crossings.pairs):
            terms["crossing"] = self._crossings.loss(self.model)
        return terms

    def _check_gradients(self, fraction: float, before: Mapping[str, Tensor]) -> None:
        for group in self._groups:
            # A sum is finite only where every gradient is, and costs one look for each parameter.
            sums = [p.grad.sum() for p in group["params"] if p.grad is not None]
            if sums and not math.isfinite(torch.stack(sums).sum().item()):
                self._load_random_state(before)
                raise self._diverged(group, self.progress.iteration, fraction)

    def _diverged(self, group: Mapping[str, Any], iteration: int, fraction: float) -> ReconError:
        term = self._culprit(group["params"], fraction)
        return ReconError(
            f"training diverged at iteration {iteration}: "
            f"the gradient of {term} by the {group['name']}'s parameters is not finite"
        )

    def _culprit(self, parameters: list[Tensor], fraction: float) -> str:
        """The loss term whose gradient is not finite, by taking the iteration's evaluation again."""
        for name, term in self._evaluate(fraction, self._draws).items():
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
        if (step := optimisation.step()) is not None:
            on_step(step)
    if (step := optimisation.settle()) is not None:
        on_step(step)


def parameter_groups(model: Model) -> list[dict[str, Any]]:
    """What is learned, in groups with step sizes of their own."""
    background = list(model.background.parameters())
    field = background if isinstance(model.background, BackgroundField) else []
    rate = REFLECTANCE_RATE[model.config.surface.representation]
    albedo = [model.reflectance.log_albedo, *([] if field else background)]
    groups: list[dict[str, Any]] = [
        {"name": "flow", "params": list(model.velocity.parameters()), "factor": 1.0, "start": 0.0},
        {"name": "albedo", "params": albedo, "factor": rate, "start": 0.0},
        *paint_groups(model),
    ]
    if field:
        groups.append({"name": "field", "params": field, "factor": field_factor(model.config), "start": 0.0})
    if model.poses.twists is not None:
        groups.append({"name": "poses", "params": [model.poses.twists], "factor": POSES_RATE, "start": POSES_FROM})
    for name, parameter in model.light.named_parameters():
        groups.append({"name": name, "params": [parameter], "factor": LIGHT_RATE[name], "start": 0.0})
    return groups


def paint_groups(model: Model) -> list[dict[str, Any]]:
    """Those of what makes a reflectance vary: coarse textures, fine ones, and the rest."""
    reflectance, start = model.reflectance, model.config.train.constant_albedo
    textures = reflectance.textures()
    known = {id(each) for each in (reflectance.log_albedo, *textures)}
    parts = {
        "coarse paint": [each for each in textures if each.shape[1] <= COARSE],
        "fine paint": [each for each in textures if each.shape[1] > COARSE],
        "reflectance": [each for each in reflectance.parameters() if id(each) not in known],
    }
    factor = PAINT_RATE[model.config.surface.representation]
    starts = {"coarse paint": min(COARSE_PAINT, start)}
    return [
        {"name": name, "params": part, "factor": factor, "start": starts.get(name, start)}
        for name, part in parts.items()
        if part
    ]


def field_factor(config: RunConfig) -> float:
    """Step size of a radiance field relative to the flow's; a network takes the flow's."""
    return config.field.learning_rate / config.train.learning_rate if config.field.representation == "grid" else 1.0


def finite_values(terms: Mapping[str, Tensor | float], iteration: int) -> dict[str, float]:
    """The values of loss terms; raises `ReconError` where one is not finite."""
    values = {name: term if isinstance(term, float) else term.item() for name, term in terms.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise ReconError(f"training diverged at iteration {iteration}: loss term '{name}' is {value}")
    return values

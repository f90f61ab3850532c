"""An iteration as a CUDA graph: recorded once, and replayed with one call.

An iteration is some hundred small kernels, which take the host ten times as long to launch as the device to run. A
graph is launched at once. For that, nothing in it may wait for the device or depend on what is found there:

    what is drawn waits on the device                       `recon.training.draws.StagedDraws`
    shapes follow from the sizes of mesh and pictures       `recon.render.kernels`
    whether all is finite is decided there                  `Recorded`: if not, the update is left out
    what an iteration found is looked at one later          `Replay`

Where something does depend on the run, a graph is recorded anew: for every icosphere level, and after every look for
crossing triangles.
"""

import gc
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recon.training.draws import StagedDraws

Terms = Callable[[], dict[str, Tensor]]


class Replay(NamedTuple):
    """What a replay found, once the device is there.

    names: of the loss terms. found: their values, the loss, and the sum of each parameter group's gradients.
    """

    names: list[str]
    found: Float[Tensor, " r"]
    done: torch.cuda.Event | None

    def wait(self) -> list[float]:
        """The values, when they are there."""
        if self.done is not None:
            self.done.synchronize()
        return self.found.tolist()


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph | None
    names: list[str]
    found: Float[Tensor, " r"]


class Recorded:
    """Iterations of one optimiser as graphs, one for each situation.

    `failed` is 1 from the first iteration on in which something was not finite, until `forgive`: these change nothing.

    On a device that is not CUDA the same steps are taken one by one, as the tests do.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        draws: StagedDraws,
        weights: Mapping[str, float],
        clipped: Sequence[Tensor],
        max_norm: float,
    ) -> None:
        self._optimizer = optimizer
        self.draws = draws
        self._weights = weights
        self._clipped, self._max_norm = clipped, max_norm
        self._failed = torch.zeros((), device=draws.device)
        self._cuda = draws.device.type == "cuda"
        self._situation: Hashable = None
        self._graph: _Graph | None = None
        self.rates = [0.0 for _ in optimizer.param_groups]
        self._terms: Terms = dict

    def forget(self) -> None:
        """Record anew: what a graph uses has been replaced."""
        self._situation = self._graph = None

    def forgive(self) -> None:
        """Let iterations have an effect again."""
        self._failed.zero_()

    def knows(self, situation: Hashable) -> bool:
        """Whether the last recording is of this situation: of what an iteration's steps and shapes depend on."""
        return self._graph is not None and situation == self._situation

    def record(self, situation: Hashable, terms: Terms) -> None:
        """Record an iteration, without taking it; but for random numbers, which are drawn, all stays as it is.

        `terms` makes the loss terms, and takes random numbers from `draws`.
        """
        self.forget()
        gc.collect()  # the memory of the last graph is that of this one
        if not self._optimizer.state:
            self._create_averages()
        self._terms, self._situation = terms, situation
        self.draws.begin()
        if not self._cuda:
            self._graph = _Graph(None, *self._backward())
            return
        # Once outside: kernels are compiled and tables cached there.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._backward()
        torch.cuda.current_stream().wait_stream(stream)
        self._optimizer.zero_grad(set_to_none=True)
        self.draws.begin()
        graph = torch.cuda.CUDAGraph()
        # Other threads may do what they like meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            recorded = self._iteration()
        self._graph = _Graph(graph, *recorded)

    def replay(self, rates: list[float]) -> Replay:
        """One iteration as it was recorded, under way when this returns, with these step sizes of the optimiser's
        parameter groups."""
        assert self._graph is not None
        self.rates = rates
        graph, names, found = self._graph
        if graph is None:
            self.draws.begin()
            return Replay(*self._iteration(), None)
        self.draws.renew()
        graph.replay()
        here = torch.empty(len(found), pin_memory=True)
        here.copy_(found, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return Replay(names, here, done)

    def _create_averages(self) -> None:
        """Adam makes its averages at the first step: here in one that changes nothing."""
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self._set_found_inf(torch.ones_like(self._failed))
        self._optimizer.step()

    def _iteration(self) -> tuple[list[str], Float[Tensor, " r"]]:
        names, found = self._backward()
        self._failed.copy_(torch.maximum(self._failed, (~found.isfinite().all()).float()))
        torch.nn.utils.clip_grad_norm_(self._clipped, self._max_norm)
        rates = self.draws.take(lambda _: torch.tensor(self.rates))
        for group, rate in zip(self._optimizer.param_groups, rates.unbind(), strict=True):
            group["lr"] = rate
        self._set_found_inf(self._failed)
        self._optimizer.step()
        return names, found

    def _backward(self) -> tuple[list[str], Float[Tensor, " r"]]:
        terms = self._terms()
        total = torch.stack([self._weights[name] * term for name, term in terms.items()]).sum()
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        # A sum is finite only where every gradient is, and costs one look for each parameter.
        sums = [
            torch.stack([p.grad.sum() for p in group["params"] if p.grad is not None] or [total.new_zeros(())]).sum()
            for group in self._optimizer.param_groups
        ]
        return list(terms), torch.stack([term.detach() for term in (*terms.values(), total, *sums)])

    def _set_found_inf(self, flag: Tensor) -> None:
        # As `torch.amp.GradScaler` does: the optimiser leaves out the update where the flag is 1.
        self._optimizer.found_inf = flag  # type: ignore[attr-defined]

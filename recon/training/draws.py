"""The random numbers of an iteration: drawn on the CPU from one generator, used on the training's device.

So a run draws the same on every device, and its state holds one generator.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Draw = Callable[[torch.Generator], Tensor]


class Draws:
    """Numbers drawn when they are asked for.

    Attributes:
        static: whether what is made of them must have shapes that do not depend on what they are.
    """

    static = False

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator = generator
        self.device = device

    def take(self, draw: Draw) -> Tensor:
        """What `draw` makes of the generator, on the device."""
        return draw(self.generator).to(self.device)


class _Place(NamedTuple):
    """Where in the buffers a drawing is, and how it is made."""

    start: int
    stop: int
    draw: Draw


class StagedDraws(Draws):
    """Numbers that wait on the device when an iteration starts, as one that is recorded as a CUDA graph needs them.

    While the iteration is recorded, each drawing is given a place in a buffer of the device. Before each replay `renew`
    draws the same kinds of numbers in the same order, and sends them with one copy. The buffer holds doubles, in which
    all that is drawn, 32-bit floats and indices, is exact.
    """

    static = True

    def __init__(self, generator: torch.Generator, device: torch.device, capacity: int) -> None:
        super().__init__(generator, device)
        self._places: list[_Place] = []
        self.buffer = torch.zeros(capacity, dtype=torch.double, device=device)
        pinned = device.type == "cuda"
        # Two, for the copy of one may be under way while the next is filled.
        self._here = [torch.zeros(capacity, dtype=torch.double, pin_memory=pinned) for _ in range(2)]

    def begin(self) -> None:
        """Give places anew: a recording starts."""
        self._places.clear()

    def take(self, draw: Draw) -> Tensor:
        """The place of the drawing, with its shape and type."""
        like = draw(self.generator)
        start = self._places[-1].stop if self._places else 0
        self._places.append(_Place(start, start + like.numel(), draw))
        if self.device.type == "cpu":
            self.buffer[start : start + like.numel()] = like.flatten()
        return self.buffer[start : start + like.numel()].view(like.shape).to(like.dtype)

    def renew(self) -> None:
        """Draw the numbers of the next replay and send them; that of two calls ago must have been used."""
        here = self._here[0]
        self._here.reverse()
        for start, stop, draw in self._places:
            here[start:stop] = draw(self.generator).flatten()
        used = self._places[-1].stop
        self.buffer[:used].copy_(here[:used], non_blocking=True)

"""How far a run is, and what follows from it: learning rate and icosphere level."""

import math
import time
from dataclasses import dataclass, field

from recon.config import TrainConfig

COSINE_FLOOR = 0.01
"""Where the cosine ends, relative to where it starts: the last steps only settle."""

POSES_FROM = 0.35
"""Part of the surface's schedule from which poses are learned: until the shape is known, it takes the blame."""


@dataclass
class Progress:
    """The fraction of a run that is done, by iterations or, with a budget, by wall clock.

    Attributes:
        iterations: length of the run without a budget.
        budget: seconds that the run may take, or None.
        spent: seconds that count as used when the clock starts.
    """

    iterations: int
    budget: float | None = None
    spent: float = 0.0
    iteration: int = 0
    _started: float = field(default_factory=time.monotonic)
    _paced_from: tuple[int, float] | None = None

    @property
    def seconds(self) -> float:
        """Seconds used so far."""
        return self.spent + time.monotonic() - self._started

    def resume(self, iteration: int, seconds: float) -> None:
        """Go on after `iteration` iterations that took `seconds`."""
        self.iteration, self.spent, self._started = iteration, seconds, time.monotonic()
        self._paced_from = None

    @property
    def fraction(self) -> float:
        """In [0, 1]; 1 when the run is over."""
        used = self.iteration / self.iterations if self.budget is None else self.seconds / self.budget
        return min(used, 1.0)

    @property
    def seconds_left(self) -> float:
        """Estimated from the pace since this was first asked; infinite until there is one.

        What comes before the first iteration, or was done by a process before this one, says nothing of what is left.
        """
        if self.budget is not None:
            return max(self.budget - self.seconds, 0.0)
        if self._paced_from is None:
            self._paced_from = self.iteration, self.seconds
        done, seconds = self.iteration - self._paced_from[0], self.seconds - self._paced_from[1]
        return seconds / done * (self.iterations - self.iteration) if done > 0 else math.inf


def learning_rate(config: TrainConfig, fraction: float) -> float:
    """The step size at `fraction` of the run.

    A cosine falls from the configured rate to `COSINE_FLOOR` of it; steps fall by `gamma` at each milestone.
    """
    match config.schedule:
        case "constant":
            factor = 1.0
        case "cosine":
            factor = COSINE_FLOOR + (1 - COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * fraction))
        case "step":
            factor = config.gamma ** sum(fraction >= milestone for milestone in config.milestones)
    return config.learning_rate * factor


def level(config: TrainConfig, fraction: float) -> int:
    """The icosphere level at `fraction` of the run: the levels share it equally."""
    index = min(int(fraction * len(config.levels)), len(config.levels) - 1)
    return config.levels[index]

"""Early stopping: the end of a run whose watched viewpoint set no longer gains, and the way back to its best."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from recon.config import StoppingConfig
from recon.errors import ReconError
from recon.model.model import Model


class EarlyStopping:
    """The best weights so far by the error of the watched set, and how many checks ago it last gained.

    Any smaller error is the best; only one that falls by more than `min_change` since the last that did
    counts as gain. Without a set to watch this does nothing.

    Attributes:
        iteration: of the best weights.
        errors: of all viewpoint sets with them.
        bad_checks: checks since the last gain.
    """

    def __init__(self, config: StoppingConfig) -> None:
        self._config = config
        self.iteration = 0
        self.errors: dict[str, float] = {}
        self.bad_checks = 0
        self._best = self._reference = math.inf
        self._weights: dict[str, Tensor] = {}

    @property
    def over(self) -> bool:
        """Whether training should end."""
        return self.bad_checks >= self._config.patience

    def update(self, errors: Mapping[str, float], iteration: int, model: Model) -> None:
        """Take note of a check. An error that is not a number is no gain."""
        if self._config.set is None:
            return
        error = errors[self._config.set]
        if error < self._best:
            self._best, self.iteration, self.errors = error, iteration, dict(errors)
            self._weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        if error < self._reference - self._config.min_change:
            self._reference = error
            self.bad_checks = 0
        else:
            self.bad_checks += 1

    def restore(self, model: Model) -> bool:
        """Give `model` the best weights and forget them; False where there are none."""
        found = bool(self._weights)
        if found:
            model.load_state_dict(self._weights)
        self._weights = {}
        return found

    def state_dict(self) -> dict[str, Any]:
        """Plain data that a checkpoint holds and `load_state_dict` takes back."""
        return {
            "iteration": self.iteration,
            "errors": self.errors,
            "bad_checks": self.bad_checks,
            "best": self._best,
            "reference": self._reference,
            "weights": self._weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.iteration, self.errors = state["iteration"], dict(state["errors"])
        self.bad_checks, self._best, self._reference = state["bad_checks"], state["best"], state["reference"]
        self._weights = dict(state["weights"])

    def __str__(self) -> str:
        checks = "1 check" if self.bad_checks == 1 else f"{self.bad_checks} checks"
        return f"no gain on '{self._config.set}' in {checks}; the best weights are those of iteration {self.iteration}"


def check_watched(config: StoppingConfig, names: Collection[str]) -> None:
    """Raise `ReconError` where the set to watch is not one of those that are measured."""
    if config.set is not None and config.set not in names:
        known = f"there are: {', '.join(names)}" if names else "none was given with --validation"
        raise ReconError(f"key 'train.early_stopping.set': no validation set '{config.set}'; {known}")

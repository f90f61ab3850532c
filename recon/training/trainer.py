"""A training as a whole, which may be stopped at any moment and goes on from its last state."""

import sys
import time
from collections.abc import Callable
from typing import Any

from recon.errors import ReconError
from recon.tracking import Exporter
from recon.training.interruption import Interrupted, Interruption
from recon.training.loop import Optimisation, Step
from recon.training.recorder import Recorder
from recon.training.state import StateFile
from recon.training.stopping import EarlyStopping

LARGEST_SHARE = 0.02
"""Part of the time that keeping states may take: large ones are kept less often."""


class Trainer:
    """Takes iterations and checkpoints in turn, and keeps a state every `every` seconds.

    MLflow gets the rows of an iteration only once a state holds it, so that a run which goes on repeats
    nothing there.
    """

    def __init__(
        self,
        optimisation: Optimisation,
        recorder: Recorder,
        stopping: EarlyStopping,
        states: StateFile,
        tracker: Exporter,
        every: float,
    ) -> None:
        self._optimisation = optimisation
        self._recorder = recorder
        self._stopping = stopping
        self._states = states
        self._tracker = tracker
        self._every = every
        self._saved = time.monotonic()
        self._cost = 0.0

    def run(self) -> None:
        """Train to the end, from wherever the optimisation is.

        Raises:
            ReconError: training diverges, or a file cannot be written. The last state stays.
            KeyboardInterrupt, SystemExit: a signal came; a state of this moment is kept.
        """
        try:
            with Interruption() as interruption:
                self._run(interruption)
        except Interrupted as interrupted:
            self._settle()
            self._save()
            self._recorder.line.close()
            where = f"iteration {self._optimisation.progress.iteration}"
            print(f"recon: {interrupted} at {where}; the same command goes on from there", file=sys.stderr)
            raise interrupted.exit() from None

    def _run(self, interruption: Interruption) -> None:
        self._save()
        progress = self._optimisation.progress
        self._recorder.line.say("taking the first iteration, which loads what is compiled")
        while progress.fraction < 1 and not self._stopping.over:
            interruption.check()
            if self._recorder.checkpoint_due:
                self._settle()
                self._checkpoint(interruption)
                self._save()
                if self._stopping.over:
                    break
            self._step()
            if time.monotonic() - self._saved > max(self._every, self._cost / LARGEST_SHARE):
                self._settle()
                self._save()
        self._settle()
        if self._stopping.over:
            self._recorder.line.close()
            print(f"recon: stopped at iteration {progress.iteration}: {self._stopping}", file=sys.stderr)
        else:
            self._checkpoint(interruption)
        if self._stopping.restore(self._optimisation.model):
            self._recorder.latest = self._stopping.errors
        self._save(finished=True)

    def _checkpoint(self, interruption: Interruption) -> None:
        iteration = self._optimisation.progress.iteration
        pictures = self._recorder.checkpoint(interruption.check)
        for name, picture in pictures.items():
            self._tracker.log_image(f"renders/{name}", picture, iteration)
        self._stopping.update(self._recorder.latest, iteration, self._optimisation.model)

    def _step(self) -> None:
        if self._optimisation.look_due:
            self._recorder.line.say("looking for the object in all views")
        self._record(self._optimisation.step)

    def _settle(self) -> None:
        """Have no iteration under way."""
        self._record(self._optimisation.settle)

    def _record(self, advance: Callable[[], Step | None]) -> None:
        try:
            step = advance()
        except ReconError:
            self._save()
            raise
        if step is not None:
            self._recorder.step(step)

    def _save(self, finished: bool = False) -> None:
        start = time.monotonic()
        self._recorder.save()
        self._states.save(content(self._optimisation, self._recorder, self._stopping, finished))
        self._tracker.release()
        self._saved = time.monotonic()
        self._cost = self._saved - start


def content(optimisation: Optimisation, recorder: Recorder, stopping: EarlyStopping, finished: bool) -> dict[str, Any]:
    """What a state holds."""
    return {
        "finished": finished,
        "optimisation": optimisation.state_dict(finished),
        "recorder": recorder.state_dict(),
        "stopping": stopping.state_dict(),
    }

"""A thread that hands things to the store in order, and waits out a store that is down."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from recon.tracking.store import one_line, passes

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between attempts: twice as long after each that failed, up to this."""

LAST_PAUSE = 2.0
"""Longest pause once somebody waits for the end."""


class Courier:
    """Does jobs one after the other in a thread of its own; submitting one returns at once.

    A job whose failure passes is tried again until it succeeds, and the jobs after it wait. Another
    failure is told once and kept in `failed` until a later job of that name succeeds.
    """

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self._jobs: deque[tuple[str, Callable[[], object]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._abandoned = False
        self._error: str | None = None
        # A daemon, because a process must be able to end while the store does not answer.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def submit(self, name: str, job: Callable[[], object]) -> None:
        """Do `job` after all that were submitted before; `name` says which failures it makes good."""
        with self._changed:
            self._jobs.append((name, job))
            self._changed.notify()

    def close(self, seconds: float) -> str | None:
        """Wait `seconds` at most for the rest; returns what was not done, in words, or None."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self._abandoned = True
            self._changed.notify()
            if self._jobs:
                return self._error or f"it took longer than {seconds:.0f} s"
        return next(iter(self.failed.values()), None)

    def _work(self) -> None:
        while (first := self._next()) is not None:
            name, job = first
            if not self._succeeds(name, job):
                return
            with self._changed:
                self._jobs.popleft()

    def _next(self) -> tuple[str, Callable[[], object]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closing)
            return self._jobs[0] if self._jobs and not self._abandoned else None

    def _succeeds(self, name: str, job: Callable[[], object]) -> bool:
        """Whether the job is over, done or failed for good; False where nobody waits for it any more."""
        pause = FIRST_PAUSE
        while True:
            try:
                job()
            except Exception as error:
                self._tell(error)
                if not passes(error):
                    self.failed[name] = one_line(error)
                    return True
            else:
                self.failed.pop(name, None)
                self._error = None
                return True
            if not self._pauses(pause):
                return False
            pause = min(2 * pause, LONGEST_PAUSE)

    def _pauses(self, seconds: float) -> bool:
        """Wait between attempts; False where nobody waits for the job any more."""
        start = time.monotonic()
        with self._changed:
            while not self._abandoned:
                left = start + (min(seconds, LAST_PAUSE) if self._closing else seconds) - time.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(left)
            return False

    def _tell(self, error: Exception) -> None:
        """Warn of the first failure; the last word comes when the run ends."""
        first, self._error = self._error is None and not self.failed, one_line(error)
        if first and not self._closing:
            print(f"recon: warning: MLflow does not take everything now: {self._error}", file=sys.stderr)

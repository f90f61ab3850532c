"""The end of a training from outside: Ctrl-C, a scheduler's SIGTERM."""

import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

IMPATIENCE = 1.0
"""Seconds after which another Ctrl-C is a person's second; a sooner one comes from a terminal or a
scheduler that tells each process of a job."""


class Interrupted(BaseException):
    """Training was asked to end, and is between two iterations."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number

    def exit(self) -> BaseException:
        """What ends the process as the signal would have: exit code 130 or 143."""
        return KeyboardInterrupt() if self.number == signal.SIGINT else SystemExit(128 + self.number)


class Interruption:
    """Takes note of signals, so that training ends where a state can be kept; a second Ctrl-C ends at once.

    with Interruption() as interruption:
        ...
        interruption.check()
    """

    def __init__(self) -> None:
        self._first: tuple[signal.Signals, float] | None = None
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # What is ignored stays so: a job in the background hears no Ctrl-C.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise `Interrupted` where a signal has come."""
        if self._first is not None:
            raise Interrupted(self._first[0])

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (signal.Signals(number), now)
        elif number == signal.SIGINT and now - self._first[1] > IMPATIENCE:
            raise KeyboardInterrupt

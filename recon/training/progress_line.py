"""What a person sees of a training, or of other long work: one live line, and a panel at the end."""

import sys
import time
from collections.abc import Sequence

REDRAW = 0.2
"""Seconds between redraws on a terminal."""

NEW_LINE = 15.0
"""Seconds between lines where the output is no terminal, such as a rule's log."""


class ProgressLine:
    """How far work is and how long it still takes, redrawn in place on a terminal and appended elsewhere.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._stream = sys.stderr
        self._quiet = quiet
        self._live = self._stream.isatty()
        self._last = -float("inf")
        self._drawn = False

    def update(self, fraction: float, iteration: int, loss: float, level: int, seconds_left: float) -> None:
        """Show where a training is, unless it was shown a moment ago."""
        self.show(fraction, f"iteration {iteration}  loss {loss:.5f}  level {level}  {clock(seconds_left)} left")

    def show(self, fraction: float, rest: str) -> None:
        """Show how much is done and the rest of the line, unless something was shown a moment ago."""
        now = time.monotonic()
        if now - self._last < (REDRAW if self._live else NEW_LINE):
            return
        self._last = now
        self._write(f"{fraction:4.0%}  {rest}")

    def say(self, what: str) -> None:
        """Show at once what is done now, where that takes seconds. It stays, for other lines may follow."""
        self.close()
        if not self._quiet:
            print(f"recon: {what}", file=self._stream, flush=True)

    def _write(self, text: str) -> None:
        if self._quiet:
            return
        self._stream.write(f"\r\x1b[K{text}" if self._live else f"{text}\n")
        self._stream.flush()
        self._drawn = self._live

    def close(self) -> None:
        """Take the live line away, so that other lines do not stick to it."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False


def clock(seconds: float) -> str:
    """12:05 or 1:02:03; a question mark for infinity."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def panel(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A box of labelled lines."""
    label = max(len(name) for name, _ in rows)
    lines = [f"{name:<{label}}  {value}" for name, value in rows]
    width = max(len(title) + 2, *(len(line) for line in lines))
    body = "\n".join(f"│ {line:<{width}} │" for line in lines)
    return f"╭─ {title} {'─' * (width - len(title) - 1)}╮\n{body}\n╰{'─' * (width + 2)}╯"

"""How far work on many files is, for a person who waits."""

import sys
import time
from types import TracebackType
from typing import TextIO

SILENT = 1.0
"""Seconds of work below which nothing is shown."""

REDRAW = 0.2
"""Seconds between redraws on a terminal."""

NEW_LINE = 5.0
"""Seconds between lines where the output is no terminal, such as a rule's log."""

BAR = 30
"""Characters."""


class Progress:
    """A bar, redrawn in place on a terminal and appended elsewhere.

    with Progress("reading", len(files)) as progress:
        for file in files:
            ...
            progress.advance()
    """

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        self._label, self._total, self._done = label, total, 0
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._start = time.monotonic()
        self._last = self._start + SILENT - (REDRAW if self._live else NEW_LINE)
        self._drawn = False

    def __enter__(self) -> "Progress":
        if self._total == 1:
            self._stream.write(f"{self._label} …{'' if self._live else chr(10)}")
            self._stream.flush()
            self._drawn = self._live
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def advance(self, count: int = 1) -> None:
        """`count` more are done."""
        self._done += count
        now = time.monotonic()
        if self._done == self._total or now - self._last < (REDRAW if self._live else NEW_LINE):
            return
        self._last = now
        left = (now - self._start) / self._done * (self._total - self._done)
        text = f"{self._label}  {bar(self._done, self._total)}  {self._done}/{self._total}  {left:.0f} s left"
        self._stream.write(f"\r\x1b[K{text}" if self._live else f"{text}\n")
        self._stream.flush()
        self._drawn = self._live


def bar(done: int, total: int) -> str:
    """As many of the bar's characters as are done, in blocks."""
    full = BAR * done // max(total, 1)
    return "█" * full + "░" * (BAR - full)

"""What is worth a line although it forbids nothing: said by `recon extract`, and kept with the views."""

import sys
from collections.abc import Iterable, Sequence

SHOWN = 4
"""Entries of a list that a line names; the others are counted."""


def say(lines: Iterable[str]) -> None:
    """Each as a warning on standard error."""
    for line in lines:
        print(f"recon: warning: {' '.join(line.split())}", file=sys.stderr)


def listed(entries: Sequence[object]) -> str:
    """The entries, or the first of many and how many there are."""
    if len(entries) <= SHOWN:
        return ", ".join(map(str, entries))
    return f"{', '.join(map(str, entries[: SHOWN - 1]))}, … ({len(entries)})"

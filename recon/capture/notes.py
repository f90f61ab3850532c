"""What is worth a line although it forbids nothing: said by `recon extract`, and kept with the views."""

import re
import sys
from collections.abc import Iterable, Sequence

OF_ONE = re.compile(r"(.*: )(frame \d+|image [^:]+): (.*)")
"""A line about one photograph: of what source, which, and what of it."""

LONG = 120
"""Characters of an entry that a line shows."""

SHOWN = 4
"""Entries of a list that a line names; the others are counted."""


def say(lines: Iterable[str]) -> None:
    """Each as a warning on standard error."""
    for line in lines:
        print(f"recon: warning: {' '.join(line.split())}", file=sys.stderr)


def merged(lines: Iterable[str]) -> list[str]:
    """Each line once; what holds of several photographs as one line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for line in dict.fromkeys(lines):
        found = OF_ONE.fullmatch(line)
        groups.setdefault((found[1], found[3]) if found else (line, ""), []).append(found[2] if found else "")
    return [f"{start}{listed(names)}: {rest}" if rest else start for (start, rest), names in groups.items()]


def listed(entries: Sequence[object]) -> str:
    """The entries, or the first of many and how many there are."""
    shown = [text if len(text := str(entry)) <= LONG else f"{text[:LONG]}…" for entry in entries]
    return ", ".join(shown) if len(shown) <= SHOWN else f"{', '.join(shown[: SHOWN - 1])}, … ({len(shown)})"

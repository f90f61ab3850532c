"""`python -m benchmarks [NAME …]`: run the named benchmarks, or all that need no training."""

import sys
from collections.abc import Callable

from benchmarks.flow import flow_passes
from benchmarks.render import one_view, window
from benchmarks.startup import help_time

BENCHMARKS: dict[str, Callable[[], str]] = {
    "startup": help_time,
    "render": one_view,
    "crop": window,
    "flow": flow_passes,
}


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"benchmarks: no '{unknown[0]}'; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names:
        print(BENCHMARKS[name](), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks [NAME …]`: run the named benchmarks, or all that need neither training nor browser."""

import sys
from collections.abc import Callable

from benchmarks.extract import extraction
from benchmarks.flow import flow_passes
from benchmarks.gpu import gpu
from benchmarks.memory import validation_memory
from benchmarks.render import crop, one_view
from benchmarks.report import report_page
from benchmarks.shader import shader
from benchmarks.startup import help_time
from benchmarks.sweep import sweep
from benchmarks.tracking import tracking_share

BENCHMARKS: dict[str, Callable[[], str]] = {
    "startup": help_time,
    "extract": extraction,
    "render": one_view,
    "crop": crop,
    "flow": flow_passes,
}
ON_DEMAND: dict[str, Callable[[], str]] = {
    "gpu": gpu,
    "memory": validation_memory,
    "report": report_page,
    "shader": shader,
    "sweep": sweep,
    "tracking": tracking_share,
}


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    known = BENCHMARKS | ON_DEMAND
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"benchmarks: no '{unknown[0]}'; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names:
        print(known[name](), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

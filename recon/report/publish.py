"""The report on the disk, and in MLflow beside what it describes."""

from collections.abc import Sequence
from pathlib import Path

from recon.report.page import report, report_page
from recon.run_folder import VIEWER
from recon.tracking import is_tracked, log_pages


def publish(runs: Sequence[Path], out: Path) -> None:
    """Write the report on `runs` to `out`, and add it to each of them in MLflow, where the store has them.

    There `report.html` is the page about all of them, and `viewer.html` that about the run alone.

    Raises:
        ReconError: a run or one of its files cannot be read, or `out` cannot be written.
    """
    report(runs, out)
    page = (out / "index.html").read_text(encoding="utf-8")
    for run in filter(is_tracked, runs):
        alone = page if len(runs) == 1 else report_page([run])
        log_pages(run, {"report.html": page, VIEWER.name: alone})

"""Validation and report, added to the run that trained."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import ReconError
from recon.tracking.runs import attach
from recon.tracking.store import store_exists
from recon.tracking.tracker import now

if TYPE_CHECKING:
    from mlflow import MlflowClient

BESIDE_SETS = ("geometry", "certificate")
"""JSON files of a validation that belong to no viewpoint set."""


def is_tracked(run: Path) -> bool:
    """Whether the folder `run` belongs to a run of the store; a store that is no file is believed to have it."""
    return (run / "run_id.txt").is_file() and store_exists()


def log_validation(run: Path, out: Path, names: Collection[str]) -> None:
    """Add what `recon validate` wrote to `out` to the run that trained `run`, where the store has it.

    The means of each viewpoint set become `final/NAME/…`, geometry and certificate `mesh/…`; all
    files become artifacts. Figures that the store has already stay single.
    """
    if not is_tracked(run):
        return
    numbers, files = validation_figures(out, names)
    with attach(run_id_of(run), run) as tracker:
        tracker.submit("validation", lambda client: send_figures(client, tracker.run_id, numbers))
        for path in files:
            tracker.log_artifact(path, "validation")


def log_pages(run: Path, pages: Mapping[str, str]) -> None:
    """Add HTML pages, by the names that they get as artifacts, to the run that trained `run`."""
    with attach(run_id_of(run), run) as tracker:
        for name, html in pages.items():
            tracker.log_text(name, html)


def run_id_of(run: Path) -> str:
    return (run / "run_id.txt").read_text().strip()


def validation_figures(out: Path, names: Collection[str]) -> tuple[dict[str, float], list[Path]]:
    """The metrics of the validation in the folder `out` on the sets `names`, and its files.

    Raises:
        ReconError: a file is damaged.
    """
    numbers: dict[str, float] = {}
    files = [out / "turntable.gif"]
    for name in (*names, *BESIDE_SETS):
        path = out / f"{name}.json"
        if path.is_file():
            content = _read(path)
            values, prefix = (content, "mesh") if name in BESIDE_SETS else (content.get("mean", {}), f"final/{name}")
            numbers |= {f"{prefix}/{key}": float(x) for key, x in values.items() if isinstance(x, int | float)}
            files += [path, path.with_suffix(".png")]
    return numbers, [path for path in files if path.is_file()]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReconError(f"{path}: not readable JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("mean", {}), dict):
        raise ReconError(f"{path}: not what `recon validate` writes")
    return content


def send_figures(client: "MlflowClient", run_id: str, numbers: Mapping[str, float]) -> int:
    """Log figures of a finished stage that the store has not got with that value; returns how many."""
    from mlflow.entities import Metric

    stored = client.get_run(run_id).data.metrics
    new = [
        Metric(key, value, now(), 0)
        for key, value in numbers.items()
        if key not in stored or not np.array_equal(stored[key], value, equal_nan=True)
    ]
    if new:
        client.log_batch(run_id, metrics=new)
    return len(new)

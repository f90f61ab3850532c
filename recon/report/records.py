"""What a report knows of a training run: the files in its folder and nothing else."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from recon.config import flatten
from recon.errors import ReconError
from recon.files import read_npz
from recon.run_folder import CERTIFICATE, CHECKS, CONFIG, GEOMETRY, HISTORY, OVERSHOOT, SURFACE, RunFolder

PUBLISHED = {"front": 0.00727, "full": 0.01483, "above": 0.01895, "below": 0.01959}
"""Losses of the reference work's week-3 report, by viewpoint set."""


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A training run as its files tell it. What was not written (yet) is None or empty.

    Attributes:
        name: the shortest end of its path that no other run of the report shares.
        history: one row an iteration; columns iteration, seconds, loss and the loss terms.
        checkpoints: validation while training; columns iteration, seconds, set, mean_absolute_error.
        config: the resolved configuration, dotted keys.
        sets: NAME.json of each validated viewpoint set.
        galleries: the folder of the pictures of every view of each.
        surface: the arrays of surface.npz.
        overshoot: the file of the brightest prediction.
        snapshots: the surface at checkpoints, by iteration.
        mesh: the mesh's file.
    """

    name: str
    folder: Path
    history: pd.DataFrame
    checkpoints: pd.DataFrame | None
    config: dict[str, Any]
    sets: dict[str, dict[str, Any]]
    galleries: dict[str, Path]
    geometry: dict[str, Any] | None
    certificate: dict[str, Any] | None
    surface: dict[str, np.ndarray] | None
    overshoot: Path | None
    snapshots: dict[int, Path]
    mesh: Path | None

    @property
    def seconds(self) -> float:
        return float(self.history["seconds"].iloc[-1])

    @property
    def iterations(self) -> int:
        return int(self.history["iteration"].iloc[-1])


def load_records(runs: Sequence[Path]) -> list[RunRecord]:
    """Read the files of each run.

    Raises:
        ReconError: a run has no history.csv, or one of its files cannot be read.
    """
    return [_load_record(run, name) for run, name in zip(runs, _short_names(runs), strict=True)]


def set_names(names: Iterable[str]) -> list[str]:
    """Viewpoint sets in the order of a report: those with published losses first."""
    known = list(PUBLISHED)
    return sorted(set(names), key=lambda name: (known.index(name) if name in known else len(known), name))


def _short_names(runs: Sequence[Path]) -> list[str]:
    """The shortest common number of trailing path parts that tells all runs apart."""
    parts = [run.resolve().parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    raise ReconError(f"--runs: {_first_repeated(parts)} is given twice")


def _first_repeated(parts: Sequence[tuple[str, ...]]) -> Path:
    return next(Path(*each) for i, each in enumerate(parts) if each in parts[:i])


def _load_record(run: Path, name: str) -> RunRecord:
    files = RunFolder(run)
    validation = files.validation
    history = _read_table(files.file(HISTORY), ("iteration", "seconds", "loss"))
    if history is None:
        raise ReconError(f"{run}: not a training run: {HISTORY.name} is missing or empty; `recon train` writes it")
    checkpoints = _read_table(files.file(CHECKS), ("iteration", "seconds", "set", "mean_absolute_error"))
    sets = {set_name: _read_metrics(validation.metrics(set_name)) for set_name in validation.sets()}
    return RunRecord(
        name=name,
        folder=run,
        history=history,
        checkpoints=checkpoints,
        config=_read_config(files.file(CONFIG)),
        sets=sets,
        galleries={
            each: validation.gallery(each) for each in sets if any(validation.gallery(each).glob("*_truth.png"))
        },
        geometry=_read_json_if_there(validation.file(GEOMETRY)),
        certificate=_read_json_if_there(validation.file(CERTIFICATE)),
        surface=_read_surface(validation.file(SURFACE)),
        overshoot=_existing(validation.file(OVERSHOOT)),
        snapshots=_snapshots(files, checkpoints),
        mesh=files.mesh,
    )


def _read_metrics(path: Path) -> dict[str, Any]:
    summary = _read_json(path)
    if not isinstance(summary.get("mean"), dict):
        raise ReconError(f"{path}: key 'mean' must hold the metrics; `recon validate` writes it")
    return summary


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def _snapshots(run: RunFolder, checkpoints: pd.DataFrame | None) -> dict[int, Path]:
    """Those of this training: a folder that was trained in before may hold others."""
    if checkpoints is None:
        return {}
    paths = {int(i): run.snapshot(int(i)) for i in sorted(checkpoints["iteration"].unique())}
    return {iteration: path for iteration, path in paths.items() if path.exists()}


def _read_surface(path: Path) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    arrays = read_npz(path)
    for key in ("vertices", "faces", "flow"):
        if key not in arrays:
            raise ReconError(f"{path}: key '{key}' is missing; `recon validate` writes it")
    return arrays


def _read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        text = path.read_text()
        # A training that goes on may be in the middle of a row.
        table = pd.read_csv(io.StringIO(text[: text.rfind("\n") + 1] or text))
    except (OSError, ValueError) as error:
        raise ReconError(f"{path}: not a readable table: {' '.join(str(error).split())}") from error
    for column in columns:
        if column not in table:
            raise ReconError(f"{path}: column '{column}' is missing")
    if table.empty:
        raise ReconError(f"{path}: has no rows yet")
    return table


def _read_json_if_there(path: Path) -> dict[str, Any] | None:
    return _read_json(path) if path.exists() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReconError(f"{path}: not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise ReconError(f"{path}: must hold a JSON object, got {type(content).__name__}")
    return content


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ReconError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    return flatten(content) if isinstance(content, Mapping) else {}

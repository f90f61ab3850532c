"""The CSV files of a run as MLflow's metrics.

A row's iteration is the step and its column `time` the time, so that a row is the same metric whenever
it is sent.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from recon.errors import ReconError

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILES = ("history.csv", "validation.csv")
ABOUT_A_ROW = ("iteration", "time", "seconds", "set")
TAIL = 1 << 16  # bytes that hold the last rows
LARGEST_BATCH = 1000  # MLflow's limit of metrics in one request


class Value(NamedTuple):
    """One metric, in the order of MLflow's own."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass
class Position:
    """How far a file was sent: its header, whole rows after it, and bytes up to their end."""

    header: bytes = b""
    rows: int = 0
    offset: int = 0


class Curves:
    """What the store has not got of the CSV files of the run in the folder `out`."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._sent = {name: Position() for name in FILES}
        self._stored: dict[str, set[int]] = {}
        self._unsure = False

    def sizes(self) -> dict[str, int]:
        """Bytes of the files now: what is written so far."""
        return {name: path.stat().st_size for name in FILES if (path := self._path(name)).exists()}

    def last_step(self) -> int:
        """The iteration of the last whole row of history.csv; 0 where there is none."""
        path = self._path("history.csv")
        if not path.exists():
            return 0
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().splitlines(keepends=True)
        whole = [line.partition(b",")[0] for line in lines if line.endswith(b"\n")]
        return int(whole[-1]) if whole and whole[-1].isdigit() else 0

    def learn(self, client: "MlflowClient", run_id: str) -> None:
        """Ask the store which steps it has, so that none is sent twice."""
        keys = [key for key in client.get_run(run_id).data.metrics if key.startswith(("train/", "val/"))]
        self._stored = {key: {metric.step for metric in client.get_metric_history(run_id, key)} for key in keys}

    def send(self, client: "MlflowClient", run_id: str, sizes: Mapping[str, int]) -> int:
        """Send what the files hold up to `sizes` and the store has not got; returns the number of values.

        What was sent before an error is not sent again by the next call.
        """
        if self._unsure:  # the store may have taken the last batch, and only its answer been lost
            self.learn(client, run_id)
        self._unsure = True
        count = sum(self._send_file(client, run_id, name, size) for name, size in sizes.items())
        self._unsure = False
        return count

    def _send_file(self, client: "MlflowClient", run_id: str, name: str, size: int) -> int:
        count, batch, end = 0, list[Value](), self._sent[name]
        for after, values in self._rows(name, size):
            values = [value for value in values if value.step not in self._stored.get(value.key, ())]
            if len(batch) + len(values) > LARGEST_BATCH:
                count += send_values(client, run_id, batch)
                self._sent[name], batch = end, []
            batch += values
            end = after
        count += send_values(client, run_id, batch)
        self._sent[name] = end
        return count

    def _rows(self, name: str, size: int) -> Iterator[tuple[Position, list[Value]]]:
        """The values of each whole row that was not sent, and the position after it."""
        path, sent = self._path(name), self._sent[name]
        if not path.exists():
            return
        with open(path, "rb") as file:
            header = file.readline()
            if header == sent.header:
                file.seek(sent.offset)
            else:  # the file is new, or was given more columns
                for _ in range(sent.rows):
                    file.readline()
            columns, rows = _cells(header), sent.rows
            while file.tell() < size and (line := file.readline()).endswith(b"\n"):
                rows += 1
                try:
                    values = _values(dict(zip(columns, _cells(line), strict=False)))
                except (ValueError, KeyError):
                    raise ReconError(f"{path}: line {rows + 1}: no row of a training's table") from None
                yield Position(header, rows, file.tell()), values

    def _path(self, name: str) -> Path:
        """Beside the checkpoint, where Snakemake removes no output that it has declared."""
        aside = self._out / "checkpoints" / name
        return aside if aside.exists() else self._out / name


def send_values(client: "MlflowClient", run_id: str, values: list[Value]) -> int:
    """Send metrics, in transactions of `LARGEST_BATCH`; returns how many."""
    from mlflow.entities import Metric

    metrics = [Metric(*value) for value in values]
    for start in range(0, len(metrics), LARGEST_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + LARGEST_BATCH])
    return len(values)


def _values(row: Mapping[str, str]) -> list[Value]:
    """`train/COLUMN` of a row of history.csv, `val/SET/COLUMN` of one of validation.csv."""
    prefix = f"val/{row['set']}" if "set" in row else "train"
    step = int(row["iteration"])
    # Runs of early versions have no times: they count from 1970.
    time = int(row["time"]) if "time" in row else round(1000 * float(row["seconds"]))
    cells = {f"{prefix}/{name}": _number(text) for name, text in row.items() if name not in ABOUT_A_ROW}
    return [Value(key, value, time, step) for key, value in cells.items() if value is not None]


def _cells(line: bytes) -> list[str]:
    return next(csv.reader([line.decode()]), [])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

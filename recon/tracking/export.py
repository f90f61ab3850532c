"""What the store has not got of a run's folder, and the way it gets there."""

import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as imageio

from recon.errors import ReconError
from recon.run_folder import (
    ARTIFACTS,
    CERTIFICATE,
    CHECKS,
    CONFIG,
    GEOMETRY,
    HISTORY,
    HOLES_PICTURE,
    RELIT,
    TURNTABLE,
    VIEWER,
    RunFile,
    RunFolder,
    ValidationFolder,
)
from recon.tracking.record import Record, now
from recon.tracking.store import active_run, experiment_id, open_client, passes

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric

INTERRUPTED, GOT_NOWHERE, ALBEDO, KEY = "recon.interrupted", "recon.got_nowhere", "recon.albedo", "recon.key"
OF_THE_END = (INTERRUPTED, GOT_NOWHERE, ALBEDO)
"""Tags that say how a run ended: one that goes on, or is done anew, loses them."""
PACKAGES = ("environment", "packages.txt")
TABLES = (HISTORY, CHECKS)
NO_METRICS = ("iteration", "time", "seconds", "set")
METRICS_AT_ONCE, PARAMETERS_AT_ONCE = 1000, 100  # MLflow's limits of one request


class Export:
    """Sends what the store has not got of the run in the folder `out`, each time that it is called.

    What the store has is asked at first, and again after a failure: it may have taken what it did not answer to.
    """

    def __init__(self, out: Path, record: Record) -> None:
        self._out, self._run, self._record = out, RunFolder(out), record
        self._informed = False

    def __call__(self, released: Mapping[RunFile, int] | None = None, validated: bool = False) -> Counter[str]:
        """Bring the run of the store up to date; returns how many metrics, renders and files that took.

        `released` are the bytes of the tables that a saved state holds, None for all there is; renders follow their
        rows. Files and the end are sent once the run is over, what validation wrote if `validated`.
        A failure that passes ends the call; another keeps nothing else back, and is raised in the end.
        """
        if not self._informed:
            self._ask()
        self._informed = False
        counts, refused = Counter[str](), list[Exception]()
        parts = [lambda: self._metrics(released or {}), lambda: self._renders(released or {}), self._files]
        for part in [*parts, self._validation] if validated else parts:
            try:
                counts += part()
            except Exception as error:
                if passes(error):
                    raise
                refused.append(error)
        if self._record.status != "RUNNING":
            self._tell_status()
        if refused:
            raise refused[0]
        self._informed = True
        return counts

    def _ask(self) -> None:
        """Find the run or create it, send what describes it, and learn what the store has of the rest."""
        from mlflow.entities import Param, RunTag

        record, client = self._record, open_client()
        run = active_run(client, record.run_id, record.experiment)
        if run is None:
            experiment, tags = experiment_id(client, record.experiment), record.tags | {KEY: record.key}
            # The store may have created it, and its answer been lost.
            known = client.search_runs([experiment], f"tags.`{KEY}` = '{record.key}'", max_results=1)
            run = known[0] if known else client.create_run(experiment, record.started, tags, record.name)
            record.run_id = run.info.run_id
            record.write(self._out)
        self._client, data = client, run.data
        if record.status == "RUNNING":
            self._tell_status()
        for tag in OF_THE_END:
            if tag in data.tags and tag not in record.tags:
                client.delete_tag(record.run_id, tag)
        client.log_batch(record.run_id, tags=[RunTag(*item) for item in record.tags.items() - data.tags.items()])
        params = (Param(key, value) for key, value in record.params.items() if key not in data.params)
        while some := list(islice(params, PARAMETERS_AT_ONCE)):
            client.log_batch(record.run_id, params=some)
        if inputs := [dataset_input(entry) for entry in record.datasets]:
            client.log_inputs(record.run_id, inputs)  # those that it has already stay single
        if sizes(client, record.run_id, PACKAGES[0]).get(PACKAGES[1], 0) != len(record.packages.encode()):
            client.log_text(record.run_id, record.packages, "/".join(PACKAGES))
        keys = [key for key in data.metrics if key.startswith(("train/", "val/"))]
        self._steps = {key: {metric.step for metric in client.get_metric_history(record.run_id, key)} for key in keys}
        self._rows = Counter[RunFile]()
        # MLflow sends a small copy of each picture last, so that a picture with one is whole.
        names = sizes(client, record.run_id, "images")
        found = (re.match(r"(.+)[+%]step[+%](\d+)[+%].*compressed", name) for name in names)
        self._pictures = {(match[1].replace("#", "~"), int(match[2])) for match in found if match}

    def _tell_status(self) -> None:
        record = self._record
        if self._client.get_run(record.run_id).info.status == record.status:
            return
        if record.status == "RUNNING":
            self._client.update_run(record.run_id, record.status)
            return
        for tag in OF_THE_END:
            if tag in record.tags:
                self._client.set_tag(record.run_id, tag, record.tags[tag])
        self._client.set_terminated(record.run_id, record.status, record.ended)

    def _metrics(self, released: Mapping[RunFile, int]) -> Counter[str]:
        new = (metric for table in TABLES for metric in self._new_metrics(table, released.get(table)))
        counts = Counter[str]()
        while some := list(islice(new, METRICS_AT_ONCE)):
            self._client.log_batch(self._record.run_id, metrics=some)
            counts["metrics"] += len(some)
        return counts

    def _new_metrics(self, table: RunFile, size: int | None) -> "Iterator[Metric]":
        path = self._run.table(table)
        for row in table_rows(path, size, skip=self._rows[table]):
            self._rows[table] += 1
            try:
                metrics = list(row_metrics(row))
            except (KeyError, TypeError, ValueError):
                raise ReconError(f"{path}: line {self._rows[table] + 1}: no row of a training's table") from None
            yield from (metric for metric in metrics if metric.step not in self._steps.get(metric.key, ()))

    def _renders(self, released: Mapping[RunFile, int]) -> Counter[str]:
        counts = Counter[str]()
        rows = table_rows(self._run.table(CHECKS), released.get(CHECKS))
        checked = {row["iteration"] for row in rows}
        for path in sorted(self._run.renders.glob("*/[0-9]*.png"), key=lambda path: path.stem):
            series, step = path.parent.name, int(path.stem)
            if str(step) in checked and (series, step) not in self._pictures:
                self._client.log_image(
                    self._record.run_id,
                    imageio.imread(path),
                    key=series.replace("~", "/"),
                    step=step,
                    timestamp=round(1000 * path.stat().st_mtime),
                    synchronous=True,
                )
                self._pictures.add((series, step))
                counts["renders"] += 1
        return counts

    def _files(self) -> Counter[str]:
        # A mesh in the folder of a training that did not come to its end is that of an earlier one.
        files = {"RUNNING": (), "FINISHED": ARTIFACTS}.get(self._record.status, (CONFIG, *TABLES))
        return send_files(self._client, self._record.run_id, map(self._run.file, files))

    def _validation(self) -> Counter[str]:
        folder = self._run.validation
        return send_validation(self._client, self._record.run_id, folder, folder.sets())


def send_validation(
    client: "MlflowClient", run_id: str, folder: ValidationFolder, names: Collection[str], again: bool = False
) -> Counter[str]:
    """Send what validation wrote: means of the sets `names` as `final/NAME/…`, geometry and certificate as `mesh/…`.

    Figures that the store has with that value stay single. Raises `ReconError` where a file is damaged.
    """
    from mlflow.entities import Metric

    figures: dict[str, float] = {}
    pictures = (TURNTABLE, RELIT, HOLES_PICTURE)
    files = [*map(folder.file, pictures), *map(folder.sheet, names)]
    sets = [(folder.metrics(name), f"final/{name}") for name in names]
    for path, prefix in (*sets, (folder.file(CERTIFICATE), "mesh"), (folder.file(GEOMETRY), "mesh")):
        if path.is_file():
            values = read_figures(path, mean=prefix != "mesh")
            figures |= {f"{prefix}/{name}": float(x) for name, x in values.items() if isinstance(x, int | float)}
            files.append(path)
    stored = client.get_run(run_id).data.metrics
    # As text, where NaN is the same as NaN.
    new = [Metric(key, x, now(), 0) for key, x in figures.items() if str(stored.get(key)) != str(x)]
    if new:
        client.log_batch(run_id, metrics=new)
    return Counter(metrics=len(new)) + send_files(client, run_id, files, folder="validation", again=again)


def read_figures(path: Path, mean: bool) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReconError(f"{path}: not readable JSON: {error}") from error
    figures = content.get("mean", {}) if mean and isinstance(content, dict) else content
    if not isinstance(figures, dict):
        raise ReconError(f"{path}: not what `recon validate` writes")
    return figures


def send_files(
    client: "MlflowClient", run_id: str, paths: Iterable[Path], folder: str | None = None, again: bool = False
) -> Counter[str]:
    """Send the files that there are and the store has not got in that size, or all of them `again`."""
    counts = Counter[str]()
    if present := [path for path in paths if path.is_file()]:
        stored = {} if again else sizes(client, run_id, folder)
        for path in present:
            # The report has put a better page in place of the training's.
            if stored.get(path.name) != path.stat().st_size and (path.name != VIEWER.name or path.name not in stored):
                client.log_artifact(run_id, str(path), folder)
                counts["files"] += 1
    return counts


def sizes(client: "MlflowClient", run_id: str, folder: str | None) -> dict[str, int]:
    """The files that the store has in a folder of the run's artifacts, and their bytes."""
    return {Path(file.path).name: file.file_size or 0 for file in client.list_artifacts(run_id, folder)}


def dataset_input(entry: Mapping[str, str]) -> "DatasetInput":
    """A viewpoint set as MLflow's. One that is trained on and validated on keeps the first of its contexts there."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(entry["name"], entry["digest"], "local", json.dumps({"uri": entry["path"]}))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", entry["context"])])


def table_rows(path: Path, size: int | None = None, skip: int = 0) -> Iterator[dict[str, str]]:
    """The rows of a table that are whole, within its first `size` bytes, but for the first `skip`."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        whole = takewhile(lambda line: line.endswith(b"\n") and (size is None or file.tell() <= size), file)
        header = list(islice(whole, 1))
        yield from csv.DictReader(map(bytes.decode, chain(header, islice(whole, skip, None))))


def row_metrics(row: Mapping[str, str]) -> "Iterator[Metric]":
    """`train/COLUMN` of a row of the history, `val/SET/COLUMN` of one of the checks.

    The iteration is the step and the column `time` the time, so that a row is the same metrics whenever it is sent.
    """
    from mlflow.entities import Metric

    prefix = f"val/{row['set']}" if "set" in row else "train"
    # Runs of early versions have no times: they count from 1970.
    time = int(row["time"]) if "time" in row else round(1000 * float(row["seconds"]))
    for name, text in row.items():
        if name not in NO_METRICS and text:
            yield Metric(f"{prefix}/{name}", float(text), time, int(row["iteration"]))

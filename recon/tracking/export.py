"""What the store has not got of a run's folder, and the way it gets there."""

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as imageio

from recon.errors import ReconError
from recon.run_folder import (
    ARTIFACTS,
    CHECKS,
    CONFIG,
    MEASURED_OF_THE_MESH,
    PICTURES,
    TABLES,
    VIEWER,
    RunFile,
    RunFolder,
    ValidationFolder,
)
from recon.tracking.record import Record, now
from recon.tracking.store import active_run, experiment_id, open_client, passes

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

INTERRUPTED, GOT_NOWHERE, ALBEDO, KEY = "recon.interrupted", "recon.got_nowhere", "recon.albedo", "recon.key"
OF_THE_END = (INTERRUPTED, GOT_NOWHERE, ALBEDO)
"""Tags that say how a run ended: one that goes on, or is done anew, loses them."""
PACKAGES = ("environment", "packages.txt")
NO_METRICS = ("iteration", "time", "seconds", "set")
ROWS_AT_ONCE = 1000  # in memory, as metrics


class Export:
    """Sends what the store has not got of the run in the folder `out`, each time that it is called.

    What the store has is asked at first, at the end, and after a failure: it may have taken what it did not answer to.
    """

    def __init__(self, out: Path, record: Record) -> None:
        self._run, self._record = RunFolder(out), record
        self._rows = Counter[RunFile]()  # of the tables, that need not be read again
        self._informed = False

    def __call__(self, released: Mapping[RunFile, int] | None = None, validated: bool = False) -> Counter[str]:
        """Bring the run of the store up to date; returns how many metrics, renders and files that took.

        `released` are the bytes of the tables that a saved state holds, None for all there is; renders follow their
        rows. Files and the end are sent once the run is over, what validation wrote if `validated`.
        A failure that passes ends the call; another keeps nothing else back, and is raised in the end.
        """
        if not self._informed or self._record.status != "RUNNING":
            self._ask()
        self._informed, self._released = False, released or {}
        counts, refused = Counter[str](), list[Exception]()
        for part in [self._metrics, self._renders, self._files, *[self._validation] * validated, self._end]:
            try:
                counts += part()
            except Exception as error:
                if passes(error):
                    raise
                refused.append(error)
        if refused:
            raise refused[0]
        self._informed = True
        return counts

    def _ask(self) -> None:
        """Find the run or create it, send what describes it, and learn what the store has of the rest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        client, record = open_client(), self._record
        self._client = client
        self._stored = run = active_run(client, record.run_id, record.experiment) or self._create()
        if record.status == "RUNNING" != run.info.status:
            client.update_run(record.run_id, record.status)
        for tag in OF_THE_END:
            if tag in run.data.tags and tag not in record.tags:
                client.delete_tag(record.run_id, tag)
        tags = [RunTag(*item) for item in record.tags.items() - run.data.tags.items()]
        params = [Param(key, value) for key, value in record.params.items() if key not in run.data.params]
        client.log_batch(record.run_id, params=params, tags=tags)
        for entry in record.datasets:  # those that it has already stay single
            dataset = Dataset(entry["name"], entry["digest"], "local", json.dumps({"uri": entry["path"]}))
            context = InputTag("mlflow.data.context", entry["context"])
            client.log_inputs(record.run_id, [DatasetInput(dataset, [context])])
        if sizes(client, record.run_id, PACKAGES[0]).get(PACKAGES[1], 0) != len(record.packages.encode()):
            client.log_text(record.run_id, record.packages, "/".join(PACKAGES))
        # Rows are sent in their order, so that the store has what precedes the last step that it has.
        self._last = {metric.key: metric.step for metric in run.data.to_proto().metrics}
        # MLflow sends a small copy of each picture last, so that a picture with one is whole. Older versions of it
        # part the name with other signs.
        names = (name.replace("#", "~").replace("%", "+") for name in sizes(client, record.run_id, "images"))
        self._pictures = {name.partition("+timestamp+")[0] for name in names if "+compressed" in name}

    def _create(self) -> "Run":
        client, record = self._client, self._record
        experiment, tags = experiment_id(client, record.experiment), record.tags | {KEY: record.key}
        # The store may have created it, and its answer been lost.
        known = client.search_runs([experiment], f"tags.`{KEY}` = '{record.key}'", max_results=1)
        run = known[0] if known else client.create_run(experiment, record.started, tags, record.name)
        record.run_id = run.info.run_id
        record.write(self._run.path)
        return run

    def _metrics(self) -> Counter[str]:
        counts = Counter[str]()
        for table in TABLES:
            rows = table_metrics(self._run.table(table), self._released.get(table), self._rows[table])
            while some := list(islice(rows, ROWS_AT_ONCE)):
                new = [metric for row in some for metric in row if metric.step > self._last.get(metric.key, -1)]
                self._client.log_batch(self._record.run_id, metrics=new)
                counts["metrics"] += len(new)
                self._rows[table] += len(some)
        return counts

    def _renders(self) -> Counter[str]:
        counts = Counter[str]()
        checked = {row["iteration"] for row in table_rows(self._run.table(CHECKS), self._released.get(CHECKS))}
        for path in sorted(self._run.renders.glob("*/[0-9]*.png"), key=lambda path: path.stem):
            series, step = path.parent.name, int(path.stem)
            name = f"{series}+step+{step}"
            if str(step) in checked and name not in self._pictures:
                self._client.log_image(
                    self._record.run_id,
                    imageio.imread(path),
                    key=series.replace("~", "/"),
                    step=step,
                    timestamp=round(1000 * path.stat().st_mtime),
                    synchronous=True,
                )
                self._pictures.add(name)
                counts["renders"] += 1
        return counts

    def _files(self) -> Counter[str]:
        # A mesh in the folder of a training that did not come to its end is that of an earlier one.
        files = {"RUNNING": (), "FINISHED": ARTIFACTS}.get(self._record.status, (CONFIG, *TABLES))
        return send_files(self._client, self._record.run_id, map(self._run.file, files))

    def _validation(self) -> Counter[str]:
        folder = self._run.validation
        return send_validation(self._client, self._record.run_id, folder, folder.sets())

    def _end(self) -> Counter[str]:
        record = self._record
        if record.status not in ("RUNNING", self._stored.info.status):
            self._client.set_terminated(record.run_id, record.status, record.ended)
        return Counter()


def send_validation(
    client: "MlflowClient", run_id: str, folder: ValidationFolder, names: Collection[str], again: bool = False
) -> Counter[str]:
    """Send what validation wrote: means of the sets `names` as `final/NAME/…`, geometry and certificate as `mesh/…`.

    Figures that the store has with that value stay single. Raises `ReconError` where a file is damaged.
    """
    from mlflow.entities import Metric

    figures: dict[str, float] = {}
    sets = {folder.metrics(name): f"final/{name}" for name in names}
    mesh = {folder.file(each): "mesh" for each in MEASURED_OF_THE_MESH}
    for path, prefix in (sets | mesh).items():
        if path.is_file():
            values = read_figures(path, mean=path in sets)
            figures |= {f"{prefix}/{name}": float(x) for name, x in values.items() if isinstance(x, int | float)}
    stored = client.get_run(run_id).data.metrics
    # As text, where NaN is the same as NaN.
    new = [Metric(key, x, now(), 0) for key, x in figures.items() if str(stored.get(key)) != str(x)]
    client.log_batch(run_id, metrics=new)
    files = [*sets, *mesh, *map(folder.sheet, names), *map(folder.file, PICTURES)]
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
    present = [path for path in paths if path.is_file()]
    stored = sizes(client, run_id, folder) if present and not again else {}
    # The report has put a better page in place of the training's.
    stored |= {path.name: path.stat().st_size for path in present if path.name == VIEWER.name in stored}
    new = [path for path in present if stored.get(path.name) != path.stat().st_size]
    for path in new:
        client.log_artifact(run_id, str(path), folder)
    return Counter(files=len(new))


def sizes(client: "MlflowClient", run_id: str, folder: str | None) -> dict[str, int]:
    """The files that the store has in a folder of the run's artifacts, and their bytes."""
    return {Path(file.path).name: file.file_size or 0 for file in client.list_artifacts(run_id, folder)}


def table_rows(path: Path, size: int | None = None, skip: int = 0) -> Iterator[dict[str, str]]:
    """The rows of a table that are whole, within its first `size` bytes, but for the first `skip`."""
    content = path.read_bytes()[:size] if path.exists() else b""
    header, *rows = content[: content.rfind(b"\n") + 1].decode().split("\n")
    return csv.DictReader([header, *rows[skip:]])


def table_metrics(path: Path, size: int | None, skip: int) -> "Iterator[list[Metric]]":
    """What `table_rows` gives, as metrics: `train/COLUMN` of the history, `val/SET/COLUMN` of the checks.

    The iteration is the step and the column `time` the time, so that a row is the same metrics whenever it is sent.
    Raises `ReconError` at a row that is damaged.
    """
    from mlflow.entities import Metric

    for number, row in enumerate(table_rows(path, size, skip), skip + 2):
        prefix = f"val/{row['set']}" if "set" in row else "train"
        columns = [name for name, text in row.items() if name not in NO_METRICS and text]
        try:
            # Runs of early versions have no times: they count from 1970.
            time = int(row["time"]) if "time" in row else round(1000 * float(row["seconds"]))
            yield [Metric(f"{prefix}/{name}", float(row[name]), time, int(row["iteration"])) for name in columns]
        except (KeyError, TypeError, ValueError):
            raise ReconError(f"{path}: line {number}: no row of a training's table") from None

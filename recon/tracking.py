"""Runs in MLflow: what was trained, with which parameters, how it went, what came out.

The store is `MLFLOW_TRACKING_URI`, or else the SQLite file `results/mlflow.db` with its artifacts
beside it. Nothing else in recon imports MLflow, and here it is imported only when a run starts,
because that takes a second.
"""

import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from recon.errors import ReconError
from recon.files import writable_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///results/mlflow.db"
DEFAULT_EXPERIMENT = "recon"
SECONDS_BETWEEN_BATCHES = 5.0
LARGEST_BATCH = 1000  # MLflow's limit of metrics in one request
LARGEST_PARAMETER_BATCH = 100  # and of parameters


class Tracker:
    """An open MLflow run. Every call returns at once; one thread talks to the store.

    Once a run has started, a store that fails costs a warning and never the training.

    Attributes:
        run_id: MLflow's name of the run.
    """

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self.run_id = run_id
        self._client = client
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        self._metrics: list[tuple[str, float, int, int]] = []
        self._sent = time.monotonic()
        self._warned = False

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters of the run: flat, written once."""
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}
        self._submit(self._send_params, texts)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Values of `step`, such as `train/loss` or `val/front/mean_absolute_error`."""
        now = int(time.time() * 1000)
        self._metrics += [(name, float(value), now, step) for name, value in metrics.items()]
        late = time.monotonic() - self._sent > SECONDS_BETWEEN_BATCHES
        if late or len(self._metrics) + len(metrics) > LARGEST_BATCH:
            self._submit_metrics()

    def log_image(self, name: str, image: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """A picture in the run's image browser, one of a series along `step`."""
        self._submit(self._client.log_image, self.run_id, image.copy(), key=name, step=step)

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """A copy of the file `path`, under `folder` of the run's artifacts."""
        self._submit(self._client.log_artifact, self.run_id, str(path), folder)

    def log_text(self, name: str, text: str) -> None:
        """`text` as the artifact file `name`."""
        self._submit(self._client.log_text, self.run_id, text, name)

    def flush(self) -> None:
        """Wait until the store has everything, then release the thread. The last call to make."""
        self._submit_metrics()
        self._worker.shutdown(wait=True)

    def _submit_metrics(self) -> None:
        for start in range(0, len(self._metrics), LARGEST_BATCH):
            self._submit(self._send_metrics, self._metrics[start : start + LARGEST_BATCH])
        self._metrics = []
        self._sent = time.monotonic()

    def _send_metrics(self, values: list[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(self.run_id, metrics=[Metric(*value) for value in values])

    def _send_params(self, texts: dict[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(key, text) for key, text in texts.items()]
        for start in range(0, len(params), LARGEST_PARAMETER_BATCH):
            self._client.log_batch(self.run_id, params=params[start : start + LARGEST_PARAMETER_BATCH])

    def _submit(self, function: Any, *args: Any, **kwargs: Any) -> None:
        self._worker.submit(function, *args, **kwargs).add_done_callback(self._warn_once)

    def _warn_once(self, future: "Future[Any]") -> None:
        error = future.exception()
        if error is not None and not self._warned:
            self._warned = True
            print(f"recon: warning: MLflow did not take everything: {_one_line(error)}", file=sys.stderr)


@contextmanager
def start_run(name: str, params: Mapping[str, Any]) -> Iterator[Tracker]:
    """A new run called `name` with `params`; it ends as FINISHED, FAILED or KILLED with the block.

    The experiment is `MLFLOW_EXPERIMENT_NAME`, or else "recon".

    Raises:
        ReconError: the store cannot be opened.
    """
    client = _client()
    try:
        experiment = _experiment(client, os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT)
        run_id = client.create_run(experiment, tags=_tags(), run_name=name).info.run_id
    except Exception as error:
        raise _unusable(error) from error
    tracker = Tracker(client, run_id)
    tracker.log_params(params)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        tracker._submit_metrics()
        tracker._submit(client.set_terminated, run_id, status)
        tracker.flush()


@contextmanager
def attach(run_id: str) -> Iterator[Tracker]:
    """The run `run_id`, to add metrics and artifacts of later stages; its status stays.

    A run that the store does not have (the folder came from elsewhere) costs a warning only.
    """
    tracker = Tracker(_client(), run_id)
    try:
        yield tracker
    finally:
        tracker.flush()


def log_validation(run: Path, out: Path, names: Collection[str]) -> None:
    """Add what `recon validate` wrote to `out` to the run that trained `run`, where the store has it.

    The means of each viewpoint set become `final/NAME/…`, geometry and certificate `mesh/…`; all
    files become artifacts.
    """
    if not is_tracked(run):
        return
    files = {name: out / f"{name}.json" for name in (*names, "geometry", "certificate")}
    found = {name: json.loads(path.read_text()) for name, path in files.items() if path.is_file()}
    with attach((run / "run_id.txt").read_text().strip()) as tracker:
        for name, content in found.items():
            values, prefix = (content["mean"], f"final/{name}") if name in names else (content, "mesh")
            numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
            tracker.log_metrics({f"{prefix}/{key}": value for key, value in numbers.items()}, step=0)
            for path in (out / f"{name}.json", out / f"{name}.png"):
                if path.is_file():
                    tracker.log_artifact(path, "validation")
        if (out / "turntable.gif").is_file():
            tracker.log_artifact(out / "turntable.gif", "validation")


def log_pages(run: Path, pages: Mapping[str, str]) -> None:
    """Add HTML pages, by the names that they get as artifacts, to the run that trained `run`."""
    with attach((run / "run_id.txt").read_text().strip()) as tracker:
        for name, html in pages.items():
            tracker.log_text(name, html)


def is_tracked(run: Path) -> bool:
    """Whether the folder `run` belongs to a run of the store; a store that is no file is believed to have it."""
    return (run / "run_id.txt").is_file() and _store_exists()


def initialise_store() -> None:
    """Create the store and its tables where missing.

    Done once before trainings start side by side: MLflow's own lock holds on one machine, not on a
    file system that a cluster's machines share.

    Raises:
        ReconError: the store cannot be opened.
    """
    client = _client()
    try:
        _experiment(client, os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT)
    except Exception as error:
        raise _unusable(error) from error


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def _client() -> "MlflowClient":
    uri = tracking_uri()
    file = _sqlite_file(uri)
    if file is not None:
        writable_folder(file.parent)
    _silence()
    from mlflow import MlflowClient

    try:
        return MlflowClient(tracking_uri=uri)
    except Exception as error:
        raise _unusable(error) from error


def _store_exists() -> bool:
    """Whether there is something to add to; only a missing SQLite file is known without asking."""
    file = _sqlite_file(tracking_uri())
    return file is None or file.is_file()


def _silence() -> None:
    """A person who trains wants neither the migrations of a new database nor telemetry."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # a wrong address tells within seconds
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for every other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def _experiment(client: "MlflowClient", name: str) -> str:
    """The identifier of the experiment `name`, created where missing."""
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is not None:
        return known.experiment_id
    file = _sqlite_file(tracking_uri())
    artifacts = None if file is None else (file.parent / "mlruns" / name).resolve().as_uri()
    try:
        return client.create_experiment(name, artifact_location=artifacts)
    except MlflowException:
        # A training beside this one may have created it since we looked.
        known = client.get_experiment_by_name(name)
        if known is None:
            raise
        return known.experiment_id


def _tags() -> dict[str, str]:
    """The command, the state of the code, and what `RECON_TAGS` (a=b,c=d) adds: the rule under Snakemake."""
    tags = {"mlflow.source.name": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])}
    pairs = (pair.partition("=") for pair in os.environ.get("RECON_TAGS", "").split(",") if pair)
    return tags | _commit() | {key: value for key, _, value in pairs}


def _commit() -> dict[str, str]:
    """The commit of recon's own sources; nothing where they are installed from a package."""
    here = Path(__file__)
    tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name)
    commit = _git(here.parent, "rev-parse", "HEAD")
    if not tracked or not commit:
        return {}
    dirty = bool(_git(here.parent, "status", "--porcelain", "--untracked-files=no"))
    return {"mlflow.source.git.commit": commit, "git.dirty": str(dirty).lower()}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _unusable(error: Exception) -> ReconError:
    return ReconError(f"MLFLOW_TRACKING_URI {_without_password(tracking_uri())}: cannot be used: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    return textwrap.shorten(_without_password(str(error)), 240) or type(error).__name__


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", text)

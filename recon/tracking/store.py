"""The MLflow store: where it is, how it is opened, and which of its failures pass."""

import fcntl
import logging
import os
import re
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from recon.errors import ReconError
from recon.files import writable_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///results/mlflow.db"
DEFAULT_EXPERIMENT = "recon"
DEFAULTS = {
    # A person who trains wants neither the migrations of a new database nor telemetry.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # MLflow's own patience is many minutes a call; here who calls tries again, or tells within seconds.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
PASSING = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
}
"""MLflow's codes of failures after which the same call may succeed: no connection, a locked database."""

T = TypeVar("T")


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def open_client() -> "MlflowClient":
    """A client of the store.

    Raises:
        ReconError: the store cannot be opened.
    """
    uri = tracking_uri()
    file = _sqlite_file(uri)
    if file is not None:
        writable_folder(file.parent)
    _silence()
    from mlflow import MlflowClient

    try:
        with _alone(file):
            return patiently(lambda: MlflowClient(tracking_uri=uri))
    except Exception as error:
        raise unusable(error) from error


def initialise_store() -> None:
    """Create the store and its tables where missing.

    Done once before trainings start side by side: a lock keeps those of one machine apart, but not
    those of a cluster whose file system has none.

    Raises:
        ReconError: the store cannot be opened.
    """
    client = open_client()
    try:
        experiment_id(client, experiment_name())
    except Exception as error:
        raise unusable(error) from error


def store_exists() -> bool:
    """Whether there is something to add to; only a missing SQLite file is known without asking."""
    file = _sqlite_file(tracking_uri())
    return file is None or file.is_file()


def experiment_id(client: "MlflowClient", name: str) -> str:
    """The identifier of the experiment `name`, created where missing."""
    from mlflow.exceptions import MlflowException

    known = patiently(lambda: client.get_experiment_by_name(name))
    if known is not None:
        return known.experiment_id
    file = _sqlite_file(tracking_uri())
    artifacts = None if file is None else (file.parent / "mlruns" / _folder(name)).resolve().as_uri()
    try:
        return patiently(lambda: client.create_experiment(name, artifact_location=artifacts))
    except MlflowException:
        # A training beside this one may have created it since we looked.
        known = client.get_experiment_by_name(name)
        if known is None:
            raise
        return known.experiment_id


def patiently(call: Callable[[], T], attempts: int = 4) -> T:
    """What `call` returns, tried again where other processes hold a SQLite database locked."""
    for attempt in range(1, attempts):
        try:
            return call()
        except Exception as error:
            if "database is locked" not in str(error):
                raise
            time.sleep(0.5 * attempt)
    return call()


def passes(error: BaseException) -> bool:
    """Whether the call that raised `error` may succeed later: the store is down, slow or locked."""
    from mlflow.exceptions import MlflowException
    from requests import HTTPError, RequestException

    if isinstance(error, MlflowException):
        return error.error_code in PASSING
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, RequestException | OSError) and not isinstance(error, FileNotFoundError)


def is_missing(error: BaseException) -> bool:
    """Whether `error` says that the store does not have what was asked for."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


def unusable(error: Exception) -> ReconError:
    if isinstance(error, ReconError):
        return error
    return ReconError(f"MLFLOW_TRACKING_URI {without_password(tracking_uri())}: cannot be used: {one_line(error)}")


def one_line(error: BaseException) -> str:
    return textwrap.shorten(without_password(str(error)), 240) or type(error).__name__


@contextmanager
def _alone(database: Path | None) -> Iterator[None]:
    """Open a SQLite database while no other process does: two that create its tables spoil it.

    Held on one machine; on a file system without locks, a store is created before it is shared.
    """
    if database is None:
        yield
        return
    with open(database.with_name(f"{database.name}.lock"), "a") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _silence() -> None:
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # What fails there is raised too, and told in one line instead of a traceback for each attempt.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for every other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def _folder(experiment: str) -> str:
    """A folder's name for the experiment's artifacts: one that stays where it belongs."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", experiment).strip(".") or "_"


def without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", text)

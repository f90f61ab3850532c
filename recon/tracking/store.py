"""The MLflow store: where it is, how it is opened, and which of its failures pass."""

import logging
import os
import re
import shlex
import sqlite3
import textwrap
from contextlib import ExitStack, closing, suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from recon.errors import ReconError
from recon.files import writable_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DEFAULTS = {
    # A person who trains wants neither the migrations of a new database nor telemetry.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # MLflow's own patience is many minutes a call, and creates a run again where the answer was lost; here who calls
    # looks what the store has and tries again, or tells within seconds.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
SCHEMES = {"", "file", "http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc"}
SQLITE, DELETED = "sqlite:///", "deleted"


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}results/mlflow.db"


def experiment_name(otherwise: str = "recon") -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or otherwise


def sqlite_file() -> Path | None:
    """The file of a SQLite store; None for every other store."""
    uri = tracking_uri()
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


def check_uri() -> None:
    """Raise `ReconError` where no store can ever answer: an unknown scheme, a folder that takes no files."""
    scheme, file = urlsplit(tracking_uri()).scheme.partition("+")[0], sqlite_file()
    if scheme not in SCHEMES and not entry_points(group="mlflow.tracking_store", name=scheme):
        raise unusable(ValueError(f"MLflow knows no store '{scheme}:'"))
    if file is not None:
        writable_folder(file.parent)


def open_client() -> "MlflowClient":
    """A client of the store; raises what MLflow raises, or `ReconError`."""
    check_uri()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # What fails there is raised too, and told in one line instead of a traceback for each attempt.
    for logger in ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    from mlflow import MlflowClient

    file = sqlite_file()
    with ExitStack() as stack:
        if file is not None:
            # Two processes that create the tables at once spoil them. On a file system without locks, `recon store`
            # creates them before trainings share the file.
            with suppress(OSError):
                stack.enter_context(FileLock(f"{file}.lock", fallback_to_soft=False))
        client = MlflowClient(tracking_uri=tracking_uri())
        if file is not None:
            _bring_artifacts_along(file)
    return client


def initialise_store() -> None:
    """Create the store, its tables and the experiment where missing: once, before trainings start side by side.

    Raises:
        ReconError: the store cannot be used, or the experiment was deleted.
    """
    try:
        experiment_id(open_client(), experiment_name())
    except Exception as error:
        raise unusable(error) from error


def experiment_id(client: "MlflowClient", name: str) -> str:
    """The identifier of the experiment `name`, created where missing. Raises `ReconError` where it was deleted."""
    from mlflow.exceptions import MlflowException

    known, file = client.get_experiment_by_name(name), sqlite_file()
    if known is None:
        artifacts = None if file is None else f"{_artifacts(file)}/{_folder(name)}"
        try:
            return client.create_experiment(name, artifact_location=artifacts)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return experiment_id(client, name)  # a training beside this one has created it since we looked
    if known.lifecycle_stage == DELETED:
        raise _deleted("experiment", known.experiment_id, f" '{name}'")
    return known.experiment_id


def active_run(client: "MlflowClient", run_id: str, experiment: str | None = None) -> "Run | None":
    """The run, which takes more; None where there is none, or a deleted experiment other than `experiment` has it.

    Raises:
        ReconError: it was deleted, alone or with its experiment.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if run is None or run.info.lifecycle_stage != DELETED:
        return run
    its = client.get_experiment(run.info.experiment_id)
    if its.lifecycle_stage != DELETED:
        raise _deleted("run", run_id)
    if experiment in (None, its.name):
        raise _deleted("experiment", its.experiment_id, f" '{its.name}'")
    return None


def _deleted(kind: str, identifier: str, name: str = "") -> ReconError:
    """What to do about it: a command for this store, whose address is left out where it has a password."""
    uri = tracking_uri()
    where = f"MLFLOW_TRACKING_URI={shlex.quote(uri)} " if without_password(uri) == uri else ""
    restore = f"`{where}mlflow {kind}s restore --{kind}-id {identifier}` brings it back"
    another = ", or MLFLOW_EXPERIMENT_NAME=another takes another" if kind == "experiment" else ""
    return ReconError(f"MLflow's {kind}{name} was deleted: {restore}{another}")


def passes(error: BaseException) -> bool:
    """Whether the call that raised `error` may succeed later: the store is down, slow or locked."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    else:
        status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return status >= 500 or status == 429
    # What `requests` raises is an OSError too.
    return isinstance(error, OperationalError | OSError) and not isinstance(error, FileNotFoundError)


def unusable(error: Exception) -> ReconError:
    if isinstance(error, ReconError):
        return error
    return ReconError(f"MLFLOW_TRACKING_URI {without_password(tracking_uri())}: cannot be used: {one_line(error)}")


def one_line(error: BaseException) -> str:
    text = without_password(str(error))
    return text if isinstance(error, ReconError) else textwrap.shorten(text, 240) or type(error).__name__


def without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def _artifacts(database: Path) -> str:
    """Where the artifacts of a SQLite store lie: beside it."""
    return (database.parent / "mlruns").resolve().as_uri()


def _folder(experiment: str) -> str:
    """A folder's name for the experiment's artifacts: one that stays where it belongs."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", experiment).strip(".") or "_"


def _bring_artifacts_along(database: Path) -> None:
    """Point MLflow to the artifacts beside the database, which may have been moved or copied with them.

    It keeps absolute paths only, and would write to the old place. What it numbers by itself lies elsewhere.
    """
    here = _artifacts(database)
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        rows = connection.execute("SELECT artifact_location, experiment_id, name FROM experiments").fetchall()
        for old, identifier, name in rows:
            there, _, folder = (old or "").rpartition("/")
            ours = re.match("(file:|/).*/mlruns$", there) and (folder == _folder(name) or not folder.isdecimal())
            if ours and there != here:
                for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                    change = f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE experiment_id = ?"
                    connection.execute(change, (f"{there}/", f"{here}/", identifier))

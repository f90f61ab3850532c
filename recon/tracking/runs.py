"""Runs that begin, go on and end."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.environment import environment_tags, packages
from recon.errors import ReconError
from recon.tracking.inputs import Dataset, send_inputs
from recon.tracking.record import Record, read_record, texts
from recon.tracking.renders import forget_renders
from recon.tracking.store import (
    experiment_id,
    experiment_name,
    is_missing,
    open_client,
    patiently,
    tracking_uri,
    unusable,
)
from recon.tracking.tracker import Tracker, now, send_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE = 30.0
"""Seconds that the end of a run waits for the store."""
HURRY = 10.0
"""And where it was interrupted: Slurm kills half a minute after it has told."""

INTERRUPTED = "recon.interrupted"
RESUMED = "recon.resumed"
SIGNALS = {130: "SIGINT", 143: "SIGTERM"}


@contextmanager
def start_run(
    name: str,
    params: Mapping[str, Any],
    *,
    out: Path | None = None,
    run_id: str | None = None,
    datasets: Sequence[Dataset] = (),
) -> Iterator[Tracker]:
    """A run called `name` with `params`; it ends as FINISHED, FAILED or KILLED with the block.

    The experiment is `MLFLOW_EXPERIMENT_NAME`, or else "recon". With `run_id` that run goes on, also
    while the store is down; where the store has no such run, a new one begins.

    Args:
        out: the run's folder, whose CSV files hold its metrics; None for a run without one.
        datasets: the viewpoint sets that it reads.

    Raises:
        ReconError: the store cannot be opened for a new run, or a dataset cannot be read.
    """
    entries = [dataset.entry() for dataset in datasets]
    tags = environment_tags()
    opened = cache(open_client)
    going_on = run_id if run_id and _may_have(opened, run_id) else None
    record = Record(going_on or "", name, experiment_name(), now(), params=texts(params), tags=tags, datasets=entries)
    if going_on is None:
        record.run_id = create_run(opened(), record)
    elif out and (before := read_record(out)):
        record.started, record.experiment = before.started, before.experiment
    record.packages = packages()
    if out:
        record.write(out)
        if run_id is None:
            forget_renders(out)
    tracker = Tracker(record.run_id, opened, out)
    if going_on:
        tracker.submit("status", lambda client: go_on(client, record))
    tracker.submit("description", lambda client: describe(client, record))
    if run_id and out:
        tracker.deliver(out)
    with _system_metrics(record.run_id, resumed=going_on is not None):
        try:
            yield tracker
            record.status = "FINISHED"
        except (KeyboardInterrupt, SystemExit) as error:
            record.status = "KILLED"
            record.tags[INTERRUPTED] = _signal(error)
            raise
        except BaseException:
            record.status = "FAILED"
            raise
        finally:
            record.ended = now()
            tracker.release()
            tracker.submit("status", lambda client: end(client, record))
            if out:
                with suppress(ReconError):  # whatever ended the run is what has to be told
                    record.write(out)
            tracker.close(HURRY if record.status == "KILLED" else PATIENCE)


@contextmanager
def attach(run_id: str, out: Path | None = None) -> Iterator[Tracker]:
    """The run `run_id`, to add metrics and artifacts of later stages; its status stays.

    A run that the store does not have (the folder came from elsewhere) costs a warning only.
    """
    tracker = Tracker(run_id, cache(open_client), advice=out)
    try:
        yield tracker
    finally:
        tracker.close(PATIENCE)


def create_run(client: "MlflowClient", record: Record) -> str:
    """A new run of the store; returns its identifier.

    Raises:
        ReconError: the store cannot be used.
    """
    try:
        experiment = experiment_id(client, record.experiment)
        run = patiently(
            lambda: client.create_run(experiment, start_time=record.started, tags=record.tags, run_name=record.name)
        )
    except Exception as error:
        raise unusable(error) from error
    return run.info.run_id


def go_on(client: "MlflowClient", record: Record) -> None:
    """Tell the store that a run that had ended, or never told its end, is running again."""
    tags = client.get_run(record.run_id).data.tags
    record.tags[RESUMED] = str(int(tags.get(RESUMED, "0")) + 1)
    client.update_run(record.run_id, status="RUNNING")
    send_tags(client, record.run_id, record.tags)
    if INTERRUPTED in tags:
        client.delete_tag(record.run_id, INTERRUPTED)


def describe(client: "MlflowClient", record: Record) -> None:
    """Send parameters, datasets and packages of a run."""
    send_params(client, record.run_id, record.params)
    send_inputs(client, record.run_id, record.datasets)
    client.log_text(record.run_id, record.packages, "environment/packages.txt")


def end(client: "MlflowClient", record: Record) -> None:
    """Tell the store how the run ended."""
    send_tags(client, record.run_id, {key: record.tags[key] for key in (INTERRUPTED,) if key in record.tags})
    client.set_terminated(record.run_id, record.status, record.ended)


def send_tags(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _may_have(opened: Any, run_id: str) -> bool:
    """Whether the store has the run, or cannot be asked now."""
    try:
        opened().get_run(run_id)
    except Exception as error:
        return not is_missing(error)
    return True


def _signal(error: BaseException) -> str:
    code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "code", None)
    return SIGNALS.get(code, f"exit {code}") if isinstance(code, int) else "exit"


@contextmanager
def _system_metrics(run_id: str, resumed: bool) -> Iterator[None]:
    """CPU, memory, GPU and network of the machine along the run, where MLflow's own variable asks for them."""
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() not in ("1", "true"):
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    try:
        monitor = SystemMetricsMonitor(run_id, resume_logging=resumed, tracking_uri=tracking_uri())
        monitor.start()
    except Exception as error:
        print(f"recon: warning: no system metrics: {error}", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        monitor.finish()

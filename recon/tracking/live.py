"""The export of a run while it goes: in a thread of its own, so that no training waits for the store."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from jaxtyping import UInt8

from recon.environment import environment_tags, packages
from recon.errors import ReconError
from recon.files import atomic, writable_folder
from recon.run_folder import TABLES, RunFolder
from recon.tracking.export import INTERRUPTED, Export
from recon.tracking.record import Dataset, Record, now, read_record, texts
from recon.tracking.store import check_uri, experiment_name, one_line, open_client, passes, sqlite_file, tracking_uri

PATIENCE, HURRY = 30.0, 10.0
"""Seconds that the end of a run waits for the store, and of one interrupted: Slurm kills soon after it has told."""
PAUSE = 5.0
"""Seconds between attempts while the store is down; each costs some milliseconds."""
RESUMED = "recon.resumed"
SIGNALS: dict[object, str] = {130: "SIGINT", 143: "SIGTERM"}


class Uploads:
    """Does `job` in a thread each time that it is asked to, and again while its failures pass."""

    def __init__(self, job: Callable[[], object]) -> None:
        self._job, self._error, self._deadline = job, "", math.inf
        self._asked = threading.Event()
        # A daemon, because a process must be able to end while the store does not answer.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def close(self, seconds: float, advice: str) -> None:
        """Do it a last time. Where that takes more than `seconds` or fails, a warning says so and gives `advice`."""
        self._deadline = time.monotonic() + seconds
        self._asked.set()
        self._thread.join(seconds)
        if self._error or self._thread.is_alive():
            reason = self._error or f"it took longer than {seconds:.0f} s"
            print(f"recon: warning: MLflow did not take everything: {reason}; {advice}", file=sys.stderr)

    def _work(self) -> None:
        over = False
        while not over and time.monotonic() < self._deadline:
            self._asked.wait()
            self._asked.clear()
            last = over = self._deadline < math.inf
            try:
                self._job()
                self._error = ""
            except Exception as error:
                first, self._error = not self._error, one_line(error)
                if first and not last:
                    print(f"recon: warning: MLflow does not take everything now: {self._error}", file=sys.stderr)
                if passes(error):
                    over = False
                    self._asked.wait(PAUSE)
                    self._asked.set()


class Exporter(Uploads):
    """An open run: what a saved state holds of its folder is sent, so that a run that goes on repeats nothing."""

    def __init__(self, out: Path, record: Record) -> None:
        self._run, self._record, self._export = RunFolder(out), record, Export(out, record)
        self._monitor: Any = None
        super().__init__(self._send)
        self.release()

    def log_image(self, name: str, image: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """Keep a picture, which is sent with the rows of `step` in the table of checks."""
        try:
            with atomic(self._run.renders / name.replace("/", "~") / f"{step:07d}.png") as temporary:
                imageio.imwrite(temporary, image, extension=".png")
        except ReconError as error:  # a picture less is no reason to end a training
            print(f"recon: warning: {error}", file=sys.stderr)

    def mark(self, tag: str, text: str | None) -> None:
        """Say of the run as a whole what its end brought; None: there is nothing to say."""
        if text is not None:
            # Not in place: the thread may be looking at them.
            self._record.tags = {**self._record.tags, tag: text}
            self._record.write(self._run.path)

    def release(self) -> None:
        """Have sent what the tables hold now: a state holds it too."""
        tables = {table: self._run.table(table) for table in TABLES}
        self._released = {table: path.stat().st_size if path.exists() else 0 for table, path in tables.items()}
        self._asked.set()

    def _send(self) -> None:
        # MLflow's monitor gives up at its first failure: after one of ours it is started anew.
        if self._monitor is not None and (self._error or self._record.status != "RUNNING"):
            self._monitor.finish()
            self._monitor = None
        self._export(self._released)
        asked = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in ("1", "true")
        if asked and self._monitor is None and self._record.status == "RUNNING":
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._monitor = SystemMetricsMonitor(self._record.run_id, resume_logging=True, tracking_uri=tracking_uri())
            self._monitor.start()


@contextmanager
def start_run(
    name: str, params: Mapping[str, Any], *, out: Path, datasets: Sequence[Dataset] = ()
) -> Iterator[Exporter]:
    """The run `name` in the folder `out`, or the one that is recorded there; the block's end is its status.

    A store that is down or slow, or whose experiment was deleted, costs a warning.

    Raises:
        ReconError: the store's address is wrong, or the folder cannot be written.
    """
    check_uri()
    entries, before = [dataset.entry() for dataset in datasets], read_record(out)
    record = Record(name, experiment_name(), now(), texts(params), environment_tags(), entries, packages())
    if before is not None:
        record.run_id, record.key, record.started = before.run_id, before.key, before.started
        record.experiment = experiment_name(before.experiment)
        record.tags[RESUMED] = str(int(before.tags.get(RESUMED, "0")) + 1)
    writable_folder(RunFolder(out).checkpoints)
    record.write(out)
    if sqlite_file() is not None:
        # Creating a database takes longer than a short training, whose end waits for the thread for a while only.
        with suppress(Exception):  # which the thread finds and tells
            open_client()
    exporter, status = Exporter(out, record), "FAILED"
    try:
        yield exporter
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit) as error:
        code, status = getattr(error, "code", 130), "KILLED"  # Ctrl-C has none
        record.tags = {**record.tags, INTERRUPTED: SIGNALS.get(code, f"exit {code}")}
        raise
    finally:
        # In this order: the thread takes the status as the sign that all is said.
        record.ended, record.status = now(), status
        with suppress(ReconError):  # whatever ended the run is what has to be told
            record.write(out)
        exporter.close(HURRY if status == "KILLED" else PATIENCE, f"`recon sync {out}` delivers the rest")

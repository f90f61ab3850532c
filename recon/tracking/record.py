"""What a run is beside its files: enough to tell the store of it now or later."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from recon.config import flatten
from recon.errors import ReconError
from recon.files import atomic
from recon.run_folder import CONFIG, REQUIRED_OF_A_RUN, RUN_ID, RunFolder

_WRITING = threading.Lock()


@dataclass(frozen=True)
class Dataset:
    """The viewpoint set `name` that a run reads from `path` for `context`, "training" or "validation".

    `digest` is that of its content, in hexadecimal digits.
    """

    name: str
    path: Path
    context: str
    digest: str

    def entry(self) -> dict[str, str]:
        """What is kept of it, and of its digest the 36 characters at most that MLflow takes."""
        return asdict(self) | {"path": str(self.path.resolve()), "digest": self.digest[:32]}


@dataclass
class Record:
    """A run as it was begun, and how it ended. Times are Unix times in milliseconds.

    Attributes:
        packages: what is installed, in the form of pip's requirements.
        run_id: MLflow's identifier; empty until the store has the run.
        key: a name of our own, by which the run is found where the store's answer to its creation was lost.
    """

    name: str
    experiment: str
    started: int
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    packages: str = ""
    run_id: str = ""
    key: str = field(default_factory=lambda: uuid4().hex)
    status: str = "RUNNING"
    ended: int | None = None

    def write(self, out: Path) -> None:
        """Keep it beside the checkpoints, where there are any, and the identifier in a file of its own.

        That is an output of a training: it is there, and empty, also where the store was not reached.
        """
        run = RunFolder(out)
        with _WRITING:  # the thread that learns the identifier and the one that ends the run
            if run.checkpoints.is_dir():
                with atomic(run.record) as temporary:
                    temporary.write_text(json.dumps(asdict(self), indent=1))
            with atomic(run.file(RUN_ID)) as temporary:
                temporary.write_text(self.run_id and f"{self.run_id}\n")


def read_record(out: Path) -> Record | None:
    """The record of a run's folder; None where it has none. Raises `ReconError` where it is damaged."""
    path = RunFolder(out).record
    try:
        return Record(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ReconError(f"{path}: not the record of a run: {error}") from error


def reconstructed(out: Path, experiment: str) -> Record:
    """A record of what a run without one holds, such as a copy without checkpoints. Raises `ReconError` otherwise."""
    run = RunFolder(out)
    try:
        tree = yaml.safe_load(run.file(CONFIG).read_text())
    except (OSError, ValueError, yaml.YAMLError):
        tree = None
    if not isinstance(tree, Mapping) or not all(run.file(file).is_file() for file in REQUIRED_OF_A_RUN):
        expected = " and ".join(file.name for file in REQUIRED_OF_A_RUN)
        raise ReconError(f"{out}: holds no training: {expected} were expected")
    started = round(1000 * run.file(CONFIG).stat().st_mtime)
    return Record(run.name, experiment, started, texts(flatten(tree)), run_id=run.run_id or "")


def texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow keeps them: strings as they are, other types as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}


def now() -> int:
    """The time of day as MLflow has it: milliseconds since 1970."""
    return time.time_ns() // 1_000_000

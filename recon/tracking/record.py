"""What a run is, beside its checkpoint: enough to tell the store of it later."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from recon.config import flatten
from recon.errors import ReconError
from recon.files import atomic

FILE = Path("checkpoints") / "tracking.json"


@dataclass
class Record:
    """A run as it was begun, and how it ended.

    Attributes:
        run_id: MLflow's identifier.
        status: RUNNING, FINISHED, FAILED or KILLED.
        started: Unix time in milliseconds; ended likewise, None while the run goes.
        packages: what is installed, in the form of pip's requirements.
    """

    run_id: str
    name: str
    experiment: str
    started: int
    status: str = "RUNNING"
    ended: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    packages: str = ""

    def write(self, run: Path) -> None:
        """Keep it in the folder `run`.

        Raises:
            ReconError: the folder cannot be written.
        """
        with atomic(run / FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1))


def read_record(run: Path) -> Record | None:
    """The record of the folder `run`; None where it has none.

    Raises:
        ReconError: it is damaged.
    """
    path = run / FILE
    try:
        return Record(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ReconError(f"{path}: not the record of a run: {error}") from error


def reconstructed(run: Path, experiment: str) -> Record:
    """A record made from what a run without one holds, such as a copy without its checkpoints.

    Raises:
        ReconError: the folder holds no training.
    """
    path = run / "train.yaml"
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        tree = None
    if not isinstance(tree, Mapping) or not (run / "history.csv").is_file():
        raise ReconError(f"{run}: holds no training: train.yaml and history.csv were expected")
    params = texts(flatten(tree))
    started = round(1000 * path.stat().st_mtime)
    return Record("", "/".join(run.resolve().parts[-2:]), experiment, started, params=params)


def texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow keeps them: strings as they are, other types as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}

"""The viewpoint sets of a run as MLflow's datasets: known by what is in them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import ReconError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIGEST_LENGTH = 32  # hexadecimal digits of SHA-256; MLflow keeps 36 characters


@dataclass(frozen=True)
class Dataset:
    """A viewpoint set that a run reads.

    Attributes:
        name: of the set.
        path: of its file.
        context: what it is read for: "training" or "validation".
        digest: of what is in it, in hexadecimal digits; that of the file where None.
    """

    name: str
    path: Path
    context: str
    digest: str | None = None

    def entry(self) -> dict[str, str]:
        """What is kept of it: name, context, absolute path and digest.

        Raises:
            ReconError: the file cannot be read.
        """
        digest = (self.digest or _file_digest(self.path))[:DIGEST_LENGTH]
        return {"name": self.name, "context": self.context, "path": str(self.path.resolve()), "digest": digest}


def send_inputs(client: "MlflowClient", run_id: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Link the run to its datasets; those that it is linked to already stay single."""
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    # A set that is trained on and validated on is one dataset with two contexts, which MLflow cannot say:
    # it keeps the first.
    inputs = [
        DatasetInput(
            Entity(entry["name"], entry["digest"], "local", json.dumps({"uri": entry["path"]})),
            [InputTag("mlflow.data.context", entry["context"])],
        )
        for entry in entries
    ]
    if inputs:
        client.log_inputs(run_id, inputs)


def _file_digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ReconError(f"{path}: cannot be read: {error.strerror}") from error

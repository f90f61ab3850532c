"""Which weights a measurement is of."""

import hashlib
from pathlib import Path

from recon.errors import ReconError
from recon.run_folder import MODEL, RunFolder

KEY = "model"
"""Where the files of a validation have the fingerprint of the model that they measure."""


def fingerprint(run: Path) -> str | None:
    """SHA-256 of the run's `model.pt`, in hexadecimal digits; None where there is none.

    Raises:
        ReconError: the file cannot be read.
    """
    path = RunFolder(run).file(MODEL)
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ReconError(f"{path}: cannot be read: {error.strerror or error}") from error

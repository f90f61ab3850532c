"""Locks that end with the process that holds them, however it ends."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from recon.errors import ReconError
from recon.files import writing
from recon.run_folder import RunFolder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the run `folder`, `checkpoints/lock`: two trainings would spoil each other's files.

    Raises:
        ReconError: another process holds it (its host and number are named), or it cannot be written.
    """
    path = RunFolder(folder).lock
    with writing(path):
        file = open(path, "a+")
    with file:
        try:
            # On a file of our own opening, which stays and says who holds it.
            if not lock_descriptor(file.fileno(), blocking=False):
                raise ReconError(f"{folder}: another training is writing there: {_holder(file)}")
        except OSError as error:
            # Some network file systems have no locks; a training there is better than none.
            print(f"recon: warning: {path}: cannot be locked: {error.strerror}", file=sys.stderr)
        with writing(path):
            _sign(file)
        yield
        file.truncate(0)


def _sign(file: IO[str]) -> None:
    """Say who holds the lock, for those who find it held."""
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    file.truncate(0)
    file.write(json.dumps(holder) + "\n")
    file.flush()


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']}, since {holder['started']}"
    except (ValueError, TypeError, KeyError):
        return "a process that has just started"

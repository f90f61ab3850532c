"""Files that appear whole or not at all."""

import os
import re
import secrets
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from recon.errors import ReconError

TEMPORARY = re.compile(r"\..*\.recon-partial-[0-9a-f]{16}(\.[^.]*)?")
"""Names of files that are being written: what nobody calls a file of their own."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write `path` through a temporary neighbour that takes its name once the block has succeeded.

        with atomic("mesh.ply") as temporary:
            mesh.export(temporary)

    The temporary name keeps the suffix, because writers choose their format by it.

    Raises:
        ReconError: the folder cannot be created or written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem[:200]}.recon-partial-{secrets.token_hex(8)}{path.suffix}")
        # With the permissions of any new file: colleagues read results, which `tempfile` would hide from them. The
        # system applies the umask; to ask for it would be to change it, under the feet of other threads.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with writing(path):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)  # a new name is on the disk only when its folder is
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what the system says of a write into a `ReconError` that names the file `path`."""
    try:
        yield
    except OSError as error:
        raise ReconError(f"{path}: cannot be written: {error.strerror or error}") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; nobody may be writing to `folder`."""
    for path in folder.iterdir():
        if TEMPORARY.fullmatch(path.name):
            with suppress(FileNotFoundError):
                path.unlink()


def _sync(path: Path) -> None:
    """Have the system put a file or a folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def writable_folder(path: str | Path) -> Path:
    """`path` as a folder that exists and takes files, created where missing.

    Raises:
        ReconError: it cannot be created, is a file, or cannot be written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise ReconError(f"{path}: cannot be written as a folder: {error.strerror or error}") from error


def read_npz(path: str | Path, written_by: str = "") -> dict[str, np.ndarray]:
    """Every array of the archive `path`, without pickles. `written_by` is advice where there is none.

    Raises:
        ReconError: the file is missing, truncated, damaged, no archive, or holds Python objects.
    """
    path = Path(path)
    check_npz(path, written_by)
    with reading_npz(path), np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy gives the bytes of members that it does not know
            raise ReconError(f"{path}: not a readable .npz archive: '{key}' is no array")
    return arrays


def check_npz(path: Path, written_by: str = "") -> None:
    """Raise `ReconError` where the file `path` is missing or no archive. `written_by` is advice where it is missing."""
    if not path.is_file():
        raise ReconError(f"{path}: no such file{written_by}")
    if not zipfile.is_zipfile(path):
        raise ReconError(f"{path}: not a readable .npz archive (truncated?)")


@contextmanager
def reading_npz(path: Path) -> Iterator[None]:
    """Turn what numpy and `zipfile` say of a damaged archive into a `ReconError` that names the file `path`."""
    try:
        yield
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ReconError(f"{path}: not a readable .npz archive (truncated?): {error}") from error

"""The course of a run as CSV tables: `history.csv` and `validation.csv`."""

import csv
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.errors import ReconError
from recon.files import atomic, writing


class History:
    """A table that grows by rows, and where a row has new columns, by columns.

    The file lies among the side files of a run; `published` is another name that it gets when it is
    saved, and that may be deleted.

    Attributes:
        rows: how many there are.
    """

    def __init__(self, path: Path, published: Path, rows: int = 0) -> None:
        """Take `path` up after its first `rows` rows; what follows them is cut off.

        Raises:
            ReconError: the file has fewer rows, or cannot be written.
        """
        self.path = path
        self.rows = rows
        self._published = published
        self._columns = _cut(path, rows) if rows else []
        with writing(path):
            self._file = open(path, "a" if rows else "w", newline="", buffering=1 << 16)

    def append(self, row: Mapping[str, Any]) -> None:
        """Raises `ReconError` where the file cannot be written, like `save` and `close`."""
        new = [name for name in row if name not in self._columns]
        with writing(self.path):
            if new:
                self._widen(new)
            csv.writer(self._file).writerow([row.get(name, "") for name in self._columns])
        self.rows += 1

    def save(self) -> None:
        """Make sure that what was appended outlasts a crash of the machine."""
        with writing(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        publish(self.path, self._published)

    def close(self) -> None:
        """Write what is left, without making it durable."""
        with writing(self.path):
            self._file.close()

    def _widen(self, new: list[str]) -> None:
        """Add columns, empty in the rows there are."""
        self._columns += new
        if self.rows == 0:
            csv.writer(self._file).writerow(self._columns)
            return
        self._file.close()
        with open(self.path, newline="") as file:
            _, *rows = csv.reader(file)
        with atomic(self.path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([self._columns, *([*row, *[""] * len(new)] for row in rows)])
        self._file = open(self.path, "a", newline="", buffering=1 << 16)
        publish(self.path, self._published)


def publish(path: Path, published: Path) -> None:
    """`published` as another name of the file `path`, or a copy where the file system has one name a file.

    Raises:
        ReconError: it cannot be written.
    """
    temporary = published.with_name(f".{published.name}")
    with writing(published):
        temporary.unlink(missing_ok=True)
        if published.exists() and published.samefile(path):
            return
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
        os.replace(temporary, published)


def _cut(path: Path, rows: int) -> list[str]:
    """Leave the header and `rows` rows of a table without line breaks in its cells; returns its columns."""
    with writing(path), open(path, "rb+") as file:
        header = file.readline()
        kept = sum(line.endswith(b"\n") for line, _ in zip(file, range(rows), strict=False))
        if kept < rows:
            raise ReconError(f"{path}: has {kept} rows, and the state beside it belongs to {rows}")
        file.seek(0)
        file.truncate(sum(len(file.readline()) for _ in range(rows + 1)))
    return header.decode().rstrip("\r\n").split(",")

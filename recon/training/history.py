"""The course of a run as CSV: `history.csv`, a line an iteration."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.errors import ReconError


class History:
    """Rows appended to a CSV file whose columns are those of the first row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open(path, "w", newline="", buffering=1 << 16)
        except OSError as error:
            raise ReconError(f"{path}: cannot be written: {error.strerror}") from error
        self._writer: csv.DictWriter[str] | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, fieldnames=list(row))
            self._writer.writeheader()
        self._writer.writerow(row)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

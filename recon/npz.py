"""Arrays of an .npz archive that are read a row at a time, so that they take no more memory the longer they are.

The members of an archive are compressed, most of them, so that none can be mapped into memory; but each can be read
from its beginning to its end, and several at once.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from recon.errors import ReconError
from recon.files import check_npz, reading_npz


class StoredArray:
    """An array in an archive on the disk: the sequence of its rows, its entries along the first axis.

    Iterating gives one row after the other, each an array of its own that must not be written to, as often as wanted.

    Attributes:
        shape, dtype: of the array, as numpy has them.

    Raises:
        ReconError: when it is made or iterated, the archive is truncated or damaged, or the member is no array.
    """

    def __init__(self, path: Path, member: str) -> None:
        self._path, self._member = path, member
        with reading_npz(path), zipfile.ZipFile(path) as archive, archive.open(member) as file:
            head = _head(file)
        self._whole: np.ndarray | None = None
        if head is None:  # it cannot be cut into rows: Fortran's order, or no dimension
            self._whole = self._all()
            head = self._whole.shape, self._whole.dtype
        self.shape, self.dtype = head

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._whole is not None:
            yield from np.atleast_1d(self._whole)
            return
        size, count = self.shape[1:], math.prod(self.shape[1:])
        with reading_npz(self._path), zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
            _head(file)
            for _ in range(self.shape[0]):
                data = file.read(count * self.dtype.itemsize)
                if len(data) < count * self.dtype.itemsize:
                    raise ValueError(f"'{self._member}' ends before its array does")
                yield np.frombuffer(data, self.dtype, count).reshape(size)

    def read(self) -> np.ndarray:
        """The whole array."""
        return self._all() if self._whole is None else self._whole

    def _all(self) -> np.ndarray:
        with reading_npz(self._path), np.load(self._path, allow_pickle=False) as archive:
            array = archive[self._member]
        if not isinstance(array, np.ndarray):  # numpy gives the bytes of members that it does not know
            key = self._member.removesuffix(".npy")
            raise ReconError(f"{self._path}: not a readable .npz archive: '{key}' is no array")
        return array


def stored_arrays(path: str | Path, written_by: str = "") -> dict[str, StoredArray]:
    """Every array of the archive `path`, without pickles, of which the heads are read. `written_by` is advice where
    there is none.

    Raises:
        ReconError: as `recon.files.read_npz`, of what can be known from the heads.
    """
    path = Path(path)
    check_npz(path, written_by)
    with reading_npz(path), zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    return {member.removesuffix(".npy"): StoredArray(path, member) for member in members}


_Head = tuple[tuple[int, ...], np.dtype[Any]]


def _head(file: IO[bytes] | zipfile.ZipExtFile) -> _Head | None:
    """Shape and dtype of an array that can be read row by row, after its head; None of any other."""
    if file.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
        return None
    version = tuple(file.read(2))
    if version not in ((1, 0), (2, 0)):
        return None
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    return None if is_fortran or dtype.hasobject or not shape or min(shape) < 0 else (shape, dtype)

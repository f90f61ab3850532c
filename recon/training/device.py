"""Where a training computes: on a CUDA device of its own while there are enough, else on the CPU."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import lock_descriptor


@contextmanager
def training_device() -> Iterator[torch.device]:
    """A device for as long as the block lasts.

    Of several CUDA devices each training of this machine takes one that no other has; once all are
    taken, one that is shared least. `CUDA_VISIBLE_DEVICES` narrows the choice.
    """
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    names = [_name(index) for index in range(torch.cuda.device_count())]
    # The seat is the number of trainings that have the device already.
    for seat, index in ((seat, index) for seat in itertools.count() for index in range(len(names))):
        handle = _lock(Path(tempfile.gettempdir()) / f"recon-{names[index]}.{seat}.lock")
        if handle is not None:
            try:
                with torch.cuda.device(index):  # kernels that are not torch's own start on the current one
                    yield torch.device("cuda", index)
            finally:
                os.close(handle)
            return


def _name(index: int) -> str:
    """The device's own name: its number differs between processes that see different devices."""
    return str(torch.cuda.get_device_properties(index).uuid)


def _lock(path: Path) -> int | None:
    """A handle that locks the file `path` until it is closed; None where another process has it."""
    try:
        # Read-only, so that the file of another person can be locked too: filelock's own opening refuses it.
        handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except PermissionError:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    locked = False
    try:
        locked = lock_descriptor(handle, blocking=False)
    finally:
        if not locked:
            os.close(handle)
    return handle if locked else None

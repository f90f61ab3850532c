"""How a process uses the cores and the memory of a CPU."""

import ctypes
import functools

from recon.config import WHOLE_VIEWS, RunConfig

SAMPLES_FOR_THREADS = 2_000_000
"""Shading samples of an iteration from which on a second thread is worth its waking up: below, threads wait for one
another longer than they work, and leave no core to a second training (docs/performance.md)."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of `mallopt`, from glibc's malloc.h."""


_for_loops: int | None = None


def settle_on_cpu(config: RunConfig, height: int, width: int) -> None:
    """Have this process use the cores as the rendering of views of h x w pixels does best, in training or after it.

    Compiled loops take the threads that the process was given, where there is work for them. torch takes one where
    all of its operations are small: threads that wait for the next one are woken, or spin, for longer than they work.
    """
    global _for_loops
    import torch

    _keep_freed_memory()
    given = _given_threads()
    large = WHOLE_VIEWS * height * width * config.render.samples**2 >= SAMPLES_FOR_THREADS
    _for_loops = given if large else 1
    if config.surface.representation == "grid" and not (large and _renders_in_torch(config)):
        torch.set_num_threads(1)


def _renders_in_torch(config: RunConfig) -> bool:
    """Whether operations that grow with the pictures are torch's, or another renderer's that asks torch for threads."""
    network = config.background == "field" and config.field.representation == "mlp"
    return network or config.light.shadows or config.render.backend != "torch"


def loop_threads() -> int:
    """How many threads compiled loops take: what `settle_on_cpu` found best, else as many as torch."""
    import torch

    return _for_loops or torch.get_num_threads()


@functools.cache
def _given_threads() -> int:
    """What torch had before anything was settled."""
    import torch

    return torch.get_num_threads()


def _keep_freed_memory() -> None:
    """Have the C library keep what is freed for what comes next, where it is one that can be told.

    Every iteration makes and frees the same large arrays. glibc gives those above 32 MB back to the system at once, and
    a new one's pages are cleared one by one: at 512 x 512 pixels that was a third of an iteration.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)

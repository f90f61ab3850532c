"""Whether kernels serve on a device, found out by a trial. Nothing here needs Triton or Numba."""

import functools
import sys
from collections.abc import Callable

import torch

COMPILERS = {"cuda": "Triton", "cpu": "Numba"}
"""What compiles kernels for a device."""


@functools.cache
def serves(trial: Callable[[torch.device], None], device: torch.device, what: str) -> bool:
    """Whether `trial` goes well on a device; where it does not, one line says that `what` is done in torch.

    The trial imports the kernels, has Triton (on a CPU: Numba) compile them, and compares what they give with what
    torch gives.
    """
    if device.type not in COMPILERS:
        return False
    try:
        trial(device)
    except Exception as error:  # whatever a compiler, a driver or the lack of either may raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(
            f"recon: {what} in plain torch, more slowly, as {COMPILERS[device.type]} does not serve here: {reason}",
            file=sys.stderr,
        )
        return False
    return True

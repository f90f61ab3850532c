"""Whether kernels serve on a device, found out by a trial. Nothing here needs Triton."""

import functools
import sys
from collections.abc import Callable

import torch


@functools.cache
def serves(trial: Callable[[torch.device], None], device: torch.device, what: str) -> bool:
    """Whether `trial` goes well on a CUDA device; where it does not, one line says that `what` is done in torch.

    The trial imports the kernels, has Triton compile them, and compares what they give with what torch gives.
    """
    if device.type != "cuda":
        return False
    try:
        trial(device)
    except Exception as error:  # whatever a compiler, a driver or the lack of either may raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"recon: {what} in plain torch, more slowly, as Triton does not serve here: {reason}", file=sys.stderr)
        return False
    return True

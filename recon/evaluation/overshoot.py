"""The brightest prediction, kept as radiance: what a picture format must not wrap."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon.files import atomic


class Overshoot(NamedTuple):
    """The view of a set whose predicted radiance is the largest."""

    set: str
    view: int
    radiance: Float[np.ndarray, "h w 3"]


def brightest(name: str, prediction: Float[np.ndarray, "n h w 3"]) -> Overshoot:
    """The brightest view of the viewpoint set `name`."""
    view = int(prediction.max(axis=(1, 2, 3)).argmax())
    return Overshoot(name, view, prediction[view])


def write_overshoot(path: Path, candidates: Sequence[Overshoot]) -> None:
    """The brightest of `candidates` as `path` (npz): `set`, `view`, `radiance` (h, w, 3), float32.

    Raises:
        ReconError: the file cannot be written.
    """
    top = max(candidates, key=lambda each: each.radiance.max())
    with atomic(path) as temporary:
        np.savez_compressed(temporary, set=top.set, view=top.view, radiance=top.radiance.astype(np.float32))

"""The brightest prediction, kept as radiance: what a picture format must not wrap."""

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


def brightest(
    name: str, first: int, prediction: Float[np.ndarray, "n h w 3"], former: Overshoot | None = None
) -> Overshoot:
    """The brighter of `former` and the brightest of some views of the set `name`, whose first is number `first`."""
    peaks = prediction.max(axis=(1, 2, 3))
    view = int(peaks.argmax())
    if former is not None and not peaks[view] > former.radiance.max():
        return former
    return Overshoot(name, first + view, prediction[view].copy())


def write_overshoot(path: Path, top: Overshoot, model: str) -> None:
    """The brightest view as `path` (npz): `set`, `view`, `radiance` (h, w, 3) float32, `model`: its fingerprint.

    Raises:
        ReconError: the file cannot be written.
    """
    with atomic(path) as temporary:
        np.savez_compressed(
            temporary, set=top.set, view=top.view, radiance=top.radiance.astype(np.float32), model=np.array(model)
        )

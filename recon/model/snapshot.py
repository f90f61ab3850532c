"""The surface in the course of training, as side files that the report scrubs through."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from trimesh import transform_points

from recon.files import atomic
from recon.model.model import Model
from recon.surface.icosphere import icosphere

SNAPSHOT_LEVEL = 4
"""Icosphere level: 2,562 vertices, whose faces a reader makes again."""


def write_snapshot(model: Model, path: Path, iteration: int) -> None:
    """Write `path` (npz), whole or not at all.

    Holds `iteration` () and `vertices` (v, 3): the icosphere of `SNAPSHOT_LEVEL` carried into the
    source's frame, in double precision, for that frame may lie anywhere.
    """
    with atomic(path) as temporary:
        np.savez_compressed(temporary, iteration=iteration, vertices=carried(model)[-1])


@torch.no_grad()
def carried(model: Model, level: int = SNAPSHOT_LEVEL) -> Float64[np.ndarray, "t v 3"]:
    """The icosphere before and after each step of the flow, in the source's frame."""
    sphere = icosphere(level, model.device).vertices
    path = torch.stack(model.flow().trajectory(sphere)).cpu().numpy().astype(np.float64)
    placed = transform_points(path.reshape(-1, 3), model.world_from_unit)
    return placed.reshape(path.shape)

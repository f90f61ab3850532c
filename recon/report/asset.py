"""The surface with its material in a page: a GLB as it is, and where the page's viewers have it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recon.geometry.glb import source_from_gltf
from recon.geometry.metrics import NearUnit
from recon.report.payload import Payload
from recon.run_folder import LODS, MESH_GLB, RunFolder

BYTES = 1_200_000
"""Of the assets of all runs on a page, before base64."""

FEWEST = 300_000
"""Bytes for the asset of one of many runs."""

LARGEST = 40_000_000
"""Bytes of a GLB that is shown alone."""


def asset_files(runs: Sequence[Path]) -> list[Path | None]:
    """Of each run the finest level of detail that a page of them has room for; None where it has none."""
    most = max(BYTES // len(runs), FEWEST)
    return [_finest(RunFolder(run), most) for run in runs]


def _finest(run: RunFolder, most: int) -> Path | None:
    paths = (run.file(file) for file in (MESH_GLB, *LODS))
    return next((path for path in paths if path.is_file() and path.stat().st_size <= most), None)


def asset_stage(payload: Payload, path: Path | None, unit: NearUnit) -> dict[str, Any] | None:
    """The file, and the matrix (by columns) that carries it from glTF's frame to where the page draws the mesh."""
    if path is None:
        return None
    place = np.eye(4)
    place[:3, :3] = source_from_gltf(path) / unit.scale
    place[:3, 3] = -unit.origin / unit.scale
    return {"key": payload.file(path.read_bytes()), "place": place.T.reshape(-1).tolist()}

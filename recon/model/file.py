"""A trained model as a file: `model.pt`, loadable with `weights_only=True`."""

import io
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.config import parse_config
from recon.errors import ReconError
from recon.files import atomic
from recon.frames import frame_scale
from recon.model.model import Model, SurfaceMesh
from recon.run_folder import MODEL, VERSION, RunFolder
from recon.views_checks import ROTATION_TOLERANCE

PER_VIEW = ("light.log_strength", "poses.twists")
"""Weights that have a row for each training view."""


def save_model(model: Model, path: str | Path) -> None:
    """Write weights, configuration, frame and radiance scale, whole or not at all."""
    content = {
        "format": VERSION,
        "config": model.config.model_dump(mode="json"),
        "world_from_unit": torch.from_numpy(model.world_from_unit),
        "radiance_scale": model.radiance_scale,
        "weights": {name: value.cpu() for name, value in model.state_dict().items()},
    }
    write_content(content, Path(path))


def load_model(run: str | Path) -> Model:
    """The model of a run folder.

    Raises:
        ReconError: `model.pt` is missing, truncated, of another format, or holds no model of ours.
    """
    path = RunFolder(Path(run)).file(MODEL)
    if not path.is_file():
        raise ReconError(f"{path}: no such file; `recon train` writes it when it ends")
    content = read_content(path, "model")
    check_format(content, path, "model")
    try:
        model = Model(
            parse_config(content["config"], source=str(path)),
            content["world_from_unit"].numpy().astype(np.float64),
            float(content["radiance_scale"]),
            views=max(len(content["weights"].get(name, ())) for name in PER_VIEW),
        )
        model.load_state_dict(content["weights"])
        _check_frame(model, path)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ReconError(f"{path}: holds no model of this version of recon: {_one_line(error)}") from error
    return model.eval()


def _check_frame(model: Model, path: Path) -> None:
    """Raise `ReconError` where the model's frame or radiance scale is none."""
    matrix = model.world_from_unit
    if not (np.isfinite(model.radiance_scale) and model.radiance_scale > 0):
        raise ReconError(f"{path}: key 'radiance_scale' must be a positive number, got {model.radiance_scale}")
    if matrix.shape == (4, 4) and np.isfinite(matrix).all() and (matrix[3] == (0, 0, 0, 1)).all():
        block = matrix[:3, :3]
        scale = frame_scale(matrix)
        if scale > 0 and np.allclose(block @ block.T / scale**2, np.eye(3), atol=ROTATION_TOLERANCE):
            return
    raise ReconError(f"{path}: key 'world_from_unit' must be a similarity (rotation, scale, translation)")


def save_light(model: Model, path: Path) -> None:
    """Write what was learned of the light as JSON, in the source's unit of length; nothing where that is nothing."""
    unit = frame_scale(model.world_from_unit)
    _write_found(model.light.found(unit) if model.light.learned else None, path)


def save_poses(model: Model, path: Path) -> None:
    """Write the corrected poses of the training views as JSON, in the source's frame; nothing where there are none."""
    found = {"views": model.poses.found(model.world_from_unit)} if model.config.cameras.refine else None
    _write_found(found, path)


def _write_found(found: Mapping[str, object] | None, path: Path) -> None:
    """Write JSON; of None, leave no file, not that of an earlier training either."""
    if found is None:
        path.unlink(missing_ok=True)
        return
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")


def check_format(content: dict[str, Any], path: Path, kind: str) -> None:
    """Raise `ReconError` where a file is not of this version of recon, and say of which it is."""
    found = content.get("format")
    if found in range(1, VERSION):
        raise ReconError(
            f"{path}: a {kind} of format {found}, which an earlier version of recon wrote; "
            f"this one reads format {VERSION}: train again"
        )
    if found != VERSION:
        raise ReconError(f"{path}: not a recon {kind} of format {VERSION}")


def write_content(content: dict[str, Any], path: Path) -> None:
    """Write plain data and tensors, whole or not at all, and on the disk when this returns.

    Raises:
        ReconError: the file cannot be written.
    """
    data = pack(content)
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def pack(content: dict[str, Any]) -> memoryview:
    """The bytes of a file; torch's own writer says of a full disk only that something failed."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def read_content(path: Path, kind: str) -> dict[str, Any]:
    """What `write_content` wrote, on the CPU. Raises `ReconError` where the file is damaged or of another kind."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of foreign pickles, before it refuses them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ReconError(f"{path}: not a readable {kind} (truncated?): {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ReconError(f"{path}: not a recon {kind}")
    return content


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


@torch.no_grad()
def finite_mesh(model: Model, run: Path, level: int) -> SurfaceMesh:
    """The mesh of `level` of the model that was loaded from `run`.

    Raises:
        ReconError: a vertex, or the reflectance at one, is not finite.
    """
    mesh = model.mesh(level)
    values = mesh.vertices, model.reflectance.parameters_of(mesh.attributes)
    if not all(torch.isfinite(each).all() for each in values):
        raise ReconError(f"{RunFolder(run).file(MODEL)}: the model gives vertices or reflectance that are not finite")
    return mesh

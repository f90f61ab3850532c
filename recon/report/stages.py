"""What the page's 3D viewers show of a run, as parts of its payload."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from jaxtyping import Float, Int

from recon.errors import ReconError
from recon.evaluation.surface_file import FINEST_LEVEL, REFERENCE_FACES, decimated
from recon.files import read_npz
from recon.frames import moved_poses
from recon.geometry.meshes import load_mesh
from recon.geometry.metrics import NearUnit, near_unit
from recon.report.asset import asset_stage
from recon.report.payload import Payload
from recon.report.records import RunRecord, set_names
from recon.surface.icosphere import icosphere
from recon.views import Views

LARGEST_DISTANCE = 0.01
"""Where the scale of distances ends, as a share of the reference's diagonal: the wider threshold of the F-score."""

FRUSTUM = 0.12
"""Length of a drawn camera, as a share of its distance from the object."""


def run_stage(payload: Payload, record: RunRecord, asset: Path | None = None) -> dict[str, Any]:
    """The mesh with what is known at its vertices, the reference, the flow, the training, the cameras, and `asset`.

    Raises:
        ReconError: one of the run's files cannot be read.
    """
    surface = record.surface
    shape = _shape(record)
    # Browsers draw in 32 bits: what lies far from the origin, or is tiny, is drawn about its middle and near size 1.
    unit = NearUnit(np.zeros(3), 1.0) if shape is None else near_unit(shape.vertices)
    return {
        "mesh": None if shape is None else payload.mesh(unit.points(shape.vertices), shape.faces, **shape.values),
        "asset": None if shape is None else asset_stage(payload, asset, unit),
        "reference": _reference(payload, surface, unit),
        "scales": _scales(record),
        "flow": None if surface is None else _frames(payload, list(surface["flow"]), unit),
        "training": _training(payload, record, unit),
        "cameras": {} if surface is None else _cameras(payload, surface, set_names(record.sets), unit),
    }


def mesh_stage(payload: Payload, mesh: trimesh.Trimesh, asset: Path | None = None) -> dict[str, Any]:
    """A mesh alone, and the GLB that it is from."""
    shown = decimated(mesh, 5 * REFERENCE_FACES)
    vertices = np.asarray(shown.vertices)
    unit = near_unit(vertices)
    return {
        "mesh": payload.mesh(unit.points(vertices), np.asarray(shown.faces)),
        "asset": asset_stage(payload, asset, unit),
    }


def views_stage(payload: Payload, views: Views) -> dict[str, Any]:
    """The cameras of a viewpoint set around the unit sphere, with the source's axes."""
    sphere = trimesh.creation.icosphere(subdivisions=3).apply_transform(views.world_from_unit)
    size = views.height, views.width
    vertices = np.asarray(sphere.vertices)
    unit = near_unit(vertices)
    cameras = unit.points(frusta(moved_poses(views.camera_to_world, views.world_from_unit), views.intrinsics, size))
    return {
        "mesh": payload.mesh(unit.points(vertices), np.asarray(sphere.faces)),
        "cameras": {"views": payload.quantised(cameras)},
    }


def frusta(
    poses: Float[np.ndarray, "n 4 4"], intrinsics: Float[np.ndarray, "n 3 3"], size: tuple[int, int]
) -> Float[np.ndarray, "n 5 3"]:
    """Centre and image corners of each camera."""
    height, width = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], dtype=np.float64)
    centers = poses[:, :3, 3]
    length = FRUSTUM * np.linalg.norm(centers - centers.mean(axis=0), axis=1).mean() or 1.0
    rays = np.einsum("nij,kj->nki", np.linalg.inv(intrinsics), corners) * length
    ends = np.einsum("nij,nkj->nki", poses[:, :3, :3], rays) + centers[:, None]
    return np.concatenate([centers[:, None], ends], axis=1)


class _Shape(NamedTuple):
    """The mesh of a run, with values at its vertices, in the source's frame."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    values: dict[str, Float[np.ndarray, " v"]]


def _shape(record: RunRecord) -> _Shape | None:
    surface = record.surface
    if surface is not None:
        seen = {name: surface[f"seen/{name}"] for name in set_names(record.sets) if f"seen/{name}" in surface}
        values = {f"seen/{name}": each.astype(np.float32) for name, each in seen.items()}
        if "distance" in surface:
            values["distance"] = surface["distance"]
        return _Shape(surface["vertices"], surface["faces"].astype(np.int64), values)
    if record.mesh is not None:
        mesh = decimated(load_mesh(record.mesh), 20 * 4**FINEST_LEVEL)
        return _Shape(np.asarray(mesh.vertices), np.asarray(mesh.faces), {})
    if record.snapshots:
        vertices = _snapshot(record.snapshots[max(record.snapshots)])
        return _Shape(vertices, _faces(vertices), {})
    return None


def _reference(payload: Payload, surface: dict[str, np.ndarray] | None, unit: NearUnit) -> dict[str, Any] | None:
    if surface is None or "reference/vertices" not in surface:
        return None
    return payload.mesh(unit.points(surface["reference/vertices"]), surface["reference/faces"].astype(np.int64))


def _scales(record: RunRecord) -> dict[str, dict[str, Any]]:
    """The colour map of each kind of value at the vertices, and what is to be said of it in a sentence."""
    surface = record.surface
    if surface is None:
        return {}
    scales: dict[str, dict[str, Any]] = {}
    if "distance" in surface:
        diagonal = float(np.linalg.norm(np.ptp(surface["reference/vertices"], axis=0)))
        half, most = np.quantile(surface["distance"], [0.5, 0.95])
        scales["distance"] = {
            "name": "error",
            "label": "distance to the reference",
            "note": f"Half of the vertices lie within {half:.2g} of it ({half / diagonal:.2%} of its diagonal), "
            f"95% within {most:.2g} ({most / diagonal:.2%}). The scale ends at {LARGEST_DISTANCE:.0%}.",
            **{"map": "magma_r", "low": 0, "high": LARGEST_DISTANCE * diagonal},
        }
    for name in set_names(record.sets):
        if f"seen/{name}" in surface:
            views, seen = len(surface[f"poses/{name}"]), surface[f"seen/{name}"]
            scales[f"seen/{name}"] = {
                "name": f"coverage by {name}",
                "label": f"views of {name} that see a point",
                "note": f"{(seen == 0).mean():.1%} of the vertices are in none of the {views} views, "
                f"{(seen >= 3).mean():.0%} in three or more.",
                **{"map": "viridis", "low": 0, "high": views, "set": name},
            }
    return scales


def _training(payload: Payload, record: RunRecord, unit: NearUnit) -> dict[str, Any] | None:
    if not record.snapshots:
        return None
    frames = [_snapshot(path) for path in record.snapshots.values()]
    return _frames(payload, frames, unit) | {"iterations": list(record.snapshots)}


def _snapshot(path: Path) -> Float[np.ndarray, "v 3"]:
    vertices = read_npz(path).get("vertices", np.empty(0))
    whole = vertices.ndim == 2 and vertices.shape[1] == 3 and np.isfinite(vertices).all()
    if not whole or len(vertices) not in [10 * 4**level + 2 for level in range(8)]:
        raise ReconError(
            f"{path}: key 'vertices' must hold the finite points (v, 3) of an icosphere, got shape {vertices.shape}"
        )
    return vertices


def _frames(payload: Payload, frames: Sequence[Float[np.ndarray, "v 3"]], unit: NearUnit) -> dict[str, Any]:
    faces = payload.indices(_faces(frames[0]))
    return {"faces": faces, "frames": [payload.quantised(unit.points(frame)) for frame in frames]}


def _faces(vertices: Float[np.ndarray, "v 3"]) -> Int[np.ndarray, "f 3"]:
    """Those of the icosphere with as many vertices: 10 * 4^level + 2."""
    level = round(np.log(max(len(vertices) - 2, 1) / 10) / np.log(4))
    return icosphere(level).faces.numpy()


def _cameras(payload: Payload, surface: dict[str, np.ndarray], sets: Sequence[str], unit: NearUnit) -> dict[str, Any]:
    found = {}
    for name in sets:
        if f"poses/{name}" in surface:
            height, width = surface[f"size/{name}"].tolist()
            lines = frusta(surface[f"poses/{name}"], surface[f"intrinsics/{name}"], (height, width))
            found[name] = payload.quantised(unit.points(lines))
    return found

"""What is known of the surface at its vertices, as `surface.npz`: what a viewer shows."""

from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int, UInt8
from trimesh.visual import ColorVisuals

from recon.camera import Cameras
from recon.evaluation.visibility import times_seen
from recon.files import atomic
from recon.frames import moved_poses
from recon.geometry.metrics import closest_faces, near_unit
from recon.model.export import source_mesh
from recon.model.model import Model
from recon.model.snapshot import carried
from recon.views import Views

FINEST_LEVEL = 5
"""A page shows no more: 20,480 faces."""
REFERENCE_FACES = 20_000


class SurfaceFile:
    """The arrays of one `surface.npz`; all are in the source's frame, in double precision.

    `vertices` (v, 3) and `faces` (f, 3) of the mesh at the export level, at most `FINEST_LEVEL`;
    `albedo` (v, 3) uint8; `flow` (t, u, 3): a coarser icosphere before and after each step; for each
    viewpoint set `seen/NAME` (v,): the views that see a vertex, and `poses/NAME` (n, 4, 4),
    `intrinsics/NAME` (n, 3, 3), `size/NAME`: height and width. With a reference `distance` (v,) to it,
    and `reference/vertices`, `reference/faces`: the reference with about `REFERENCE_FACES` faces at most.
    `model` is the fingerprint of the weights.
    """

    def __init__(self, model: Model, reference: trimesh.Trimesh | None) -> None:
        self._model = model
        level = min(model.export_level, FINEST_LEVEL)
        mesh = source_mesh(model, level)
        with torch.no_grad():
            self._surface = model.mesh(level)
        self._arrays: dict[str, np.ndarray] = {
            "vertices": np.asarray(mesh.vertices),
            "faces": mesh.faces.astype(np.int32),
            "albedo": _vertex_colors(mesh),
            "flow": carried(model),
        }
        if reference is not None:
            self._arrays |= _against(mesh, reference)

    def add_views(self, name: str, views: Views, depth: Float[np.ndarray, "n h w"]) -> None:
        """What more cameras of the set `name` see, in the model's frame, given the depth that they render."""
        cameras = Cameras.from_views(views).to(self._model.device)
        shown = torch.from_numpy(depth).to(self._model.device)
        seen = times_seen(self._surface.vertices, self._surface.faces, cameras, shown).cpu().numpy().astype(np.uint16)
        former = {key: self._arrays.get(f"{key}/{name}") for key in ("seen", "poses", "intrinsics")}
        poses, intrinsics = moved_poses(views.camera_to_world, views.world_from_unit), views.intrinsics
        if former["seen"] is not None:
            seen = seen + former["seen"]
            poses = np.concatenate([former["poses"], poses])
            intrinsics = np.concatenate([former["intrinsics"], intrinsics])
        self._arrays |= {
            f"seen/{name}": seen,
            f"poses/{name}": poses,
            f"intrinsics/{name}": intrinsics,
            f"size/{name}": np.array([views.height, views.width]),
        }

    def write(self, path: Path, model: str) -> None:
        """Write `path` (npz, compressed), whole or not at all; `model` is the fingerprint of the weights."""
        with atomic(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, model=np.array(model), **self._arrays)


def decimated(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    """`mesh` with at most about `faces` faces, by quadric error (Garland and Heckbert 1997)."""
    if len(mesh.faces) <= faces:
        return mesh
    # The library computes in 32 bits: about the origin.
    unit = near_unit(np.asarray(mesh.vertices))
    coarse = unit.brought(mesh).simplify_quadric_decimation(face_count=faces)
    return trimesh.Trimesh(unit.back(np.asarray(coarse.vertices)), np.asarray(coarse.faces), process=False)


def _vertex_colors(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "v 3"]:
    assert isinstance(mesh.visual, ColorVisuals)
    return np.asarray(mesh.visual.vertex_colors)[:, :3]


def _against(
    mesh: trimesh.Trimesh, reference: trimesh.Trimesh
) -> dict[str, Float[np.ndarray, "..."] | Int[np.ndarray, "..."]]:
    unit = near_unit(np.asarray(reference.vertices))
    points = unit.points(np.asarray(mesh.vertices))
    distances, _ = closest_faces(points, unit.brought(reference), np.random.default_rng(0))
    coarse = decimated(reference, REFERENCE_FACES)
    return {
        "distance": distances * unit.scale,
        "reference/vertices": np.asarray(coarse.vertices),
        "reference/faces": coarse.faces.astype(np.int32),
    }

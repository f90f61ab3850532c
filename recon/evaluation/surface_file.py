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
from recon.geometry.metrics import closest_faces
from recon.model.export import source_mesh
from recon.model.model import Model
from recon.model.snapshot import carried
from recon.views import Views

FINEST_LEVEL = 5
"""A page shows no more: 20,480 faces."""
REFERENCE_FACES = 20_000


class SurfaceFile:
    """The arrays of one `surface.npz`; all are in the source's frame.

    `vertices` (v, 3) and `faces` (f, 3) of the mesh at the export level, at most `FINEST_LEVEL`;
    `albedo` (v, 3) uint8; `flow` (t, u, 3): a coarser icosphere before and after each step; for each
    viewpoint set `seen/NAME` (v,): the views that see a vertex, and `poses/NAME` (n, 4, 4),
    `intrinsics/NAME` (n, 3, 3), `size/NAME`: height and width. With a reference `distance` (v,) to it,
    and `reference/vertices`, `reference/faces`: the reference with about `REFERENCE_FACES` faces at most.
    """

    def __init__(self, model: Model, reference: trimesh.Trimesh | None) -> None:
        self._model = model
        level = min(model.export_level, FINEST_LEVEL)
        mesh = source_mesh(model, level)
        with torch.no_grad():
            self._surface = model.mesh(level)
        self._arrays: dict[str, np.ndarray] = {
            "vertices": mesh.vertices.astype(np.float32),
            "faces": mesh.faces.astype(np.int32),
            "albedo": _vertex_colors(mesh),
            "flow": carried(model),
        }
        if reference is not None:
            self._arrays |= _against(mesh, reference)

    def add_set(self, name: str, views: Views, depth: Float[np.ndarray, "n h w"]) -> None:
        """What the cameras of `views` (in the model's frame) see, given the depth that they render."""
        cameras = Cameras.from_views(views).to(self._model.device)
        shown = torch.from_numpy(depth).to(self._model.device)
        seen = times_seen(self._surface.vertices, self._surface.faces, cameras, shown)
        self._arrays |= {
            f"seen/{name}": seen.cpu().numpy().astype(np.uint16),
            f"poses/{name}": source_poses(views),
            f"intrinsics/{name}": views.intrinsics,
            f"size/{name}": np.array([views.height, views.width]),
        }

    def write(self, path: Path) -> None:
        """Write `path` (npz, compressed), whole or not at all."""
        with atomic(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **self._arrays)


def decimated(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    """`mesh` with at most about `faces` faces, by quadric error (Garland and Heckbert 1997)."""
    return mesh if len(mesh.faces) <= faces else mesh.simplify_quadric_decimation(face_count=faces)


def _vertex_colors(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "v 3"]:
    assert isinstance(mesh.visual, ColorVisuals)
    return np.asarray(mesh.visual.vertex_colors)[:, :3]


def source_poses(views: Views) -> Float[np.ndarray, "n 4 4"]:
    """Rigid camera-to-world poses in the source's frame."""
    poses = views.world_from_unit @ views.camera_to_world
    poses[:, :3, :3] /= np.cbrt(np.linalg.det(views.world_from_unit[:3, :3]))
    return poses


def _against(
    mesh: trimesh.Trimesh, reference: trimesh.Trimesh
) -> dict[str, Float[np.ndarray, "..."] | Int[np.ndarray, "..."]]:
    distances, _ = closest_faces(np.asarray(mesh.vertices), reference, np.random.default_rng(0))
    coarse = decimated(reference, REFERENCE_FACES)
    return {
        "distance": distances.astype(np.float32),
        "reference/vertices": coarse.vertices.astype(np.float32),
        "reference/faces": coarse.faces.astype(np.int32),
    }

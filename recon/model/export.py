"""The trained surface as meshes in the source's frame."""

from pathlib import Path

import numpy as np
import torch
import trimesh
from trimesh.visual import ColorVisuals

from recon.files import atomic
from recon.images.pictures import tone_map
from recon.model.model import Model
from recon.run_folder import MESH_GLB, MESH_PLY, RunFolder


@torch.no_grad()
def source_mesh(model: Model, level: int) -> trimesh.Trimesh:
    """The mesh in the source's frame, its vertices coloured by albedo relative to the brightest."""
    vertices, faces, _ = model.mesh(level)
    albedo = model.albedo(level).cpu().numpy()
    colors = tone_map(albedo / albedo.max())
    placed = trimesh.transform_points(vertices.cpu().numpy().astype(np.float64), model.world_from_unit)
    mesh = trimesh.Trimesh(placed, faces.cpu().numpy(), process=False)
    mesh.visual = ColorVisuals(mesh, vertex_colors=colors)
    return mesh


def write_meshes(model: Model, out: Path) -> None:
    """`mesh.ply` (binary) and `mesh.glb` at the model's export level."""
    mesh = source_mesh(model, model.export_level)
    for file in (MESH_PLY, MESH_GLB):
        with atomic(RunFolder(out).file(file)) as temporary:
            mesh.export(temporary)

"""The trained surface as meshes in the source's frame."""

import sys
from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor
from trimesh.visual import ColorVisuals

from recon.files import atomic
from recon.geometry.mesh_files import glb_bytes, ply_bytes
from recon.images.pictures import tone_map
from recon.model.model import Model, SurfaceMesh
from recon.render.normals import vertex_normals
from recon.run_folder import MESH_GLB, MESH_PLY, RunFolder

COARSE = 1e-5
"""Step between 32-bit coordinates, as a share of the object's extent, from which their shape is told to suffer."""


@torch.no_grad()
def source_mesh(model: Model, level: int) -> trimesh.Trimesh:
    """The mesh in the source's frame, its vertices coloured by albedo relative to the brightest (sRGB)."""
    vertices, faces, _ = model.mesh(level)
    mesh = trimesh.Trimesh(placed(model, vertices), faces.cpu().numpy(), process=False)
    mesh.visual = ColorVisuals(mesh, vertex_colors=tone_map(relative_albedo(model, level)))
    return mesh


@torch.no_grad()
def write_meshes(model: Model, out: Path) -> None:
    """`mesh.ply` (binary, doubles) and `mesh.glb` (about the object, its node carries it) at the model's export level.

    Both hold the shape at any place and in any unit. Programs that keep coordinates in 32 bits read the PLY
    of an object far from the origin as a sheet, which is told; its GLB they show.

    Raises:
        ReconError: a file cannot be written.
    """
    mesh: SurfaceMesh = model.mesh(model.export_level)
    vertices, faces = mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy()
    normals = vertex_normals(mesh.vertices, mesh.faces).cpu().numpy()
    albedo, in_source = relative_albedo(model, model.export_level), placed(model, mesh.vertices)
    files = {
        MESH_PLY: ply_bytes(in_source, faces, tone_map(albedo)),
        MESH_GLB: glb_bytes(vertices, normals, faces, albedo, model.world_from_unit, model.config.export.up == "y"),
    }
    for file, content in files.items():
        with atomic(RunFolder(out).file(file)) as temporary:
            temporary.write_bytes(content)
    extent, farthest = float(np.ptp(in_source, axis=0).max()), float(np.abs(in_source).max())
    if farthest * np.finfo(np.float32).eps > COARSE * extent:
        print(
            f"recon: the object is {extent:.3g} across and {farthest:.4g} from the origin: "
            f"{RunFolder(out).file(MESH_PLY)} has double precision; "
            f"for programs that do not read that, such as Blender and MeshLab, take {MESH_GLB.name}",
            file=sys.stderr,
        )


def placed(model: Model, vertices: Float[Tensor, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Points of the unit frame in the source's, in double precision."""
    return trimesh.transform_points(vertices.cpu().numpy().astype(np.float64), model.world_from_unit)


@torch.no_grad()
def relative_albedo(model: Model, level: int) -> Float[np.ndarray, "v 3"]:
    """Linear albedo at the vertices of that level, the largest channel 1; black where all is black."""
    albedo = model.albedo(level).cpu().numpy().astype(np.float64)
    return (albedo / max(albedo.max(), np.finfo(np.float32).tiny)).clip(0, 1)

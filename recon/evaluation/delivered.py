"""The mesh as it left the run: what people get is what is measured."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from recon.errors import ReconError
from recon.geometry.meshes import merge_equal, read_mesh
from recon.geometry.octahedral import octahedral_atlas
from recon.model.export import source_mesh
from recon.model.model import Model
from recon.run_folder import MESH_GLB, MESH_PLY, MODEL, RunFile, RunFolder
from recon.surface.icosphere import icosphere

AGREEMENT = 1e-3
"""Share of the extent up to which two meshes are one: another device rounds otherwise, 32 bits far off lose more."""


@dataclass(frozen=True)
class Delivered:
    """The run's mesh.ply, and whether it is the model's mesh, and whether mesh.glb has the same place and shape.

    Attributes:
        mesh: as programs load it, equal vertices merged.
    """

    run: Path
    mesh: trimesh.Trimesh
    is_the_models: bool
    glb_agrees: bool

    def as_dict(self) -> dict[str, str | bool]:
        return {"mesh": MESH_PLY.name, "is_the_models": self.is_the_models, "glb_agrees": self.glb_agrees}

    def warnings(self) -> list[str]:
        """What is wrong with the files, a line each."""
        ply, glb, model = (RunFolder(self.run).file(file) for file in (MESH_PLY, MESH_GLB, MODEL))
        advice = "the same `recon train` again writes it anew"
        found = []
        if not self.is_the_models:
            found.append(f"{ply}: not the mesh of {model.name}; the certificate is of the file; {advice}")
        if not self.glb_agrees:
            found.append(f"{glb}: not the mesh of {ply.name}; {advice}")
        return found


def read_delivered(model: Model, run: Path) -> Delivered:
    """The meshes of a run folder.

    Raises:
        ReconError: one is missing or cannot be read.
    """
    expected = source_mesh(model, model.export_level)
    ply, glb = (read_mesh(_existing(run, file)) for file in (MESH_PLY, MESH_GLB))
    merged = ply.copy()
    merge_equal(merged)
    merge_equal(glb)  # the cut of its textures has vertices twice
    agrees = _same(glb, ply) or _same(glb, _creased(ply, model.export_level))  # earlier versions laid nothing out
    return Delivered(run, merged, _same(ply, expected), agrees)


def _creased(mesh: trimesh.Trimesh, level: int) -> trimesh.Trimesh:
    """The same surface as the GLB has it: triangles split at the creases of the octahedral map."""
    sphere, faces = (part.numpy() for part in icosphere(level))
    if len(mesh.vertices) != len(sphere):
        return mesh
    atlas = octahedral_atlas(sphere, faces)
    return trimesh.Trimesh(atlas.split(np.asarray(mesh.vertices)), atlas.welded(), process=False)


def _existing(run: Path, file: RunFile) -> Path:
    path = RunFolder(run).file(file)
    if not path.is_file():
        raise ReconError(f"{path}: no such file; `recon train` writes it when it ends")
    return path


def _same(mesh: trimesh.Trimesh, expected: trimesh.Trimesh) -> bool:
    """Whether the meshes have the same triangles, and their vertices the same places."""
    if mesh.vertices.shape != expected.vertices.shape or not np.array_equal(mesh.faces, expected.faces):
        return False
    places = np.asarray(expected.vertices)
    return float(np.abs(np.asarray(mesh.vertices) - places).max()) <= AGREEMENT * float(np.ptp(places, axis=0).max())

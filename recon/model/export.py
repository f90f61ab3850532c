"""The trained surface and its material as files for other programs."""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor
from trimesh.visual import ColorVisuals

from recon.files import atomic
from recon.frames import frame_rotation
from recon.geometry.glb import GltfMaterial, GltfMesh, glb_bytes
from recon.geometry.mesh_files import ObjMaterial, mtl_bytes, obj_bytes, ply_bytes
from recon.geometry.octahedral import texture_coordinates
from recon.images.pictures import opacity_png_bytes, png_bytes, tone_map
from recon.model.asset import Asset, AssetMaker
from recon.model.model import Model
from recon.run_folder import (
    BASE_COLOR,
    LODS,
    MESH_GLB,
    MESH_MTL,
    MESH_OBJ,
    MESH_PLY,
    NORMAL_MAP,
    ROUGHNESS,
    RunFile,
    RunFolder,
)

COARSE = 1e-5
"""Step between 32-bit coordinates, as a share of the object's extent, from which their shape is told to suffer."""

SMALLEST_TEXTURE = 16
"""Texels a side, of a level of detail."""


@torch.no_grad()
def source_mesh(model: Model, level: int) -> trimesh.Trimesh:
    """The mesh in the source's frame, its vertices coloured by albedo relative to the brightest (sRGB)."""
    vertices, faces, _ = model.mesh(level)
    mesh = trimesh.Trimesh(placed(model, vertices), faces.cpu().numpy(), process=False)
    mesh.visual = ColorVisuals(mesh, vertex_colors=tone_map(relative_albedo(model, level)))
    return mesh


def write_meshes(model: Model, out: Path) -> None:
    """The surface at the model's export level, in every format that people open (docs/assets.md).

    `mesh.ply` (binary, doubles, vertices coloured), `mesh.glb` and coarser ones (about the object, their node carries
    it; material and textures), `mesh.obj` with its material and textures. All hold the shape at any place and in any
    unit. Programs that keep coordinates in 32 bits read the PLY and OBJ of an object far from the origin as a sheet,
    which is told; its GLB they show.

    Raises:
        ReconError: a file cannot be written.
    """
    run, level, size = RunFolder(out), model.export_level, model.config.export.texture
    mesh = source_mesh(model, level)
    assert isinstance(mesh.visual, ColorVisuals)
    colors = np.asarray(mesh.visual.vertex_colors)
    _write(run, MESH_PLY, ply_bytes(mesh.vertices, mesh.faces, colors[:, :3]))
    maker = AssetMaker(model, level)
    asset = maker.make(level, size)
    textures = _pictures(asset)
    _write(run, MESH_GLB, _glb(model, asset, textures))
    _write_obj(model, run, asset, textures)
    for step, file in enumerate(LODS, start=1):
        coarse = maker.make(max(level - step, 0), max(size >> step, SMALLEST_TEXTURE))
        _write(run, file, _glb(model, coarse, _pictures(coarse)))
    _tell_far(mesh, run)


class _Pictures(NamedTuple):
    """The textures of an asset as PNG files, None where it has none."""

    color: bytes | None
    roughness: bytes | None
    specular: bytes | None
    normal_map: bytes | None


def _pictures(asset: Asset) -> _Pictures:
    color, roughness, normal_map = (
        None if each is None else png_bytes(each)
        for each in (asset.color_texture, asset.roughness_texture, asset.normal_map)
    )
    specular = None if asset.specular_texture is None else opacity_png_bytes(asset.specular_texture)
    return _Pictures(color, roughness, specular, normal_map)


def _glb(model: Model, asset: Asset, textures: _Pictures) -> bytes:
    laid_out, export = asset.mesh, model.config.export
    mesh = GltfMesh(
        laid_out.vertices,
        laid_out.normals,
        asset.tangents,
        texture_coordinates(laid_out.atlas.places, asset.size),
        laid_out.atlas.faces,
    )
    material = GltfMaterial(
        textures.color or asset.color,
        textures.roughness or asset.roughness,
        asset.largest_f0,
        textures.specular,
        textures.normal_map,
    )
    return glb_bytes(mesh, material, model.world_from_unit, export.up == "y", export.metres or 1.0)


def _write_obj(model: Model, run: RunFolder, asset: Asset, textures: _Pictures) -> None:
    """The OBJ with its material, and its textures in place of those of an earlier training."""
    files = {BASE_COLOR: textures.color, ROUGHNESS: textures.roughness, NORMAL_MAP: textures.normal_map}
    for file, content in files.items():
        if content is not None:
            _write(run, file, content)
        else:
            run.file(file).unlink(missing_ok=True)
    names = (None if content is None else file.name for file, content in files.items())
    material = ObjMaterial(asset.color, asset.roughness, asset.f0, *names)
    _write(run, MESH_MTL, mtl_bytes(material))
    atlas = asset.mesh.atlas
    count = int(atlas.vertex.max()) + 1
    rotation = frame_rotation(model.world_from_unit)
    content = obj_bytes(
        placed(model, torch.from_numpy(asset.mesh.vertices[:count])),
        asset.mesh.normals[:count] @ rotation.T,
        texture_coordinates(atlas.places, asset.size),
        atlas.welded(),
        atlas.faces,
        MESH_MTL.name,
    )
    _write(run, MESH_OBJ, content)


def _write(run: RunFolder, file: RunFile, content: bytes) -> None:
    with atomic(run.file(file)) as temporary:
        temporary.write_bytes(content)


def _tell_far(mesh: trimesh.Trimesh, run: RunFolder) -> None:
    """Say where 32-bit coordinates would lose the shape."""
    extent, farthest = float(np.ptp(mesh.vertices, axis=0).max()), float(np.abs(mesh.vertices).max())
    if farthest * np.finfo(np.float32).eps > COARSE * extent:
        print(
            f"recon: the object is {extent:.3g} across and {farthest:.4g} from the origin: "
            f"{run.file(MESH_PLY)} has double precision; "
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

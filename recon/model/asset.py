"""The surface with its material as other programs take it: a mesh with texture coordinates, and textures.

The sphere is the atlas. A texel has a place on the octahedral square (`recon.geometry.octahedral`), so a point of the
unit sphere, at which the reflectance is evaluated: nothing is unwrapped or baked, and any resolution is as good.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8

from recon.geometry.octahedral import (
    Atlas,
    edge_texels,
    gutter,
    octahedral_atlas,
    padding,
    sphere_points,
    texel_places,
)
from recon.geometry.tangents import vertex_tangents
from recon.images.pictures import srgb
from recon.model.material import material
from recon.model.model import Model
from recon.model.reflectance import MicrofacetReflectance
from recon.render.normals import vertex_normals
from recon.render.rasterize import OnScreen, visible_faces
from recon.surface.icosphere import icosphere

FINER = 2
"""Levels by which the icosphere whose normals normal maps hold is finer than the mesh, up to `FINEST_LEVEL`."""

FINEST_LEVEL = 7
"""163,842 vertices, half a degree of the sphere apart."""

POINTS_AT_ONCE = 1 << 15
"""That are carried by the flow together."""

TEXELS_AT_ONCE = 1 << 18

LEAST_F0 = 1e-6
"""By which a texture of F0 is divided at least."""

LEAST_COSINE = 0.05
"""Of a normal in a normal map with that of the mesh."""


class AtlasMesh(NamedTuple):
    """The carried icosphere of a level, laid out on the octahedral square, in the unit frame.

    Attributes:
        vertices, normals: of the atlas, so that the two sides of its cut have vertices of their own at one place;
            normals of length 1. The surface is that of the icosphere: triangles are split where the map has creases,
            at the middles of edges.
    """

    atlas: Atlas
    vertices: Float32[np.ndarray, "w 3"]
    normals: Float32[np.ndarray, "w 3"]


@dataclass(frozen=True, eq=False)
class Asset:
    """A mesh with its material. A texture is None where one value serves.

    Attributes:
        tangents: of the mesh's vertices; None without a normal map.
        size: of the textures, in texels.
        color, roughness, f0: means over the sphere, or the one value: linear base colour, the square root of GGX's
            alpha, reflectance of the lobe at normal incidence.
        largest_f0: what the specular texture is relative to.
        color_texture: sRGB. roughness_texture, specular_texture: linear.
        normal_map: normals of a finer level in the tangent space of the mesh; None where there is no finer one.
    """

    mesh: AtlasMesh
    size: int
    color: tuple[float, float, float]
    roughness: float = 1.0
    f0: float = 0.0
    largest_f0: float = 0.0
    color_texture: UInt8[np.ndarray, "n n 3"] | None = None
    roughness_texture: UInt8[np.ndarray, "n n"] | None = None
    specular_texture: UInt8[np.ndarray, "n n"] | None = None
    normal_map: UInt8[np.ndarray, "n n 3"] | None = None
    tangents: Float32[np.ndarray, "w 3"] | None = None


class AssetMaker:
    """Makes assets of a model at a level and coarser ones, at any resolution, all with one unit of albedo."""

    def __init__(self, model: Model, level: int) -> None:
        self._model = model
        self._finest_level = min(level + FINER, max(level, FINEST_LEVEL))
        self._finest = atlas_mesh(model, self._finest_level)
        self.white = material(model, icosphere(self._finest_level).vertices).white

    def make(self, level: int, size: int) -> Asset:
        """The asset of the icosphere of `level`, with textures of `size` x `size` texels."""
        if level == self._finest_level:
            return Asset(self._finest, size, **self._material(size))
        mesh = atlas_mesh(self._model, level)
        tangents = mesh_tangents(mesh)
        normal_map = normal_map_of(mesh, tangents, self._finest, size)
        return Asset(mesh, size, **self._material(size), normal_map=normal_map, tangents=tangents)

    def _material(self, size: int) -> dict[str, Any]:
        """Fields of an `Asset`."""
        varies = not self._model.reflectance.uniform
        places = texel_places(size) if varies else np.zeros((1, 2))
        found = material(self._model, torch.from_numpy(sphere_points(places)).float())
        color, f0 = found.base_color(self.white).numpy(), found.f0(self.white).numpy()
        fields: dict[str, Any] = {"color": tuple(color.mean(axis=0).tolist())}
        source = padding(size)
        if varies:
            fields["color_texture"] = in_bytes(srgb(color))[source]
        if isinstance(self._model.reflectance, MicrofacetReflectance):
            largest = float(f0.max())
            fields |= {
                "roughness": float(found.roughness.mean()),
                "f0": float(f0.mean()),
                "largest_f0": largest,
                "roughness_texture": in_bytes(found.roughness.numpy())[source],
                "specular_texture": in_bytes(f0 / max(largest, LEAST_F0))[source],
            }
        return fields


@torch.no_grad()
def atlas_mesh(model: Model, level: int) -> AtlasMesh:
    """The icosphere of `level`, carried by the flow a part at a time, and laid out."""
    sphere, faces = icosphere(level, model.device)
    flow = model.flow()
    vertices = torch.cat([flow.trajectory(part)[-1] for part in sphere.split(POINTS_AT_ONCE)])
    normals = vertex_normals(vertices, faces).cpu().numpy()
    atlas = octahedral_atlas(sphere.cpu().numpy(), faces.cpu().numpy())
    placed = atlas.split(vertices.cpu().numpy())[atlas.vertex]
    return AtlasMesh(atlas, placed, _unit(atlas.split(_outward(normals)))[atlas.vertex])


def mesh_tangents(mesh: AtlasMesh) -> Float32[np.ndarray, "w 3"]:
    """Where the right of the textures is at the vertices."""
    return vertex_tangents(mesh.vertices, mesh.normals, mesh.atlas.faces, mesh.atlas.places).astype(np.float32)


def normal_map_of(
    mesh: AtlasMesh, tangents: Float32[np.ndarray, "w 3"], finer: AtlasMesh, size: int
) -> UInt8[np.ndarray, "n n 3"]:
    """The normals of a finer mesh in the tangent space of a coarser one, as glTF encodes them: upwards is green.

    A texel belongs to the points of either mesh at its place, and the tangent space is interpolated as renderers do,
    without making its vectors unit or orthogonal again (Mikkelsen 2008). Colours (128, 128, 255) leave normals alone.
    """
    near, far = (Lookup.of(each.atlas, size) for each in (mesh, finer))
    # In the gutter the normal beyond the cut, in the tangent space of this side, in which it will be read.
    texels = (_parts(each) for each in (padding(size), *edge_texels(size)))
    found = []
    for beyond, here, inward in zip(*texels, strict=True):
        spaces = (
            2 * near.interpolate(each, here) - near.interpolate(each, inward) for each in (mesh.normals, tangents)
        )
        found.append(_in_frame(far.interpolate(finer.normals, beyond), *spaces))
    return np.rint(127.5 + 127.5 * np.concatenate(found)).astype(np.uint8).reshape(size, size, 3)


def _parts(texels: Int64[np.ndarray, "n n"]) -> list[Int64[np.ndarray, " m"]]:
    return np.array_split(texels.reshape(-1), -(-texels.size // TEXELS_AT_ONCE))


def _in_frame(
    wanted: Float32[np.ndarray, "n 3"], normal: Float32[np.ndarray, "n 3"], tangent: Float32[np.ndarray, "n 3"]
) -> Float32[np.ndarray, "n 3"]:
    """Unit (x, y, z) such that x tangent + y bitangent + z normal has the direction `wanted`."""
    upward = np.cross(normal, tangent)
    # Cramer's rule; the determinant is positive and the same for the three.
    axes = np.cross(upward, normal), np.cross(normal, tangent), np.cross(tangent, upward)
    components = _unit(np.stack([(wanted * axis).sum(axis=1) for axis in axes], axis=1))
    components[:, 2] = components[:, 2].clip(LEAST_COSINE)
    return _unit(components)


class Lookup(NamedTuple):
    """Which points of a mesh the texels show: those inside the gutter, row by row.

    Attributes:
        corners: the face's vertices. weights: their barycentric coordinates.
    """

    corners: Int64[np.ndarray, "n 3"]
    weights: Float32[np.ndarray, "n 3"]

    @staticmethod
    def of(atlas: Atlas, size: int) -> "Lookup":
        """Of textures of `size` x `size` texels."""
        inner = size - 2 * gutter(size)
        # In texels from the upper left corner of the square.
        at = (atlas.places * (1, -1) + 1) * (inner / 2)
        faces = covering_faces(at, atlas.faces, inner).reshape(-1)
        corners = atlas.faces[faces]
        row, column = np.divmod(np.arange(inner * inner), inner)
        return Lookup(corners, barycentric(at[corners], np.stack([column + 0.5, row + 0.5], axis=1)))

    def interpolate(self, values: Float32[np.ndarray, "w k"], part: Int64[np.ndarray, " m"]) -> np.ndarray:
        """Of values at the vertices, those at some of the texels."""
        return np.einsum("nik,ni->nk", values[self.corners[part]], self.weights[part])


def covering_faces(
    at: Float[np.ndarray, "w 2"], faces: Int64[np.ndarray, "f 3"], side: int
) -> Int64[np.ndarray, "n n"]:
    """The face in which the centre of each of `side` x `side` texels lies, for an atlas that fills the square."""
    points = torch.from_numpy(np.concatenate([at, np.ones((len(at), 1))], axis=1)).T[:, None].contiguous()
    corners = [points[:, :, corner] for corner in torch.from_numpy(faces).unbind(1)]
    (x1, y1, _), (x2, y2, _) = corners[1] - corners[0], corners[2] - corners[0]
    screen = OnScreen(points, corners, x1 * y2 - y1 * x2)
    return visible_faces(screen, torch.from_numpy(faces), side, side, cull=False)[0].numpy()


def barycentric(corners: Float[np.ndarray, "n 3 2"], points: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 3"]:
    """Coordinates of points of triangles in the plane."""
    (ax, ay), (bx, by), (px, py) = (
        each.T for each in (corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0])
    )
    area = ax * by - ay * bx
    second, third = (px * by - py * bx) / area, (ax * py - ay * px) / area
    return np.stack([1 - second - third, second, third], axis=1).astype(np.float32)


def in_bytes(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Values in [0, 1] in steps of 1 / 255."""
    return np.rint(255 * values).astype(np.uint8)


def _outward(normals: Float32[np.ndarray, "v 3"]) -> Float32[np.ndarray, "v 3"]:
    """A vertex whose triangles have no area has no normal, and files want one of length 1."""
    return np.where(np.linalg.norm(normals, axis=1, keepdims=True) > 0.5, normals, np.array((0, 0, 1), np.float32))


def _unit(vectors: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

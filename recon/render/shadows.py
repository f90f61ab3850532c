"""Which points of a surface a light sees: depth maps from the light (Williams 1978), compared by percentage-closer
filtering (Reeves, Salesin, Cook 1987).

A depth map is a picture that the light takes of the mesh. A light that stands well away from it takes one, whose field
of view just holds the mesh; one that stands close takes six, to all sides. A distant light is a camera so far away that
its rays are parallel to a fraction of a degree.

A point is in the light where the map shows nothing nearer. Every texel of the map is one ray, and a surface that is
not perpendicular to the light differs in depth from ray to ray. So the point's tangent plane, not the point, is
compared: its depth along the ray of the texel (the receiver-plane bias of Isidoro 2006). The mesh comes before that
plane only as far as its faces are tilted against it, by `bend` on average, which changes the depth by bend / cos^2 for
every unit across the filter; that, and one texel for curvature and rounding, is the bias.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.camera import Cameras, look_at
from recon.render.intersect import intersect
from recon.render.normals import face_normals, unit, vertex_normals
from recon.render.rasterize import on_screen, visible_faces

WELL_AWAY = 1.5
"""Distance of a light from the middle of the mesh, in radii of the mesh, from which one map is enough: its field of
view is then below 84 degrees."""

DISTANT = 256.0
"""Distance, in radii, of the camera of a distant light: its rays deviate by a quarter of a degree at most."""

ROOM = 1.02
"""How much wider than the mesh a map is, so that filters at its rim stay within it."""

GRAZING = 0.05
"""Cosine below which a bias grows no further: there is hardly any light."""

KERNEL = 1
"""Texels on each side of the four around a point that a filter takes in, by default."""


@dataclass(frozen=True, eq=False)
class DepthMap:
    """What a light sees of a mesh.

    Attributes:
        cameras: of the light, one or six, which cover all of the mesh together.
        depth: along each camera's optical axis, in units of the world; infinite where it sees nothing.
        bend: mean angle between the normals of the mesh's faces and those of their corners, in radians.
        kernel: texels on each side of the four around a point that a filter takes in.
    """

    cameras: Cameras
    depth: Float[Tensor, "n h w"]
    bend: float
    kernel: int = KERNEL

    def visibility(self, points: Float[Tensor, "p 3"], normals: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """The share of the light that reaches points of the surface, from 0 to 1.

        Args:
            points: on the mesh, in the world.
            normals: unit, in the world; they face the light.
        """
        share = torch.empty_like(points[:, 0])
        offset = points - self.cameras.centers[0]
        for i, here in enumerate(self._sides(offset)):
            axes = self.cameras.camera_to_world[i, :3, :3]
            share[here] = self._filtered(i, axes.T @ offset[here].T, axes.T @ normals[here].T)
        return share

    def _sides(self, offset: Float[Tensor, "p 3"]) -> list[Int[Tensor, " _"] | slice]:
        """For each camera the points that are nearest to its optical axis."""
        if len(self.cameras) == 1:
            return [slice(None)]
        nearest = (offset @ self.cameras.camera_to_world[:, :3, 2].T).argmax(1)
        return [(nearest == i).nonzero().squeeze(1) for i in range(len(self.cameras))]

    def _filtered(self, i: int, local: Float[Tensor, "3 p"], normal: Float[Tensor, "3 p"]) -> Float[Tensor, " p"]:
        """The share of the texels around points, weighted bilinearly, that see nothing before the tangent planes.

        Both arguments are in the axes of camera i, coordinates first, `local` from its centre.
        """
        focal, (center_x, center_y) = self.cameras.intrinsics[i, 0, 0], self.cameras.intrinsics[i, :2, 2]
        (x, y, depth), (normal_x, normal_y, normal_z) = local, normal
        along = x * normal_x + y * normal_y + depth * normal_z
        across = (self.kernel + 1) * depth / focal
        cosine = (-along * (x * x + y * y + depth * depth).rsqrt()).clamp(min=GRAZING)
        reach = 2 * across / cosine
        bias = depth / focal + across * self.bend / cosine.square()
        # The last texels whose centres lie before the point, and by how much.
        column, row = (focal * side / depth + center - 0.5 for side, center in ((x, center_x), (y, center_y)))
        first_column, first_row = column.floor(), row.floor()
        right, below = column - first_column, row - first_row
        height, width = self.depth.shape[1:]
        texels, share = self.depth[i].flatten(), torch.zeros_like(depth)
        for down in range(-self.kernel, self.kernel + 2):
            texel_row = (first_row + down).clamp(0, height - 1)
            ray_y = (texel_row + 0.5 - center_y) / focal
            row_weight = _weight(below, down, self.kernel)
            for aside in range(-self.kernel, self.kernel + 2):
                texel_column = (first_column + aside).clamp(0, width - 1)
                ray_x = (texel_column + 0.5 - center_x) / focal
                facing = ray_x * normal_x + ray_y * normal_y + normal_z
                # A ray that meets the plane far off, or from behind, is almost along it.
                plane = torch.where(facing < 0, along / facing, torch.inf).clamp(min=depth - reach, max=depth + reach)
                stored = texels.index_select(0, (texel_row * width + texel_column).long())
                share += row_weight * _weight(right, aside, self.kernel) * (stored > plane - bias)
        return share.clamp(max=1)  # weights add up to 1 but for rounding


@torch.no_grad()
def depth_map(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    light: Float[Tensor, " 4"],
    size: int,
    kernel: int = KERNEL,
    bend: float | None = None,
) -> DepthMap:
    """The depth map of a light.

    Args:
        vertices: in the world.
        faces: corners, counter-clockwise seen from outside.
        light: homogeneous, as `Cameras.lights` has it; a point light is not in the object.
        size: texels along a side of the map; where the light takes six, of half as many.
        kernel, bend: see `DepthMap`; None: as the mesh has it.
    """
    cameras = _cameras(vertices, light, size)
    screen = on_screen(vertices, faces, cameras)
    pix_to_face = visible_faces(screen, faces, cameras.height, cameras.width)
    hits = intersect(vertices, faces, cameras, pix_to_face)
    depth = vertices.new_full((pix_to_face.numel(),), torch.inf).index_copy_(0, hits.pixel, hits.depth)
    bend = mean_bend(vertices, faces) if bend is None else bend
    return DepthMap(cameras, depth.view(pix_to_face.shape), bend, kernel)


def mean_bend(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> float:
    """Mean angle between the normals of faces and those of their corners, in radians, weighted by area."""
    normals = face_normals(vertices, faces)
    area = normals.norm(dim=1)
    cosines = (unit(normals.T).T[:, None] * vertex_normals(vertices, faces)[faces]).sum(2).clamp(-1, 1)
    return float((cosines.acos().mean(1) * area).sum() / area.sum().clamp(min=torch.finfo(area.dtype).tiny))


def _weight(part: Float[Tensor, " p"], step: int, kernel: int) -> Float[Tensor, " p"]:
    """Of a texel that is `step` away from the one before a point which lies `part` of a texel behind that one's centre:
    a box of 2 kernel + 1 texels, moved with the point."""
    if step == -kernel:
        share = 1 - part
    elif step == kernel + 1:
        share = part
    else:
        share = torch.ones_like(part)
    return share / (2 * kernel + 1)


def _cameras(vertices: Float[Tensor, "v 3"], light: Float[Tensor, " 4"], size: int) -> Cameras:
    """Those of the light: one that looks at the middle of the mesh, or six that look along the axes."""
    points = vertices.double().cpu().numpy()
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = float(np.linalg.norm(points - middle, axis=1).max())
    where, point = light[:3].double().cpu().numpy(), bool(light[3] > 0)
    eye = where if point else middle + DISTANT * radius * where / np.linalg.norm(where)
    distance = float(np.linalg.norm(eye - middle))
    if distance > WELL_AWAY * radius:
        directions, half = (middle - eye)[None], ROOM * radius / np.sqrt(distance**2 - radius**2)
    else:
        directions, half, size = np.concatenate([np.eye(3), -np.eye(3)]), 1.0, max(size // 2, 1)
    poses = np.concatenate([_looking(eye, direction) for direction in directions])
    # Two texels more on each side, for the filters of points at the rims of six.
    focal = (size / 2 - KERNEL - 1) / half
    intrinsics = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Cameras(
        torch.from_numpy(poses).to(vertices),
        torch.from_numpy(np.tile(intrinsics, (len(poses), 1, 1))).to(vertices),
        size,
        size,
    )


def _looking(eye: Float[np.ndarray, " 3"], direction: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "1 4 4"]:
    up = np.eye(3)[np.abs(direction).argmin()]
    return look_at(eye[None], eye + direction, up)

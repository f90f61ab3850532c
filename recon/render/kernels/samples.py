"""One sample a pixel of a mesh in all cameras, through the kernels: what `recon.render.renderer` does in torch."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.camera import Cameras
from recon.render.box_filter import average
from recon.render.kernels.antialias import blended
from recon.render.kernels.rasterize import nearest_faces
from recon.render.kernels.sums import sums_at
from recon.render.kernels.surface import surface
from recon.render.kernels.topology import Topology, topology
from recon.render.normals import cross, unit
from recon.render.renderer import Shader
from recon.render.shade import illuminate


def render_pixels(
    vertices: Float[Tensor, "v 3"],
    faces: Tensor,
    cameras: Cameras,
    albedo: Float[Tensor, "v k"],
    shader: Shader,
    samples: int,
    margin: int,
    *,
    antialias: bool,
    cull: bool,
) -> tuple[Float[Tensor, "4 n h w"], Float[Tensor, "5 n h w"]]:
    """Means of `render_samples` over pixels: see `recon.render.renderer.torch_pixels`."""
    planes = render_samples(vertices, faces, cameras, albedo, shader, antialias=antialias, cull=cull)
    image, details = (average(part, samples, margin) for part in planes)
    return image, details


def render_samples(
    vertices: Float[Tensor, "v 3"],
    faces: Tensor,
    cameras: Cameras,
    albedo: Float[Tensor, "v k"],
    shader: Shader,
    *,
    antialias: bool,
    cull: bool,
) -> tuple[Float[Tensor, "4 n h w"], Float[Tensor, "5 n h w"]]:
    """(radiance, alpha) with gradient, and (normals, depth, 1 where there is a surface) without.

    Every sample is shaded. One that sees nothing has no normal, and so no light: that costs less than to find out how
    many see something. It needs a shader that is finite on the surface and has no radiance where there is no light.
    """
    mesh = topology(faces, len(vertices))
    with torch.no_grad():
        points = cameras.project(vertices).permute(2, 0, 1)
        nearest = nearest_faces(points, mesh, cameras.height, cameras.width, cull)
    rows = torch.cat([albedo.T, unit(_SummedNormals.apply(vertices, mesh))])
    seen = surface(vertices, rows, mesh, cameras, nearest)
    attributes, normals = seen.mixed.split([albedo.shape[1], 3])
    normals = unit(normals)
    shape = nearest.seen.shape
    radiance = shader(attributes.T, *illuminate(seen.points.T, normals.T, cameras, _view_of_samples(shape, vertices)))
    with torch.no_grad():
        hit = (seen.depth > 0).to(seen.depth)[None]
        details = torch.cat([normals, seen.depth[None], hit]).view(5, *shape)
    image = torch.cat([radiance.T, hit]).view(4, *shape)
    if antialias:
        image = blended(image, vertices, mesh, cameras, points, nearest.area, details[3])
    return image, details


def _view_of_samples(shape: torch.Size, like: Tensor) -> Tensor:
    view = torch.arange(shape[0], device=like.device)
    return view[:, None].expand(-1, shape[1] * shape[2]).flatten()


class _SummedNormals(torch.autograd.Function):
    """As `recon.render.normals._SummedFaceNormals`, with sums in a fixed order."""

    @staticmethod
    def forward(ctx: Any, vertices: Float[Tensor, "v 3"], mesh: Topology) -> Float[Tensor, "3 v"]:
        a, b, c = vertices.T.contiguous().index_select(1, mesh.corners.flatten()).chunk(3, dim=1)
        edge1, edge2 = b - a, c - a
        ctx.save_for_backward(edge1, edge2)
        ctx.mesh = mesh
        return sums_at(cross(edge1, edge2).repeat(1, 3)[None], mesh.at_corners)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "3 v"]) -> tuple[Float[Tensor, "v 3"], None]:
        edge1, edge2 = ctx.saved_tensors
        mesh: Topology = ctx.mesh
        a, b, c = gradient.index_select(1, mesh.corners.flatten()).chunk(3, dim=1)
        by_face = a + b + c
        by_b, by_c = cross(edge2, by_face), cross(by_face, edge1)
        at_corners = torch.cat([-(by_b + by_c), by_b, by_c], dim=1)
        return sums_at(at_corners[None], mesh.at_corners).T, None

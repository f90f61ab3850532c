"""Where pixels' rays meet the faces that they see, with gradient to the vertices.

    a + b1 (b - a) + b2 (c - a) = center + depth * ray        (Moeller and Trumbore 1997)

The gradient is that of this equation, by the implicit function theorem: three products instead of the
chain of the solution's steps.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.camera import Cameras


class Hits(NamedTuple):
    """The covered pixels alone, as flat indices into (n, h, w); barycentric coordinates, depth along the optical
    axis and points in the world carry gradient to the vertices."""

    pixel: Int[Tensor, " p"]
    view: Int[Tensor, " p"]
    corners: Int[Tensor, "p 3"]
    bary: Float[Tensor, "p 3"]
    depth: Float[Tensor, " p"]
    points: Float[Tensor, "p 3"]


def intersect(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    pix_to_face: Int[Tensor, "n h w"],
) -> Hits:
    """Intersect each covered pixel's ray with its face. Cameras get no gradient."""
    with torch.no_grad():
        pixel = (pix_to_face.flatten() >= 0).nonzero().squeeze(1)
        view = torch.div(pixel, cameras.height * cameras.width, rounding_mode="floor")
        corners = faces.index_select(0, pix_to_face.flatten().index_select(0, pixel))
        rays = pixel_rays(cameras, pixel)
        centers = cameras.centers.index_select(0, view)
    bary, depth = _Intersection.apply(vertices, corners, centers, rays)
    return Hits(pixel, view, corners, bary, depth, torch.addcmul(centers, depth[:, None], rays))


def pixel_rays(cameras: Cameras, pixel: Int[Tensor, " p"]) -> Float[Tensor, "p 3"]:
    """World directions through the centres of pixels, flat indices into (n, h, w), scaled to advance one unit
    along the optical axis."""
    directions = cameras.camera_to_world[:, :3, :3] @ torch.linalg.inv(cameras.intrinsics)
    right, down, first = directions.mT[:, None].unbind(2)
    x, y = (torch.arange(size, device=pixel.device)[:, None] + 0.5 for size in (cameras.width, cameras.height))
    # Sums for all pixels cost less than the products for some.
    rays = (y * down + first)[:, :, None] + (x * right)[:, None]
    return rays.flatten(0, 2).index_select(0, pixel)


class _Intersection(torch.autograd.Function):
    """Barycentric coordinates and depth where the ray of each pixel meets the triangle of its corners."""

    @staticmethod
    def forward(
        ctx: Any,
        vertices: Float[Tensor, "v 3"],
        corners: Int[Tensor, "p 3"],
        centers: Float[Tensor, "p 3"],
        rays: Float[Tensor, "p 3"],
    ) -> tuple[Float[Tensor, "p 3"], Float[Tensor, " p"]]:
        origin, second, third = (vertices.index_select(0, corner) for corner in corners.unbind(1))
        edge1, edge2, to_camera = second - origin, third - origin, centers - origin
        normal = torch.linalg.cross(rays, edge2)
        moment = torch.linalg.cross(to_camera, edge1)
        scale = 1 / (edge1 * normal).sum(-1)
        b1 = (to_camera * normal).sum(-1) * scale
        b2 = (rays * moment).sum(-1) * scale
        depth = (edge2 * moment).sum(-1) * scale
        bary = torch.stack([1 - b1 - b2, b1, b2], dim=-1)
        ctx.save_for_backward(corners, bary, rays, edge1, edge2, normal, scale)
        ctx.vertices = len(vertices)
        return bary, depth

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, bary_gradient: Float[Tensor, "p 3"], depth_gradient: Float[Tensor, " p"]
    ) -> tuple[Float[Tensor, "v 3"], None, None, None]:
        corners, bary, rays, edge1, edge2, normal, scale = ctx.saved_tensors
        by_b0, by_b1, by_b2 = bary_gradient.unbind(1)
        # The solution's derivative by the point of the triangle that the ray meets.
        by_point = ((by_b0 - by_b1) * scale)[:, None] * normal
        by_point += ((by_b2 - by_b0) * scale)[:, None] * torch.linalg.cross(rays, edge1)
        by_point -= (depth_gradient * scale)[:, None] * torch.linalg.cross(edge1, edge2)
        gradient = by_point.new_zeros(ctx.vertices, 3)
        for corner, share in zip(corners.unbind(1), bary.split(1, dim=1), strict=True):
            gradient.index_add_(0, corner, share * by_point)
        return gradient, None, None, None

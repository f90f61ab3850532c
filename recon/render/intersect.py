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
from recon.render.normals import cross


class Hits(NamedTuple):
    """The covered pixels alone, as flat indices into (n, h, w); barycentric coordinates, depth along the optical
    axis and points in the world carry gradient to the vertices.

    Coordinates come first: in memory apart, they are summed and multiplied several times as fast.
    """

    pixel: Int[Tensor, " p"]
    view: Int[Tensor, " p"]
    corners: Int[Tensor, "3 p"]
    bary: Float[Tensor, "3 p"]
    depth: Float[Tensor, " p"]
    points: Float[Tensor, "3 p"]


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
        corners = faces.T.index_select(1, pix_to_face.flatten().index_select(0, pixel))
        rays = pixel_rays(cameras, pixel).T
        centers = of_views(cameras.centers, view)
    bary, depth = _Intersection.apply(vertices, corners, centers, rays)
    return Hits(pixel, view, corners, bary, depth, torch.addcmul(centers, depth, rays))


def interpolate(attributes: Float[Tensor, "k v"], hits: Hits) -> Float[Tensor, "k p"]:
    """Attributes of the vertices where the rays hit."""
    return _Interpolation.apply(attributes, hits.bary, hits.corners)


def pixel_rays(cameras: Cameras, pixel: Int[Tensor, " p"]) -> Float[Tensor, "p 3"]:
    """World directions through the centres of pixels, flat indices into (n, h, w), scaled to advance one unit
    along the optical axis."""
    directions = cameras.camera_to_world[:, :3, :3] @ torch.linalg.inv(cameras.intrinsics)
    right, down, first = directions.permute(2, 1, 0)[..., None]
    x, y = (torch.arange(size, device=pixel.device) + 0.5 for size in (cameras.width, cameras.height))
    # Sums for all pixels cost less than the products for some.
    rays = (y * down + first)[..., None] + (x * right)[:, :, None]
    return rays.flatten(1).index_select(1, pixel).T


def of_views(values: Float[Tensor, "n c"], view: Int[Tensor, " p"]) -> Float[Tensor, "c p"]:
    """What belongs to the view of each point."""
    return values.T.contiguous().index_select(1, view)


class _Intersection(torch.autograd.Function):
    """Barycentric coordinates and depth where the ray of each pixel meets the triangle of its corners."""

    @staticmethod
    def forward(
        ctx: Any,
        vertices: Float[Tensor, "v 3"],
        corners: Int[Tensor, "3 p"],
        centers: Float[Tensor, "3 p"],
        rays: Float[Tensor, "3 p"],
    ) -> tuple[Float[Tensor, "3 p"], Float[Tensor, " p"]]:
        table = vertices.T.contiguous()
        origin, second, third = (table.index_select(1, corner) for corner in corners)
        edge1, edge2, to_camera = second - origin, third - origin, centers - origin
        normal, moment = cross(rays, edge2), cross(to_camera, edge1)
        scale = 1 / (edge1 * normal).sum(0)
        b1 = (to_camera * normal).sum(0) * scale
        b2 = (rays * moment).sum(0) * scale
        depth = (edge2 * moment).sum(0) * scale
        bary = torch.stack([1 - b1 - b2, b1, b2])
        ctx.save_for_backward(corners, bary, rays, edge1, edge2, normal, scale)
        ctx.vertices = len(vertices)
        return bary, depth

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, bary_gradient: Float[Tensor, "3 p"], depth_gradient: Float[Tensor, " p"]
    ) -> tuple[Float[Tensor, "v 3"], None, None, None]:
        corners, bary, rays, edge1, edge2, normal, scale = ctx.saved_tensors
        by_b0, by_b1, by_b2 = bary_gradient
        # The solution's derivative by the point of the triangle that the ray meets.
        by_point = (by_b0 - by_b1) * scale * normal
        by_point += (by_b2 - by_b0) * scale * cross(rays, edge1)
        by_point -= depth_gradient * scale * cross(edge1, edge2)
        return _shared_out(by_point, bary, corners, ctx.vertices).T, None, None, None


class _Interpolation(torch.autograd.Function):
    """Sums over the corners of what is there times the barycentric coordinate."""

    @staticmethod
    def forward(
        ctx: Any, attributes: Float[Tensor, "k v"], bary: Float[Tensor, "3 p"], corners: Int[Tensor, "3 p"]
    ) -> Float[Tensor, "k p"]:
        first, second, third = (attributes.index_select(1, corner) for corner in corners)
        ctx.save_for_backward(bary, corners, first, second, third)
        ctx.vertices = attributes.shape[1]
        mixed = torch.addcmul(bary[0] * first, bary[1], second)
        return mixed.addcmul_(bary[2], third)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "k p"]) -> tuple[Float[Tensor, "k v"], Float[Tensor, "3 p"], None]:
        bary, corners, *there = ctx.saved_tensors
        by_attributes = _shared_out(gradient, bary, corners, ctx.vertices)
        return by_attributes, torch.stack([(gradient * values).sum(0) for values in there]), None


def _shared_out(
    values: Float[Tensor, "k p"], bary: Float[Tensor, "3 p"], corners: Int[Tensor, "3 p"], count: int
) -> Float[Tensor, "k v"]:
    """What each of `count` vertices gets of the values at points, by barycentric coordinates."""
    sums = values.new_zeros(len(values), count)
    for corner, share in zip(corners, bary, strict=True):
        sums.index_add_(1, corner, share * values)
    return sums

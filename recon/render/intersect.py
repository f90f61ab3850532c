"""Where pixels' rays meet the faces that they see, with gradient to the vertices.

    a + b1 (b - a) + b2 (c - a) = center + depth * ray

with a, b, c the corners of the face. Cramer's rule solves it by cross products that the unknowns share (Moeller and
Trumbore 1997, "Fast, Minimum Storage Ray/Triangle Intersection"); whether the ray meets the face is known already.

The gradient is that of this equation, by the implicit function theorem, rather than that of the solution's steps. Let
the corners move by da, db, dc. Where the ray met the face, the point of the face with the same barycentric coordinates
moves by dm = b0 da + b1 db + b2 dc. For the equation to hold again,

    db1 (b - a) + db2 (c - a) - ddepth * ray = -dm

So the three unknowns depend on the nine coordinates through the three of dm alone. The backward pass multiplies the
incoming gradients by the inverse of this 3 x 3 matrix, whose rows are cross products over the determinant, and shares
the result out to the corners by b0, b1, b2.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.camera import Cameras
from recon.render.normals import cross


class Hits(NamedTuple):
    """What the covered pixels see, in the order of the pixels.

    pixel: flat index into (n, h, w). view: which of the `n` cameras. corners: vertices of the face seen.
    bary: barycentric coordinates on it, perspective-correct, which add up to 1; slightly negative where the pixel's
    centre lies on an edge. depth: along the optical axis, in units of the world. points: in the world.
    The last three carry gradient to the vertices.

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
    """Intersect the ray through the centre of each covered pixel with the face that it sees.

    Args:
        vertices: in the world; what is returned carries gradient to them.
        faces: corners of the faces.
        cameras: of the pictures, of h x w pixels; they get no gradient.
        pix_to_face: the face that each pixel sees, -1 where none; not checked.
    """
    with torch.no_grad():
        pixel = (pix_to_face.flatten() >= 0).nonzero().squeeze(1)
        view = torch.div(pixel, cameras.height * cameras.width, rounding_mode="floor")
        corners = faces.T.index_select(1, pix_to_face.flatten().index_select(0, pixel))
        rays = pixel_rays(cameras, pixel).T
        centers = of_views(cameras.centers, view)
    bary, depth = _Intersection.apply(vertices, corners, centers, rays)
    return Hits(pixel, view, corners, bary, depth, torch.addcmul(centers, depth, rays))


def interpolate(attributes: Float[Tensor, "k v"], hits: Hits) -> Float[Tensor, "k p"]:
    """Attributes of the vertices, mixed by barycentric coordinates where the rays hit, with gradient to the attributes
    and, through these coordinates, to the vertices."""
    return _Interpolation.apply(attributes, hits.bary, hits.corners)


def pixel_rays(cameras: Cameras, pixel: Int[Tensor, " p"]) -> Float[Tensor, "p 3"]:
    """Directions in the world of the rays through the centres of pixels.

    Args:
        cameras: `n` cameras of h x w pixels.
        pixel: flat indices into (n, h, w).

    Returns:
        R K^-1 (x, y, 1) for each pixel centre (x, y): as long as it takes to advance one unit along the optical axis,
        so that centre + depth * ray is the point of that depth.
    """
    directions = cameras.camera_to_world[:, :3, :3] @ torch.linalg.inv(cameras.intrinsics)
    # What a ray changes by a pixel to the right and by one down, and the ray through the image's corner.
    right, down, first = directions.permute(2, 1, 0)[..., None]
    x, y = (torch.arange(size, device=pixel.device) + 0.5 for size in (cameras.width, cameras.height))
    # Sums for all pixels cost less than the products for some.
    rays = (y * down + first)[..., None] + (x * right)[:, :, None]
    return rays.flatten(1).index_select(1, pixel).T


def of_views(values: Float[Tensor, "n c"], view: Int[Tensor, " p"]) -> Float[Tensor, "c p"]:
    """Of values that each view has, those of the view of each point, coordinates first."""
    return values.T.contiguous().index_select(1, view)


class _Intersection(torch.autograd.Function):
    """Barycentric coordinates and depth where the ray of each pixel meets the triangle of its corners.

    centers: where the rays start, rays: their directions, both in the world. Only the vertices get gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vertices: Float[Tensor, "v 3"],
        corners: Int[Tensor, "3 p"],
        centers: Float[Tensor, "3 p"],
        rays: Float[Tensor, "3 p"],
    ) -> tuple[Float[Tensor, "3 p"], Float[Tensor, " p"]]:
        table = vertices.T.contiguous()
        # Relative to the first corner: differences of world coordinates are small, and so are their errors.
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
        # By dm (see the module). The rows of the inverse, each over the determinant (edge1 . normal = 1 / scale), are
        # normal for b1, cross(rays, edge1) with the sign of the equation for b2, and the face's normal for the depth.
        # b0 = 1 - b1 - b2 takes the negative of both, so that only differences of the gradients matter.
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
        # Fused multiply-adds and one result written in place: fewer passes over (k, p) numbers.
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
    """What each of `count` vertices gets of the values at points, by barycentric coordinates: the transpose of
    interpolation. Corner by corner, which needs a third of the memory of one addition of all."""
    sums = values.new_zeros(len(values), count)
    for corner, share in zip(corners, bary, strict=True):
        sums.index_add_(1, corner, share * values)
    return sums

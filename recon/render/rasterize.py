"""A hard rasteriser in plain torch: the same code on CPU and CUDA, no custom kernel.

    for every face: expand its bounding box into fragments     (repeat_interleave)
    for every fragment: inside the face? at what depth?
    for every pixel: keep the nearest fragment                 (scatter_reduce amin)

A fragment is a pixel that may see a face, as its centre lies in the box around the face on the screen. The work is in
proportion to the number of fragments, and all faces of all views go through together. That suits the meshes of a
training, whose faces are about as large as a pixel: a box then has few pixels that the face does not cover. There are
no tiles, and no lists of faces a tile that could overflow.

Which face a pixel sees carries no gradient; `recon.render.intersect` computes barycentric coordinates with
gradient for the visible faces alone, and `recon.render.antialias` supplies the gradient of visibility.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.camera import Cameras
from recon.render.intersect import intersect

MAX_FRAGMENTS = 1 << 22
"""Fragments tested at once: bounds the memory of large faces in large images to about 0.5 GB.

A single face with more than these, that covers more than four million pixels, is still tested at once."""

INSIDE_TOLERANCE = 1e-5
"""Barycentric slack, so that rounding leaves no pinhole along an edge that two faces share."""

NEAR = 1e-4
"""Depth in units of the world: faces with a corner nearer to the camera's plane than this are dropped, not clipped.

Cameras are outside the object, so that a face that reaches behind one is not of use. Clipping would make faces of four
corners."""


class Fragments(NamedTuple):
    """What every pixel sees: the face (-1 where none), its depth along the optical axis in units of the world, and the
    perspective-correct barycentric coordinates there (both -1 where there is none)."""

    pix_to_face: Int[Tensor, "n h w"]
    zbuf: Float[Tensor, "n h w"]
    bary: Float[Tensor, "n h w 3"]


class OnScreen(NamedTuple):
    """A mesh in the pictures of `n` cameras.

    points: its vertices as `Cameras.project` has them, (x, y) in pixels and the depth, coordinates first.
    corners: the same of its faces' first, second and third corners.
    area: twice the faces' signed areas on the screen, in square pixels: see `outside`.
    """

    points: Float[Tensor, "3 n v"]
    corners: list[Float[Tensor, "3 n f"]]
    area: Float[Tensor, "n f"]


@torch.no_grad()
def on_screen(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras) -> OnScreen:
    """Where cameras see a mesh, without gradient; what is beside the pictures or behind the cameras is there too."""
    points = cameras.project(vertices).permute(2, 0, 1)
    # Coordinates apart, in tables of two axes: any other gathering of columns takes twice to ten times as long.
    table = points.flatten(0, 1)
    corners = [table.index_select(1, corner).view(3, len(cameras), -1) for corner in faces.unbind(1)]
    (x1, y1, _), (x2, y2, _) = corners[1] - corners[0], corners[2] - corners[0]
    return OnScreen(points, corners, x1 * y2 - y1 * x2)


def outside(area: Float[Tensor, "*f"]) -> Bool[Tensor, "*f"]:
    """Whether a camera sees the outer (counter-clockwise) side of faces with these areas on its screen."""
    return area < 0  # y points down, so counter-clockwise is negative


@torch.no_grad()
def visible_faces(
    mesh: OnScreen, faces: Int[Tensor, "f 3"], height: int, width: int, cull: bool = True
) -> Int[Tensor, "n h w"]:
    """The nearest face at every pixel centre.

    The mesh is closed or may have borders; faces may cross one another and may be of any size and shape. A face that
    has no area on the screen is never seen. Equal depths go to the face with the lower index, so that the result is
    the same in every run, also where threads of a GPU race.

    Args:
        mesh: from `on_screen`.
        faces: of the mesh, with fewer than 2^32 of them.
        height, width: of the pictures, in pixels.
        cull: drop the faces seen from inside, which a closed mesh never shows.

    Returns:
        Indices of faces, -1 where none is seen.
    """
    n = mesh.area.shape[0]
    first, last, candidate = _pixel_ranges(mesh, height, width)
    candidate &= outside(mesh.area) if cull else mesh.area != 0
    chosen = candidate.flatten().nonzero().squeeze(1)
    # From here on one row of faces in place of one of each view.
    left, top = first = first.flatten(1).index_select(1, chosen)
    columns, rows = (last.flatten(1).index_select(1, chosen) - first + 1).long()
    corners = [corner.flatten(1).index_select(1, chosen) for corner in mesh.corners]
    planes = _planes(corners, mesh.area.flatten().index_select(0, chosen), first)
    view = torch.div(chosen, len(faces), rounding_mode="floor")
    face = chosen - view * len(faces)
    start = (view * height + top.long()) * width + left.long()
    counts = columns * rows

    # Of each pixel the smallest (depth, face), as one integer of 64 bits: the depth in the upper half, the face in the
    # lower one. Any number is smaller than that of an empty pixel.
    empty = torch.iinfo(torch.int64).max
    nearest = torch.full((n * height * width,), empty, device=faces.device)
    for part in _chunks(counts):
        # Number the fragments of these faces: which face, which fragment of it, and from that row and column in the
        # face's box. There is no loop over faces, and none has to wait for the largest.
        here = counts[part]
        fragment = torch.repeat_interleave(here)
        offset = torch.arange(len(fragment), device=faces.device)
        offset -= (here.cumsum(0) - here).index_select(0, fragment)
        fragment += part.start
        span = columns.index_select(0, fragment)
        row = torch.div(offset, span, rounding_mode="floor")
        column = offset - row * span
        # Barycentric coordinates on the screen, not perspective-correct: they have the same signs, and are affine.
        b0, b1, inverse_depth = _evaluate(planes.index_select(1, fragment), column, row)
        inside = (b0 >= -INSIDE_TOLERANCE) & (b1 >= -INSIDE_TOLERANCE) & (b0 + b1 <= 1 + INSIDE_TOLERANCE)
        kept = inside.nonzero().squeeze(1)
        fragment = fragment.index_select(0, kept)
        pixel = start.index_select(0, fragment) + (row * width + column).index_select(0, kept)
        # The bits of positive floats, read as integers, sort as the floats do. So one minimum of integers finds depth
        # and face together, in one pass, where a minimum of depths and a second pass for the faces would take two.
        depth_bits = (1 / inverse_depth.index_select(0, kept)).float().view(torch.int32).long()
        nearest.scatter_reduce_(0, pixel, (depth_bits << 32) | face.index_select(0, fragment), "amin")
    pix_to_face = torch.where(nearest == empty, -1, nearest & 0xFFFFFFFF)
    return pix_to_face.view(n, height, width)


def rasterize(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras, cull: bool = True
) -> Fragments:
    """What cameras see of a mesh at every pixel centre.

    Args:
        vertices: in the world.
        faces: corners, counter-clockwise seen from outside.
        cameras: of the pictures; they get no gradient.
        cull: see `visible_faces`.

    Returns:
        Faces, and depths and barycentric coordinates with gradient to the vertices.
    """
    pix_to_face = visible_faces(on_screen(vertices, faces, cameras), faces, cameras.height, cameras.width, cull)
    hits = intersect(vertices, faces, cameras, pix_to_face)
    zbuf = vertices.new_full((pix_to_face.numel(),), -1).index_copy(0, hits.pixel, hits.depth)
    bary = vertices.new_full((pix_to_face.numel(), 3), -1).index_copy(0, hits.pixel, hits.bary.T)
    return Fragments(pix_to_face, zbuf.view(pix_to_face.shape), bary.view(*pix_to_face.shape, 3))


def _pixel_ranges(
    mesh: OnScreen, height: int, width: int
) -> tuple[Float[Tensor, "2 n f"], Float[Tensor, "2 n f"], Bool[Tensor, "n f"]]:
    """The pixels whose centres may lie in each face: first and last (column, row), and whether there are any.

    There are none for faces with a corner behind the camera or near its plane, whose place on the screen means nothing.
    """
    a, b, c = mesh.corners
    low = torch.minimum(torch.minimum(a, b), c)
    high = torch.maximum(torch.maximum(a[:2], b[:2]), c[:2])
    # A ten thousandth of a pixel wider, so that rounding leaves out no centre that the test in the loop would keep.
    first = (low[:2] - (0.5 + 1e-4)).ceil_().clamp_(min=0)
    last = (high - (0.5 - 1e-4)).floor_()
    for axis, size in enumerate((width, height)):
        last[axis].clamp_(max=size - 1)
    columns, rows = last >= first
    return first, last, columns & rows & (low[2] > NEAR)


def _planes(
    corners: list[Float[Tensor, "3 k"]], area: Float[Tensor, " k"], first: Float[Tensor, "2 k"]
) -> Float[Tensor, "9 k"]:
    """Three functions that are affine on the screen, for each face: the barycentric coordinates of its first two
    corners, and 1 / depth (under perspective, the depth itself is not affine).

    Args:
        corners: of the chosen faces, (x, y) in pixels and depth.
        area: twice their signed areas; not 0.
        first: (column, row) of the pixel at which the functions start. At a corner of the face's box, rather than of
            the image, coordinates are small and lose no digits.

    Returns:
        Rows: the values of the three at the centre of `first`, their slopes by columns, their slopes by rows.
    """
    origin = first + 0.5
    a, b, c = (corner[:2] - origin for corner in corners)
    # A barycentric coordinate is the area of the triangle between the point and the corner's opposite edge, over the
    # whole area. These are the opposite edges of the first and of the second corner, and where they start.
    edge, start = torch.stack([c - b, a - c], dim=1), torch.stack([b, c], dim=1)
    slope_x, slope_y = -edge[1] / area, edge[0] / area
    functions = torch.stack([-(start[0] * slope_x + start[1] * slope_y), slope_x, slope_y])
    # 1 / depth is the sum of the corners' by barycentric coordinates; that of the third is what is left to 1.
    last, *others = (1 / corner[2] for corner in (corners[2], *corners[:2]))
    inverse_depth = functions[:, 0] * (others[0] - last) + functions[:, 1] * (others[1] - last)
    inverse_depth[0] += last
    return torch.cat([functions, inverse_depth[:, None]], dim=1).view(9, -1)


def _evaluate(planes: Float[Tensor, "9 m"], column: Int[Tensor, " m"], row: Int[Tensor, " m"]) -> Float[Tensor, "3 m"]:
    """The functions of `_planes` at a column and row, counted from the pixel where they start."""
    value, slope_x, slope_y = planes.view(3, 3, -1)
    return value + slope_x * column + slope_y * row


def _chunks(counts: Int[Tensor, " k"]) -> list[slice]:
    """Runs of faces with at most `MAX_FRAGMENTS` fragments together (or a single face with more)."""
    if len(counts) == 0:
        return []
    ends = counts.cumsum(0)
    if int(ends[-1]) <= MAX_FRAGMENTS:
        return [slice(0, len(counts))]
    parts, start, used = [], 0, 0
    while start < len(counts):
        stop = max(int(torch.searchsorted(ends, used + MAX_FRAGMENTS, right=True)), start + 1)
        parts.append(slice(start, stop))
        start, used = stop, int(ends[stop - 1])
    return parts

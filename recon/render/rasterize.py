"""A hard rasteriser in plain torch: the same code on CPU and CUDA, no custom kernel.

    for every face: expand its bounding box into fragments     (repeat_interleave)
    for every fragment: inside the face? at what depth?
    for every pixel: keep the nearest fragment                 (scatter_reduce amin)

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
"""Fragments tested at once: bounds the memory of large faces in large images to about 0.5 GB."""

INSIDE_TOLERANCE = 1e-5
"""Barycentric slack, so that rounding leaves no pinhole along an edge that two faces share."""

NEAR = 1e-4
"""Faces with a corner nearer to the image plane than this are dropped, not clipped."""


class Fragments(NamedTuple):
    """What every pixel sees: the face (-1 where none), its depth along the optical axis, and the
    perspective-correct barycentric coordinates there (both -1 where there is none)."""

    pix_to_face: Int[Tensor, "n h w"]
    zbuf: Float[Tensor, "n h w"]
    bary: Float[Tensor, "n h w 3"]


class OnScreen(NamedTuple):
    """A mesh in the pictures of `n` cameras, coordinate by coordinate (x, y, depth): its vertices, its faces'
    first, second and third corners, and twice the faces' signed areas."""

    points: Float[Tensor, "3 n v"]
    corners: list[Float[Tensor, "3 n f"]]
    area: Float[Tensor, "n f"]


@torch.no_grad()
def on_screen(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras) -> OnScreen:
    """Where the pictures show a mesh; what is beside them too."""
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
    """The nearest face at every pixel centre, -1 where none. `cull` drops the faces seen from inside.

    Equal depths go to the face with the lower index, so that the result is the same in every run.
    """
    n = mesh.area.shape[0]
    first, last, candidate = _pixel_ranges(mesh, height, width)
    candidate &= outside(mesh.area) if cull else mesh.area != 0
    chosen = candidate.flatten().nonzero().squeeze(1)
    left, top = first = first.flatten(1).index_select(1, chosen)
    columns, rows = (last.flatten(1).index_select(1, chosen) - first + 1).long()
    corners = [corner.flatten(1).index_select(1, chosen) for corner in mesh.corners]
    planes = _planes(corners, mesh.area.flatten().index_select(0, chosen), first)
    view = torch.div(chosen, len(faces), rounding_mode="floor")
    face = chosen - view * len(faces)
    start = (view * height + top.long()) * width + left.long()
    counts = columns * rows

    empty = torch.iinfo(torch.int64).max
    nearest = torch.full((n * height * width,), empty, device=faces.device)
    for part in _chunks(counts):
        here = counts[part]
        fragment = torch.repeat_interleave(here)
        offset = torch.arange(len(fragment), device=faces.device)
        offset -= (here.cumsum(0) - here).index_select(0, fragment)
        fragment += part.start
        span = columns.index_select(0, fragment)
        row = torch.div(offset, span, rounding_mode="floor")
        column = offset - row * span
        b0, b1, inverse_depth = _evaluate(planes.index_select(1, fragment), column, row)
        inside = (b0 >= -INSIDE_TOLERANCE) & (b1 >= -INSIDE_TOLERANCE) & (b0 + b1 <= 1 + INSIDE_TOLERANCE)
        kept = inside.nonzero().squeeze(1)
        fragment = fragment.index_select(0, kept)
        pixel = start.index_select(0, fragment) + (row * width + column).index_select(0, kept)
        # Bits of positive floats sort as the floats do: one integer minimum finds depth and face.
        depth_bits = (1 / inverse_depth.index_select(0, kept)).float().view(torch.int32).long()
        nearest.scatter_reduce_(0, pixel, (depth_bits << 32) | face.index_select(0, fragment), "amin")
    pix_to_face = torch.where(nearest == empty, -1, nearest & 0xFFFFFFFF)
    return pix_to_face.view(n, height, width)


def rasterize(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras, cull: bool = True
) -> Fragments:
    """Face, depth and barycentric coordinates at every pixel centre, the latter two with gradient."""
    pix_to_face = visible_faces(on_screen(vertices, faces, cameras), faces, cameras.height, cameras.width, cull)
    hits = intersect(vertices, faces, cameras, pix_to_face)
    zbuf = vertices.new_full((pix_to_face.numel(),), -1).index_copy(0, hits.pixel, hits.depth)
    bary = vertices.new_full((pix_to_face.numel(), 3), -1).index_copy(0, hits.pixel, hits.bary.T)
    return Fragments(pix_to_face, zbuf.view(pix_to_face.shape), bary.view(*pix_to_face.shape, 3))


def _pixel_ranges(
    mesh: OnScreen, height: int, width: int
) -> tuple[Float[Tensor, "2 n f"], Float[Tensor, "2 n f"], Bool[Tensor, "n f"]]:
    """First and last column and row whose centres lie within the extent of each face, and whether there are any
    and all corners lie in front of the image plane."""
    a, b, c = mesh.corners
    low = torch.minimum(torch.minimum(a, b), c)
    high = torch.maximum(torch.maximum(a[:2], b[:2]), c[:2])
    first = (low[:2] - (0.5 + 1e-4)).ceil_().clamp_(min=0)
    last = (high - (0.5 - 1e-4)).floor_()
    for axis, size in enumerate((width, height)):
        last[axis].clamp_(max=size - 1)
    columns, rows = last >= first
    return first, last, columns & rows & (low[2] > NEAR)


def _planes(
    corners: list[Float[Tensor, "3 k"]], area: Float[Tensor, " k"], first: Float[Tensor, "2 k"]
) -> Float[Tensor, "9 k"]:
    """Values, x slopes and y slopes, from the pixel `first`, of two barycentric coordinates and of 1/depth.

    1/depth is affine on the screen; starting at the bounding box keeps the numbers small and exact.
    """
    origin = first + 0.5
    a, b, c = (corner[:2] - origin for corner in corners)
    # Opposite edges of the first and of the second corner, and where they start.
    edge, start = torch.stack([c - b, a - c], dim=1), torch.stack([b, c], dim=1)
    slope_x, slope_y = -edge[1] / area, edge[0] / area
    functions = torch.stack([-(start[0] * slope_x + start[1] * slope_y), slope_x, slope_y])
    last, *others = (1 / corner[2] for corner in (corners[2], *corners[:2]))
    inverse_depth = functions[:, 0] * (others[0] - last) + functions[:, 1] * (others[1] - last)
    inverse_depth[0] += last
    return torch.cat([functions, inverse_depth[:, None]], dim=1).view(9, -1)


def _evaluate(planes: Float[Tensor, "9 m"], column: Int[Tensor, " m"], row: Int[Tensor, " m"]) -> Float[Tensor, "3 m"]:
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

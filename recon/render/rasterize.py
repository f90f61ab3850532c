"""A hard rasteriser in plain torch: the same code on CPU and CUDA, no custom kernel.

    for every face: expand its bounding box into fragments     (repeat_interleave)
    for every fragment: inside the face? at what depth?
    for every pixel: keep the nearest fragment                 (scatter_reduce amin)

Which face a pixel sees carries no gradient; `interpolation` computes barycentric coordinates with
gradient for the visible faces alone, and `recon.render.antialias` supplies the gradient of visibility.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.camera import Cameras

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
    """A mesh in the pictures of `n` cameras: pixel coordinates and depths of its vertices, coordinates of its
    faces' first, second and third corners, and twice the faces' signed areas."""

    points: Float[Tensor, "n v 3"]
    x: list[Float[Tensor, "n f"]]
    y: list[Float[Tensor, "n f"]]
    area: Float[Tensor, "n f"]

    @property
    def front(self) -> Bool[Tensor, "n f"]:
        """Whether each camera sees the outer (counter-clockwise) side of each face."""
        return self.area < 0  # y points down, so counter-clockwise is negative


class Hits(NamedTuple):
    """The covered pixels alone, as flat indices into (n, h, w), with gradient to the vertices."""

    pixel: Int[Tensor, " p"]
    view: Int[Tensor, " p"]
    corners: Int[Tensor, "p 3"]
    bary: Float[Tensor, "p 3"]
    depth: Float[Tensor, " p"]


@torch.no_grad()
def on_screen(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras) -> OnScreen:
    """Where the pictures show a mesh; what is beside them too."""
    points = cameras.project(vertices)
    x, y = (_at_corners(points[..., axis], faces) for axis in (0, 1))
    return OnScreen(points, x, y, (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]))


@torch.no_grad()
def visible_faces(
    mesh: OnScreen, faces: Int[Tensor, "f 3"], height: int, width: int, cull: bool = True
) -> Int[Tensor, "n h w"]:
    """The nearest face at every pixel centre, -1 where none. `cull` drops the faces seen from inside.

    Equal depths go to the face with the lower index, so that the result is the same in every run.
    """
    screen, x, y, area = mesh
    left, right = _pixel_range(x, width)
    top, bottom = _pixel_range(y, height)
    candidate = (mesh.front if cull else area != 0) & (right >= left) & (bottom >= top)
    candidate &= _before_camera(screen[..., 2], faces)
    view, face = candidate.nonzero(as_tuple=True)
    left, top = left[view, face], top[view, face]
    columns = right[view, face] - left + 1
    counts = columns * (bottom[view, face] - top + 1)
    planes = _planes(screen[view[:, None], faces[face]], area[view, face], left, top)
    first = (view * height + top) * width + left

    empty = torch.iinfo(torch.int64).max
    nearest = torch.full((len(screen) * height * width,), empty, device=screen.device)
    for part in _chunks(counts):
        fragment = torch.repeat_interleave(torch.arange(len(face), device=face.device)[part], counts[part])
        starts = counts[part].cumsum(0) - counts[part]
        offset = torch.arange(len(fragment), device=face.device) - starts.repeat_interleave(counts[part])
        span = columns[fragment]
        row = torch.div(offset, span, rounding_mode="floor")
        column = offset - row * span
        b0, b1, inverse_depth = _evaluate(planes[fragment], column, row)
        inside = (b0 >= -INSIDE_TOLERANCE) & (b1 >= -INSIDE_TOLERANCE) & (b0 + b1 <= 1 + INSIDE_TOLERANCE)
        fragment, row, column = fragment[inside], row[inside], column[inside]
        # Bits of positive floats sort as the floats do: one integer minimum finds depth and face.
        depth_bits = (1 / inverse_depth[inside]).float().view(torch.int32).long()
        key = (depth_bits << 32) | face[fragment]
        nearest.scatter_reduce_(0, first[fragment] + row * width + column, key, "amin")
    pix_to_face = torch.where(nearest == empty, -1, nearest & 0xFFFFFFFF)
    return pix_to_face.view(len(screen), height, width)


def intersect(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    pix_to_face: Int[Tensor, "n h w"],
) -> Hits:
    """Intersect each covered pixel's ray with its face, with gradient (Moeller and Trumbore 1997)."""
    _, height, width = pix_to_face.shape
    pixel = (pix_to_face.flatten() >= 0).nonzero().squeeze(1)
    view = torch.div(pixel, height * width, rounding_mode="floor")
    corners = faces.index_select(0, pix_to_face.flatten().index_select(0, pixel))
    rays = pixel_rays(cameras, pixel)
    origin, edge1, edge2 = _corner_frame(vertices, corners)
    to_camera = cameras.centers.index_select(0, view) - origin
    normal = torch.linalg.cross(rays, edge2)
    moment = torch.linalg.cross(to_camera, edge1)
    scale = 1 / (edge1 * normal).sum(-1)
    b1 = (to_camera * normal).sum(-1) * scale
    b2 = (rays * moment).sum(-1) * scale
    depth = (edge2 * moment).sum(-1) * scale
    return Hits(pixel, view, corners, torch.stack([1 - b1 - b2, b1, b2], dim=-1), depth)


def rasterize(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras, cull: bool = True
) -> Fragments:
    """Face, depth and barycentric coordinates at every pixel centre, the latter two with gradient."""
    pix_to_face = visible_faces(on_screen(vertices, faces, cameras), faces, cameras.height, cameras.width, cull)
    hits = intersect(vertices, faces, cameras, pix_to_face)
    zbuf = vertices.new_full((pix_to_face.numel(),), -1).index_copy(0, hits.pixel, hits.depth)
    bary = vertices.new_full((pix_to_face.numel(), 3), -1).index_copy(0, hits.pixel, hits.bary)
    return Fragments(pix_to_face, zbuf.view(pix_to_face.shape), bary.view(*pix_to_face.shape, 3))


def pixel_rays(cameras: Cameras, pixel: Int[Tensor, " p"]) -> Float[Tensor, "p 3"]:
    """World directions through the centres of pixels, flat indices into (n, h, w), scaled to advance one unit
    along the optical axis."""
    line = torch.div(pixel, cameras.width, rounding_mode="floor")
    view = torch.div(line, cameras.height, rounding_mode="floor")
    x, y = pixel - line * cameras.width + 0.5, line - view * cameras.height + 0.5
    directions = cameras.camera_to_world[:, :3, :3] @ torch.linalg.inv(cameras.intrinsics)
    right, down, first = directions.mT.index_select(0, view).unbind(1)
    return x[:, None] * right + y[:, None] * down + first


def _at_corners(values: Float[Tensor, "n v"], faces: Int[Tensor, "f 3"]) -> list[Float[Tensor, "n f"]]:
    """Values at the first, second and third corners; apart, for reducing over an axis of three is slow."""
    return [values.index_select(1, corner) for corner in faces.unbind(1)]


def _before_camera(depth: Float[Tensor, "n v"], faces: Int[Tensor, "f 3"]) -> Bool[Tensor, "n f"] | bool:
    """Whether all corners lie in front of the image plane."""
    if bool((depth > NEAR).all()):
        return True
    a, b, c = _at_corners(depth, faces)
    return (a > NEAR) & (b > NEAR) & (c > NEAR)


def _pixel_range(coordinate: list[Float[Tensor, "n f"]], size: int) -> tuple[Int[Tensor, "n f"], Int[Tensor, "n f"]]:
    """First and last pixel whose centre lies within the extent of each face."""
    low = torch.minimum(torch.minimum(coordinate[0], coordinate[1]), coordinate[2])
    high = torch.maximum(torch.maximum(coordinate[0], coordinate[1]), coordinate[2])
    first = (low - 0.5 - 1e-4).ceil().clamp(0, size)
    last = (high - 0.5 + 1e-4).floor().clamp(-1, size - 1)
    return first.long(), last.long()


def _planes(
    corners: Float[Tensor, "k 3 3"],
    area: Float[Tensor, " k"],
    left: Int[Tensor, " k"],
    top: Int[Tensor, " k"],
) -> Float[Tensor, "k 3 3"]:
    """Value, x slope and y slope of two barycentric coordinates and of 1/depth, from pixel (left, top).

    1/depth is affine on the screen; starting at the bounding box keeps the numbers small and exact.
    """
    x = corners[..., 0] - (left + 0.5)[:, None]
    y = corners[..., 1] - (top + 0.5)[:, None]
    functions = []
    for i, j in ((1, 2), (2, 0)):
        slope_x = (y[:, i] - y[:, j]) / area
        slope_y = (x[:, j] - x[:, i]) / area
        functions.append(torch.stack([-(x[:, i] * slope_x + y[:, i] * slope_y), slope_x, slope_y], -1))
    inverse = 1 / corners[..., 2]
    b0, b1 = functions
    inverse_depth = b0 * (inverse[:, 0] - inverse[:, 2])[:, None] + b1 * (inverse[:, 1] - inverse[:, 2])[:, None]
    inverse_depth[:, 0] += inverse[:, 2]
    return torch.stack([b0, b1, inverse_depth], dim=1)


def _evaluate(planes: Float[Tensor, "m 3 3"], column: Int[Tensor, " m"], row: Int[Tensor, " m"]) -> tuple[Tensor, ...]:
    value, slope_x, slope_y = planes.unbind(-1)
    return (value + slope_x * column[:, None] + slope_y * row[:, None]).unbind(-1)


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


def _corner_frame(
    vertices: Float[Tensor, "v 3"], corners: Int[Tensor, "p 3"]
) -> tuple[Float[Tensor, "p 3"], Float[Tensor, "p 3"], Float[Tensor, "p 3"]]:
    points = vertices.index_select(0, corners.flatten()).view(-1, 3, 3)
    origin = points[:, 0]
    return origin, points[:, 1] - origin, points[:, 2] - origin

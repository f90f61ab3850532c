"""Where samples' rays meet the faces that they see, what is interpolated there, and the light of the camera's flash.

`recon.render.intersect`, `normals` and `shade` have the mathematics. Forward, samples go in the order of the pixels,
row by row, so that several in a row see one face: what depends on the face alone is computed when it changes. Backward
they go the same way again, and what they give to a face's corners is added to these when it changes.
"""

from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.camera import Cameras
from recon.render.compiled.parts import MOST_SUMS, equal_parts, side_by_side, summed
from recon.render.compiled.rasterize import Nearest
from recon.render.compiled.vectors import cross, dot, less, times, unit

_ZERO, _HALF, _ONE, _TWO = (np.float32(value) for value in (0, 0.5, 1, 2))


class Grid(NamedTuple):
    """How samples make up pixels: of each row and each column of samples that of its pixels, -1 in the margin."""

    rows: Int[np.ndarray, " h"]
    columns: Int[np.ndarray, " w"]

    @classmethod
    def of(cls, height: int, width: int, samples: int, margin: int) -> "Grid":
        """Of h x w samples, `margin` of them on each side left out, and samples x samples of the others a pixel."""
        return cls(*(_pixels(size, samples, margin) for size in (height, width)))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        return int(self.rows.max()) + 1, int(self.columns.max()) + 1


def _pixels(size: int, samples: int, margin: int) -> Int[np.ndarray, " s"]:
    pixels = np.full(size, -1, np.int32)
    pixels[margin : size - margin] = np.arange(size - 2 * margin) // samples
    return pixels


class Seen(NamedTuple):
    """What the samples that see the mesh see, in their order. All carry gradient.

    mixed: attributes of the vertices, interpolated. light: before the camera's flash, irradiance and the cosine of its
    angle with the normal; else points and unit normals, in the world, for other lights.
    """

    mixed: Float[Tensor, "k p"]
    light: Float[Tensor, "l p"]


def surface(
    vertices: Float[Tensor, "v 3"],
    attributes: Float[Tensor, "v k"],
    normals: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Cameras,
    nearest: Nearest,
    grid: Grid,
    *,
    flash: bool,
) -> tuple[Seen, Float[Tensor, "5 n a b"]]:
    """What the samples of `nearest` see, and sums of it over pixels.

    Args:
        vertices: in the world.
        attributes, normals: of the vertices.
        faces: their corners.
        cameras: of the samples; they get no gradient.
        nearest: of the same mesh and cameras. It is used up: in place of the face that a sample sees stands its number
            among those that see something, and its depth is where its ray meets the face, 0 where it meets none.
        grid: which samples make up which pixels.
        flash: compute the light of the cameras' flashes.

    Returns:
        With gradient to vertices, attributes and normals what is seen, and without the sums over the samples of each
        pixel of (normal, depth, 1).
    """
    *seen, details = _Surface.apply(vertices, attributes, normals, faces, rays_of(cameras), nearest, grid, flash)
    return Seen(*seen), details


@torch.no_grad()
def rays_of(cameras: Cameras) -> Float[Tensor, "n 12"]:
    """Of each camera R K^-1, row by row, and its centre: see `recon.render.intersect.pixel_rays`."""
    directions = cameras.camera_to_world[:, :3, :3] @ torch.linalg.inv(cameras.intrinsics)
    return torch.cat([directions.flatten(1), cameras.centers], dim=1)


class _Surface(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vertices: Float[Tensor, "v 3"],
        attributes: Float[Tensor, "v k"],
        normals: Float[Tensor, "v 3"],
        faces: Int[Tensor, "f 3"],
        rays: Float[Tensor, "n 12"],
        nearest: Nearest,
        grid: Grid,
        flash: bool,
    ) -> tuple[Float[Tensor, "k p"], Float[Tensor, "l p"], Float[Tensor, "5 n a b"]]:
        count, views = sum(nearest.counts), len(nearest.counts)
        face = torch.empty(count, dtype=torch.int32)
        mixed = vertices.new_empty(attributes.shape[1], count)
        light = vertices.new_empty(2 if flash else 6, count)
        details = vertices.new_zeros(5, views, *grid.size)
        # All of a vertex together: it lies in one or two lines of the cache.
        table = torch.cat([vertices, normals, attributes], dim=1).detach()
        tables = [table, faces.to(torch.int32).contiguous(), rays.contiguous()]
        scene = [each.numpy() for each in (*tables, nearest.face, face)]
        results = [each.numpy() for each in (mixed, light, nearest.depth, details)]
        starts = np.cumsum([0, *nearest.counts])
        seen = [view for view in range(views) if nearest.counts[view]]
        side_by_side(lambda view: _look(*scene, *results, *grid, view, starts[view], flash), seen)
        ctx.save_for_backward(*tables, nearest.face, face)
        ctx.flash, ctx.counts = flash, nearest.counts
        ctx.mark_non_differentiable(details)
        return mixed, light, details

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mixed: Float[Tensor, "k p"], of_light: Float[Tensor, "l p"], _: Any) -> Any:
        scene = [each.numpy() for each in ctx.saved_tensors]
        given = [each.contiguous().numpy() for each in (of_mixed, of_light)]
        table, _, _, sample, _ = scene
        views, channels = len(sample), table.shape[1] - 6 if ctx.needs_input_grad[1] else 0

        def sums_of(part: slice) -> Float[np.ndarray, "v c"]:
            sums = np.zeros((len(table), 6 + channels), np.float32)
            for view in range(part.start, part.stop):
                if ctx.counts[view]:
                    _look_back(*scene, *given, sums, view, ctx.flash, channels)
            return sums

        sums = torch.from_numpy(summed(sums_of, equal_parts(views, max(1, min(views, MOST_SUMS)))))
        of_vertices, of_normals, of_attributes = sums.split([3, 3, channels], dim=1)
        return of_vertices, of_attributes if channels else None, of_normals, None, None, None, None, None


# What the loops take: `table` has of each vertex its place, its normal and its attributes; `cameras` are the rows of
# `rays_of`; `sample` is, of each sample, the face that it sees before `_look`, and after it its number among those that
# see something, whose face is in `face`; `rows` and `columns` are those of `Grid`. Three numbers of a point: a tuple.


@njit(nogil=True, error_model="numpy")
@no_type_check
def _three(table, v, first):
    return table[v, first], table[v, first + 1], table[v, first + 2]


@njit(nogil=True, error_model="numpy")
@no_type_check
def _mixed(b0, b1, b2, a, b, c):
    return b0 * a[0] + b1 * b[0] + b2 * c[0], b0 * a[1] + b1 * b[1] + b2 * c[1], b0 * a[2] + b1 * b[2] + b2 * c[2]


@njit(nogil=True, error_model="numpy")
@no_type_check
def _load_face(table, faces, center, f):
    """What samples of a face share: its corners, edges and so on as `recon.render.intersect` has them, and normals."""
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    a = _three(table, i, 0)
    edge1, edge2 = less(_three(table, j, 0), a), less(_three(table, k, 0), a)
    to_camera = less(center, a)
    moment = cross(to_camera, edge1)
    there = _three(table, i, 3), _three(table, j, 3), _three(table, k, 3)
    return (i, j, k), edge1, edge2, to_camera, moment, dot(edge2, moment), there


@njit(nogil=True, error_model="numpy")
@no_type_check
def _meet(ray, edge1, edge2, to_camera, moment, high):
    """See `recon.render.intersect`: barycentric coordinates, depth, and what their derivatives need."""
    normal = cross(ray, edge2)
    scale = _ONE / dot(edge1, normal)
    b1 = dot(to_camera, normal) * scale
    b2 = dot(ray, moment) * scale
    return _ONE - b1 - b2, b1, b2, high * scale, normal, scale


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _look(
    table, faces, cameras, sample, face,
    mixed, light, depths, details, rows, columns, view, start, flash,
):  # fmt: skip
    """One view's samples that see something, numbered from `start`."""
    camera = cameras[view]
    center = camera[9], camera[10], camera[11]
    right = camera[0], camera[3], camera[6]
    channels, (_, height, width) = table.shape[1] - 6, sample.shape
    known, i = -1, start
    (c0, c1, c2), edge1, edge2, to_camera, moment, high, there = _load_face(table, faces, center, 0)
    for row in range(height):
        y = np.float32(row) + _HALF
        first = y * camera[1] + camera[2], y * camera[4] + camera[5], y * camera[7] + camera[8]
        for column in range(width):
            f = sample[view, row, column]
            if f < 0:
                continue
            if f != known:
                known = f
                (c0, c1, c2), edge1, edge2, to_camera, moment, high, there = _load_face(table, faces, center, f)
            x = np.float32(column) + _HALF
            ray = first[0] + x * right[0], first[1] + x * right[1], first[2] + x * right[2]
            b0, b1, b2, depth, _, _ = _meet(ray, edge1, edge2, to_camera, moment, high)
            for k in range(channels):
                mixed[k, i] = b0 * table[c0, 6 + k] + b1 * table[c1, 6 + k] + b2 * table[c2, 6 + k]
            normal, _ = unit(_mixed(b0, b1, b2, there[0], there[1], there[2]))
            point = center[0] + depth * ray[0], center[1] + depth * ray[1], center[2] + depth * ray[2]
            if flash:
                offset = less(center, point)
                squared = dot(offset, offset)
                cosine = max(dot(offset, normal) * (_ONE / np.sqrt(squared)), _ZERO)
                light[0, i], light[1, i] = cosine / squared, cosine
            else:
                light[0, i], light[1, i], light[2, i] = point
                light[3, i], light[4, i], light[5, i] = normal
            sample[view, row, column] = i
            depths[view, row, column] = depth
            face[i] = f
            i += 1
            up, left = rows[row], columns[column]
            if up >= 0 and left >= 0:
                details[0, view, up, left] += normal[0]
                details[1, view, up, left] += normal[1]
                details[2, view, up, left] += normal[2]
                details[3, view, up, left] += depth
                details[4, view, up, left] += _ONE


@njit(nogil=True, error_model="numpy")
@no_type_check
def _flash_back(offset, normal, of_irradiance, of_cosine):
    """The gradients of the offset to a flash and of the normal, by those of irradiance and cosine."""
    squared = dot(offset, offset)
    root = _ONE / np.sqrt(squared)
    cosine = dot(offset, normal) * root
    if cosine < _ZERO:
        return (_ZERO, _ZERO, _ZERO), (_ZERO, _ZERO, _ZERO)
    by_squared = of_irradiance / squared
    of_cosine += by_squared
    along = of_cosine * root
    turn = cosine / squared * (_TWO * by_squared + of_cosine)
    of_offset = (
        along * normal[0] - turn * offset[0],
        along * normal[1] - turn * offset[1],
        along * normal[2] - turn * offset[2],
    )
    return of_offset, times(along, offset)


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _look_back(
    table, faces, cameras, sample, face,
    of_mixed, of_light, sums, view, flash, channels,
):  # fmt: skip
    """Adds to `sums`, of each vertex, the gradients of its place, its normal and, if `channels`, its attributes."""
    camera = cameras[view]
    center = camera[9], camera[10], camera[11]
    right = camera[0], camera[3], camera[6]
    mixing, (_, height, width) = table.shape[1] - 6, sample.shape
    nothing = (_ZERO, _ZERO, _ZERO)
    known = 0
    (c0, c1, c2), edge1, edge2, to_camera, moment, high, there = _load_face(table, faces, center, 0)
    p0, p1, p2, n0, n1, n2 = nothing, nothing, nothing, nothing, nothing, nothing
    for row in range(height):
        y = np.float32(row) + _HALF
        first = y * camera[1] + camera[2], y * camera[4] + camera[5], y * camera[7] + camera[8]
        for column in range(width):
            i = sample[view, row, column]
            if i < 0:
                continue
            f = face[i]
            if f != known:
                _hand_out(sums, c0, p0, n0)
                _hand_out(sums, c1, p1, n1)
                _hand_out(sums, c2, p2, n2)
                p0, p1, p2, n0, n1, n2 = nothing, nothing, nothing, nothing, nothing, nothing
                known = f
                (c0, c1, c2), edge1, edge2, to_camera, moment, high, there = _load_face(table, faces, center, f)
            x = np.float32(column) + _HALF
            ray = first[0] + x * right[0], first[1] + x * right[1], first[2] + x * right[2]
            b0, b1, b2, depth, across, scale = _meet(ray, edge1, edge2, to_camera, moment, high)
            normal, inverse = unit(_mixed(b0, b1, b2, there[0], there[1], there[2]))
            if flash:
                of_offset, of_normal = _flash_back(times(-depth, ray), normal, of_light[0, i], of_light[1, i])
                of_depth = -dot(of_offset, ray)
            else:
                of_depth = dot((of_light[0, i], of_light[1, i], of_light[2, i]), ray)
                of_normal = (of_light[3, i], of_light[4, i], of_light[5, i])
            turn = dot(of_normal, normal)
            g = (
                (of_normal[0] - turn * normal[0]) * inverse,
                (of_normal[1] - turn * normal[1]) * inverse,
                (of_normal[2] - turn * normal[2]) * inverse,
            )
            by_0, by_1, by_2 = dot(g, there[0]), dot(g, there[1]), dot(g, there[2])
            for k in range(mixing):
                of = of_mixed[k, i]
                by_0 += of * table[c0, 6 + k]
                by_1 += of * table[c1, 6 + k]
                by_2 += of * table[c2, 6 + k]
                if channels:
                    sums[c0, 6 + k] += b0 * of
                    sums[c1, 6 + k] += b1 * of
                    sums[c2, 6 + k] += b2 * of
            of_b1, of_b2, of_depth = (by_0 - by_1) * scale, (by_2 - by_0) * scale, of_depth * scale
            second, third = cross(ray, edge1), cross(edge1, edge2)
            of_point = (
                of_b1 * across[0] + of_b2 * second[0] - of_depth * third[0],
                of_b1 * across[1] + of_b2 * second[1] - of_depth * third[1],
                of_b1 * across[2] + of_b2 * second[2] - of_depth * third[2],
            )
            p0, n0 = _plus(p0, b0, of_point), _plus(n0, b0, g)
            p1, n1 = _plus(p1, b1, of_point), _plus(n1, b1, g)
            p2, n2 = _plus(p2, b2, of_point), _plus(n2, b2, g)
    _hand_out(sums, c0, p0, n0)
    _hand_out(sums, c1, p1, n1)
    _hand_out(sums, c2, p2, n2)


@njit(nogil=True, error_model="numpy")
@no_type_check
def _plus(total, factor, a):
    return total[0] + factor * a[0], total[1] + factor * a[1], total[2] + factor * a[2]


@njit(nogil=True, error_model="numpy")
@no_type_check
def _hand_out(sums, v, of_point, of_normal):
    """Adds to a corner of a face what its samples give."""
    sums[v, 0] += of_point[0]
    sums[v, 1] += of_point[1]
    sums[v, 2] += of_point[2]
    sums[v, 3] += of_normal[0]
    sums[v, 4] += of_normal[1]
    sums[v, 5] += of_normal[2]

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
from recon.render.compiled.parts import equal_parts, side_by_side
from recon.render.compiled.rasterize import Nearest
from recon.render.normals import SHORTEST

MOST_SUMS = 8
"""Sums over views that are kept apart, and added in the end: as many threads may work at once. Not one for each view,
as vertices have many numbers and crops are many views; nor one for each thread, as the result would depend on them."""

_ZERO, _HALF, _ONE, _TWO = (np.float32(value) for value in (0, 0.5, 1, 2))
_SHORTEST = np.float32(SHORTEST**2)


class Grid(NamedTuple):
    """How samples make up pixels: of each row and each column of samples that of its pixels, -1 in the margin."""

    rows: Int[np.ndarray, " h"]
    columns: Int[np.ndarray, " w"]

    @classmethod
    def of(cls, height: int, width: int, samples: int, margin: int) -> "Grid":
        """Of h x w samples, `margin` of them on each side left out, and samples x samples of the others a pixel."""
        return cls(*(_pixels(size, samples, margin) for size in (height, width)))


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


class Scene(NamedTuple):
    """What a pass over the samples looks up, as the compiled loops take it.

    vertices, attributes, normals: of the mesh, point by point. faces: their corners. rays: of each camera R K^-1, row
    by row, and its centre. sample: number of each sample that sees something, -1 of others. face: of each number, the
    face. starts: of each view, the first number.
    """

    vertices: Float[np.ndarray, "v 3"]
    attributes: Float[np.ndarray, "v k"]
    normals: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    rays: Float[np.ndarray, "n 12"]
    sample: Int[np.ndarray, "n h w"]
    face: Int[np.ndarray, " p"]


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
        details = vertices.new_zeros(5, views, max(grid.rows) + 1, max(grid.columns) + 1)
        tables = [each.detach().contiguous() for each in (vertices, attributes, normals, faces, rays)]
        scene = [each.numpy() for each in (*tables, nearest.face, face)]
        results = [each.numpy() for each in (mixed, light, nearest.depth, details)]
        starts = np.cumsum([0, *nearest.counts])
        side_by_side(
            lambda view: _look(*scene, *results, grid.rows, grid.columns, view, starts[view], flash), range(views)
        )
        ctx.save_for_backward(*tables, nearest.face, face)
        ctx.flash = flash
        ctx.mark_non_differentiable(details)
        return mixed, light, details

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mixed: Float[Tensor, "k p"], of_light: Float[Tensor, "l p"], _: Any) -> Any:
        scene = [each.numpy() for each in ctx.saved_tensors]
        given = [each.contiguous().numpy() for each in (of_mixed, of_light)]
        vertices, attributes, *_, sample, _ = scene
        views, channels = len(sample), attributes.shape[1] if ctx.needs_input_grad[1] else 0

        def sums_of(part: slice) -> Float[np.ndarray, "v c"]:
            sums = np.zeros((len(vertices), 6 + channels), np.float32)
            for view in range(part.start, part.stop):
                _look_back(*scene, *given, sums, view, ctx.flash, channels)
            return sums

        first, *others = side_by_side(sums_of, equal_parts(views, min(views, MOST_SUMS)))
        for each in others:
            first += each
        of_vertices, of_normals, of_attributes = torch.from_numpy(first).split([3, 3, channels], dim=1)
        return of_vertices, of_attributes if channels else None, of_normals, None, None, None, None, None


@njit(nogil=True, error_model="numpy")
@no_type_check
def _cross(ax, ay, az, bx, by, bz):
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@njit(nogil=True, error_model="numpy")
@no_type_check
def _dot(ax, ay, az, bx, by, bz):
    return ax * bx + ay * by + az * bz


@njit(nogil=True, error_model="numpy")
@no_type_check
def _load_face(vertices, normals, faces, camera, f, corner, there):
    """What samples of a face share. Fills in its corners, and the coordinates of their normals."""
    for c in range(3):
        v = faces[f, c]
        corner[c] = v
        there[c, 0], there[c, 1], there[c, 2] = normals[v, 0], normals[v, 1], normals[v, 2]
    a, b, c = vertices[corner[0]], vertices[corner[1]], vertices[corner[2]]
    edge1 = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    edge2 = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    to_camera = camera[9] - a[0], camera[10] - a[1], camera[11] - a[2]
    moment = _cross(*to_camera, *edge1)
    return edge1, edge2, to_camera, moment, _dot(*edge2, *moment)


@njit(nogil=True, error_model="numpy")
@no_type_check
def _meet(ray, edge1, edge2, to_camera, moment, height):
    """See `recon.render.intersect`: barycentric coordinates, depth, and what their derivatives need."""
    normal = _cross(*ray, *edge2)
    scale = _ONE / _dot(*edge1, *normal)
    b1 = _dot(*to_camera, *normal) * scale
    b2 = _dot(*ray, *moment) * scale
    return _ONE - b1 - b2, b1, b2, height * scale, normal, scale


@njit(nogil=True, error_model="numpy")
@no_type_check
def _mix(b0, b1, b2, there):
    """The unit normal at a sample, and one over the length of what was interpolated."""
    x = b0 * there[0, 0] + b1 * there[1, 0] + b2 * there[2, 0]
    y = b0 * there[0, 1] + b1 * there[1, 1] + b2 * there[2, 1]
    z = b0 * there[0, 2] + b1 * there[1, 2] + b2 * there[2, 2]
    inverse = _ONE / np.sqrt(max(_dot(x, y, z, x, y, z), _SHORTEST))
    return x * inverse, y * inverse, z * inverse, inverse


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _look(
    vertices, attributes, normals, faces, cameras, sample, face,
    mixed, light, depths, details, rows, columns, view, start, flash,
):  # fmt: skip
    """One view's samples that see something, numbered from `start`."""
    camera = cameras[view]
    channels, (_, height, width) = attributes.shape[1], sample.shape
    corner, there = np.empty(3, np.int64), np.empty((3, 3), np.float32)
    edge1 = edge2 = to_camera = moment = (_ZERO, _ZERO, _ZERO)
    high = _ZERO
    known, i = -1, start
    for row in range(height):
        y = np.float32(row) + _HALF
        from_x = y * camera[1] + camera[2]
        from_y = y * camera[4] + camera[5]
        from_z = y * camera[7] + camera[8]
        for column in range(width):
            f = sample[view, row, column]
            if f < 0:
                depths[view, row, column] = _ZERO
                continue
            if f != known:
                known = f
                edge1, edge2, to_camera, moment, high = _load_face(vertices, normals, faces, camera, f, corner, there)
            x = np.float32(column) + _HALF
            ray = from_x + x * camera[0], from_y + x * camera[3], from_z + x * camera[6]
            b0, b1, b2, depth, _, _ = _meet(ray, edge1, edge2, to_camera, moment, high)
            for k in range(channels):
                mixed[k, i] = (
                    b0 * attributes[corner[0], k] + b1 * attributes[corner[1], k] + b2 * attributes[corner[2], k]
                )
            nx, ny, nz, _ = _mix(b0, b1, b2, there)
            px, py, pz = camera[9] + depth * ray[0], camera[10] + depth * ray[1], camera[11] + depth * ray[2]
            if flash:
                dx, dy, dz = camera[9] - px, camera[10] - py, camera[11] - pz
                squared = _dot(dx, dy, dz, dx, dy, dz)
                cosine = max(_dot(dx, dy, dz, nx, ny, nz) * (_ONE / np.sqrt(squared)), _ZERO)
                light[0, i], light[1, i] = cosine / squared, cosine
            else:
                light[0, i], light[1, i], light[2, i] = px, py, pz
                light[3, i], light[4, i], light[5, i] = nx, ny, nz
            sample[view, row, column] = i
            depths[view, row, column] = depth
            face[i] = f
            i += 1
            up, left = rows[row], columns[column]
            if up >= 0 and left >= 0:
                details[0, view, up, left] += nx
                details[1, view, up, left] += ny
                details[2, view, up, left] += nz
                details[3, view, up, left] += depth
                details[4, view, up, left] += _ONE


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _look_back(
    vertices, attributes, normals, faces, cameras, sample, face,
    of_mixed, of_light, sums, view, flash, channels,
):  # fmt: skip
    """Adds to `sums`, of each vertex, the gradients of its place, its normal and, if `channels`, its attributes."""
    camera = cameras[view]
    mixing, (_, height, width) = attributes.shape[1], sample.shape
    corner, there = np.zeros(3, np.int64), np.empty((3, 3), np.float32)
    edge1 = edge2 = to_camera = moment = (_ZERO, _ZERO, _ZERO)
    high = _ZERO
    given, by, bary = np.zeros((3, 6 + channels), np.float32), np.empty(6 + channels, np.float32), np.empty(3, np.float32)
    known = -1
    for row in range(height):
        y = np.float32(row) + _HALF
        from_x = y * camera[1] + camera[2]
        from_y = y * camera[4] + camera[5]
        from_z = y * camera[7] + camera[8]
        for column in range(width):
            i = sample[view, row, column]
            if i < 0:
                continue
            f = face[i]
            if f != known:
                _hand_out(sums, corner, given)
                known = f
                edge1, edge2, to_camera, moment, high = _load_face(vertices, normals, faces, camera, f, corner, there)
            x = np.float32(column) + _HALF
            ray = from_x + x * camera[0], from_y + x * camera[3], from_z + x * camera[6]
            b0, b1, b2, depth, normal, scale = _meet(ray, edge1, edge2, to_camera, moment, high)
            nx, ny, nz, inverse = _mix(b0, b1, b2, there)
            if flash:
                dx, dy, dz = -depth * ray[0], -depth * ray[1], -depth * ray[2]
                squared = _dot(dx, dy, dz, dx, dy, dz)
                root = _ONE / np.sqrt(squared)
                cosine = _dot(dx, dy, dz, nx, ny, nz) * root
                by_cosine, by_squared = of_light[1, i] + of_light[0, i] / squared, _ZERO
                if cosine < _ZERO:
                    by_cosine = _ZERO
                else:
                    by_squared = -cosine / squared * (of_light[0, i] / squared + _HALF * by_cosine)
                along = by_cosine * root
                gx, gy, gz = along * dx, along * dy, along * dz
                twice = -_TWO * by_squared
                qx, qy, qz = twice * dx - along * nx, twice * dy - along * ny, twice * dz - along * nz
            else:
                qx, qy, qz = of_light[0, i], of_light[1, i], of_light[2, i]
                gx, gy, gz = of_light[3, i], of_light[4, i], of_light[5, i]
            turn = _dot(gx, gy, gz, nx, ny, nz)
            gx, gy, gz = (gx - turn * nx) * inverse, (gy - turn * ny) * inverse, (gz - turn * nz) * inverse
            by[3], by[4], by[5] = gx, gy, gz
            bary[0], bary[1], bary[2] = b0, b1, b2
            by_0 = _dot(gx, gy, gz, there[0, 0], there[0, 1], there[0, 2])
            by_1 = _dot(gx, gy, gz, there[1, 0], there[1, 1], there[1, 2])
            by_2 = _dot(gx, gy, gz, there[2, 0], there[2, 1], there[2, 2])
            for k in range(mixing):
                of = of_mixed[k, i]
                by_0 += of * attributes[corner[0], k]
                by_1 += of * attributes[corner[1], k]
                by_2 += of * attributes[corner[2], k]
            for k in range(channels):
                by[6 + k] = of_mixed[k, i]
            of_b1, of_b2 = (by_0 - by_1) * scale, (by_2 - by_0) * scale
            of_depth = _dot(qx, qy, qz, *ray) * scale
            second, third = _cross(*ray, *edge1), _cross(*edge1, *edge2)
            for axis in range(3):
                by[axis] = of_b1 * normal[axis] + of_b2 * second[axis] - of_depth * third[axis]
            for c in range(3):
                for k in range(6 + channels):
                    given[c, k] += bary[c] * by[k]
    _hand_out(sums, corner, given)


@njit(nogil=True, error_model="numpy")
@no_type_check
def _hand_out(sums, corner, given):
    """Adds to the corners of a face what its samples gave, and forgets that."""
    for c in range(3):
        v = corner[c]
        for k in range(given.shape[1]):
            sums[v, k] += given[c, k]
            given[c, k] = _ZERO

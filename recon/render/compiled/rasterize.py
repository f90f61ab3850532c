"""Which face every sample sees: `recon.render.rasterize` as a loop over faces.

Every face goes through the samples of its box and keeps those that it is nearest to. Faces come in their order and have
to be nearer than what was there before, so that equal depths go to the face with the lower index.
"""

from typing import NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor

from recon.render.compiled.parts import side_by_side
from recon.render.rasterize import INSIDE_TOLERANCE, NEAR

_ZERO, _HALF, _ONE, _INFINITE = (np.float32(value) for value in (0, 0.5, 1, np.inf))
_NEAR, _BELOW, _ABOVE = (np.float32(value) for value in (NEAR, -INSIDE_TOLERANCE, 1 + INSIDE_TOLERANCE))

# See `recon.render.rasterize._pixel_ranges`.
_TO_FIRST, _TO_LAST = np.float32(0.5 + 1e-4), np.float32(0.5 - 1e-4)


class Nearest(NamedTuple):
    """What samples see of a mesh.

    face: -1 where none. depth: along the optical axis, 0 where nothing is seen. area: twice the faces' signed
    areas on the screen. counts: how many samples of each view see something.
    """

    face: Int[Tensor, "n h w"]
    depth: Float[Tensor, "n h w"]
    area: Float[Tensor, "n f"]
    counts: list[int]


def nearest_faces(
    points: Float[Tensor, "3 n v"], faces: Int[Tensor, "f 3"], height: int, width: int, cull: bool
) -> Nearest:
    """See `recon.render.rasterize.visible_faces`; `points` as `OnScreen` has them, contiguous."""
    views = points.shape[1]
    face = torch.empty(views, height, width, dtype=torch.int32)
    depth, area = points.new_empty(views, height, width), points.new_empty(views, len(faces))
    arrays = [each.numpy() for each in (points, faces, area, depth, face)]
    counts = side_by_side(lambda view: _rasterize(*arrays, view, cull), range(views))
    return Nearest(face, depth, area, counts)


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _rasterize(points, faces, areas, depths, seen, view, cull):
    """Fills in a view's areas, depths and faces; how many samples see something."""
    xs, ys, zs = points[0, view], points[1, view], points[2, view]
    depth, nearest = depths[view], seen[view]
    height, width = nearest.shape
    depth[:] = _INFINITE
    nearest[:] = -1
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az, bx, by, bz, cx, cy, cz = xs[i], ys[i], zs[i], xs[j], ys[j], zs[j], xs[k], ys[k], zs[k]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        areas[view, f] = area
        # What is not a number is neither.
        if not (area < _ZERO or (area > _ZERO and not cull)) or not (az > _NEAR and bz > _NEAR and cz > _NEAR):
            continue
        left = max(np.ceil(min(min(ax, bx), cx) - _TO_FIRST), _ZERO)
        top = max(np.ceil(min(min(ay, by), cy) - _TO_FIRST), _ZERO)
        right = min(np.floor(max(max(ax, bx), cx) - _TO_LAST), np.float32(width - 1))
        bottom = min(np.floor(max(max(ay, by), cy) - _TO_LAST), np.float32(height - 1))
        if not (right >= left and bottom >= top):
            continue
        # See `recon.render.rasterize._planes`.
        x, y = left + _HALF, top + _HALF
        ax, ay, bx, by, cx, cy = ax - x, ay - y, bx - x, by - y, cx - x, cy - y
        x0, y0, x1, y1 = -(cy - by) / area, (cx - bx) / area, -(ay - cy) / area, (ax - cx) / area
        v0, v1 = -(bx * x0 + by * y0), -(cx * x1 + cy * y1)
        last = _ONE / cz
        of_a, of_b = _ONE / az - last, _ONE / bz - last
        v2, x2, y2 = v0 * of_a + v1 * of_b, x0 * of_a + x1 * of_b, y0 * of_a + y1 * of_b
        v2 += last
        first_row, first_column = int(top), int(left)
        columns = int(right) - first_column + 1
        for row in range(first_row, int(bottom) + 1):
            down = np.float32(row - first_row)
            d0, d1, d2 = y0 * down, y1 * down, y2 * down
            for aside in range(columns):
                across = np.float32(aside)
                b0 = v0 + x0 * across + d0
                b1 = v1 + x1 * across + d1
                if b0 >= _BELOW and b1 >= _BELOW and b0 + b1 <= _ABOVE:
                    here = _ONE / (v2 + x2 * across + d2)
                    column = first_column + aside
                    if here < depth[row, column]:
                        depth[row, column] = here
                        nearest[row, column] = f
    count = 0
    for row in range(height):
        for column in range(width):
            if nearest[row, column] >= 0:
                count += 1
            else:
                depth[row, column] = _ZERO
    return count

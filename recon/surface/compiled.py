"""B-spline fields looked up on a CPU by compiled loops: all steps and stages of a trajectory in one.

The mathematics is that of `recon.surface.spline`, which says why; `CompiledSpline` stands in for its `Spline`. In torch
every stage is a dozen passes over arrays of 81 numbers a point, most of them spent on rearranging what was gathered.
Here a point goes its whole way in registers, forward and backward, and only the positions of the stages are kept. Numba
compiles the loops when they are first needed and keeps what it compiled.

Points are cut into parts, as many as there are points for. Each part adds to a gradient of its own, and these are added
in their order, so that any number of threads gives the same bits.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.config import Integrator
from recon.render.compiled.parts import MOST_SUMS, equal_parts, side_by_side, summed
from recon.render.compiled.vectors import known_length
from recon.surface.spline import HALF_WIDTH, TABLEAUS, FusedSpline

SMALLEST_PART = 4096
"""Points that are worth a thread."""

# A constant that is not said to be of 32 bits is of 64 to the compiler, and so is then all that it touches.
_HALF_WIDTH, _ZERO, _ONE, _TWO, _THREE = (np.float32(value) for value in (HALF_WIDTH, 0, 1, 2, 3))
_HALF, _SIXTH, _TWO_THIRDS = (np.float32(value) for value in (1 / 2, 1 / 6, 2 / 3))

# Sums may be taken in another order and products fused; what is not a number stays that.
_MATH = {"contract", "reassoc", "nsz", "arcp"}


class _Trajectory(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Float[Tensor, "m m m 3"],
        points: Float[Tensor, "v 3"],
        cells: int,
        degree: int,
        step: float,
        steps: int,
        integrator: Integrator,
    ) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "s v 3"]]:
        stages, weights = TABLEAUS[integrator]
        # All of these schemes look along the velocity of the stage before alone: how far, and its share of the step.
        parts = np.array([a[-1] if a else 0 for a in stages], np.float32) * np.float32(step)
        shares = np.array(weights, np.float32) * np.float32(step)
        visited, end = rows.new_empty(steps * len(parts), len(points), 3), rows.new_empty(len(points), 3)
        table, start, path, last = (each.detach().contiguous().numpy() for each in (rows, points, visited, end))

        def carry(part: slice) -> None:
            _carry(table, start[part], path[:, part], last[part], parts, shares, steps, cells, known_length(degree + 1))

        side_by_side(carry, _parts(len(points)))
        ctx.save_for_backward(rows, visited)
        ctx.scheme = parts, shares, steps, cells, degree
        # The first stage of each step looks where the step starts.
        before = visited[:: len(parts)]
        ctx.mark_non_differentiable(before)
        return end, before

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_end: Float[Tensor, "v 3"], _: Any) -> tuple[Tensor | None, ...]:
        rows, visited = ctx.saved_tensors
        parts, shares, steps, cells, degree = ctx.scheme
        of_points = torch.empty_like(of_end, memory_format=torch.contiguous_format)
        table, path, given, found = (each.contiguous().numpy() for each in (rows, visited, of_end, of_points))

        def go_back(part: slice) -> Float[np.ndarray, "m m m 3"]:
            gradient = np.zeros_like(table)
            _go_back(
                table,
                path[:, part],
                given[part],
                found[part],
                gradient,
                parts,
                shares,
                steps,
                cells,
                known_length(degree + 1),
            )
            return gradient

        gradient = summed(go_back, _parts(len(of_end)))
        return torch.from_numpy(gradient), of_points, None, None, None, None, None


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Float[Tensor, "m m m 3"], points: Float[Tensor, "v 3"], cells: int, degree: int
    ) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 3"]]:
        value, jacobian = rows.new_empty(len(points), 3), rows.new_empty(len(points), 3, 3)
        arrays = [each.detach().contiguous().numpy() for each in (points, value, jacobian)]
        table = rows.detach().contiguous().numpy()
        side_by_side(
            lambda part: _look_up(table, *(each[part] for each in arrays), cells, known_length(degree + 1)),
            _parts(len(points)),
        )
        ctx.save_for_backward(rows, points, jacobian)
        ctx.scheme = cells, degree
        return value, jacobian

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_value: Float[Tensor, "v 3"], of_jacobian: Float[Tensor, "v 3 3"]
    ) -> tuple[Tensor | None, ...]:
        rows, points, jacobian = ctx.saved_tensors
        cells, degree = ctx.scheme
        arrays = [each.contiguous().numpy() for each in (points, of_value, of_jacobian)]

        def go_back(part: slice) -> Float[np.ndarray, "m m m 3"]:
            gradient = np.zeros(rows.shape, np.float32)
            _look_up_back(*(each[part] for each in arrays), gradient, cells, known_length(degree + 1))
            return gradient

        of_points = torch.einsum("vcd,vc->vd", jacobian, of_value)
        return torch.from_numpy(summed(go_back, _parts(len(points)))), of_points, None, None


class CompiledSpline(FusedSpline):
    """See `recon.surface.spline.FusedSpline`."""

    look_up = _LookUp
    carry = _Trajectory


def _parts(count: int) -> list[slice]:
    return equal_parts(count, max(1, min(MOST_SUMS, count // SMALLEST_PART)))


@njit(nogil=True, fastmath=_MATH, inline="always")
@no_type_check
def _bases(f, weights, slopes, scale, taken):
    """See `recon.surface.spline._bases`."""
    g = _ONE - f
    if taken == 2:
        weights[0], weights[1] = g, f
        slopes[0], slopes[1] = -scale, scale
    elif taken == 3:
        weights[0], weights[1], weights[2] = g * g * _HALF, _HALF + f * g, f * f * _HALF
        slopes[0], slopes[1], slopes[2] = -g * scale, (g - f) * scale, f * scale
    else:
        weights[0], weights[3] = g * g * g * _SIXTH, f * f * f * _SIXTH
        weights[1], weights[2] = _TWO_THIRDS - f * f * (_ONE - f * _HALF), _TWO_THIRDS - g * g * (_ONE - g * _HALF)
        slopes[0], slopes[3] = -g * g * _HALF * scale, f * f * _HALF * scale
        slopes[1], slopes[2] = f * (_THREE * _HALF * f - _TWO) * scale, g * (_TWO - _THREE * _HALF * g) * scale


@njit(nogil=True, fastmath=_MATH, inline="always")
@no_type_check
def _locate(x, cells, weights, slopes, taken):
    """The first coefficient along an axis; fills in the weights of all, and their derivatives."""
    scale = np.float32(cells) / (_TWO * _HALF_WIDTH)
    at = (x + _HALF_WIDTH) * scale
    inside = at
    if inside < _ZERO:
        inside = _ZERO
    if inside > np.float32(cells):
        inside = np.float32(cells)
    # A point that is not a number looks somewhere, with weights that are no numbers: so is what it finds.
    cell = min(int(inside), cells - 1) if inside == inside else 0
    _bases(inside - np.float32(cell), weights, slopes, scale if at == inside else _ZERO, taken)
    return cell


@njit(nogil=True, fastmath=_MATH, cache=True)
@no_type_check
def _carry(rows, points, visited, end, parts, shares, steps, cells, order):
    taken = len(order)
    stages = len(parts)
    wx, wy, wz = np.empty(taken, np.float32), np.empty(taken, np.float32), np.empty(taken, np.float32)
    slopes = np.empty(taken, np.float32)
    for p in range(len(points)):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        for i in range(steps):
            u, v, w = _ZERO, _ZERO, _ZERO
            dx, dy, dz = _ZERO, _ZERO, _ZERO
            for stage in range(stages):
                far = parts[stage]
                at_x, at_y, at_z = (x + far * u, y + far * v, z + far * w) if stage else (x, y, z)
                here = visited[i * stages + stage, p]
                here[0], here[1], here[2] = at_x, at_y, at_z
                ix, iy, iz = (
                    _locate(at_x, cells, wx, slopes, taken),
                    _locate(at_y, cells, wy, slopes, taken),
                    _locate(at_z, cells, wz, slopes, taken),
                )
                u, v, w = _ZERO, _ZERO, _ZERO
                for a in range(taken):
                    for b in range(taken):
                        of_row = wx[a] * wy[b]
                        for c in range(taken):
                            weight = of_row * wz[c]
                            near = rows[ix + a, iy + b, iz + c]
                            u += weight * near[0]
                            v += weight * near[1]
                            w += weight * near[2]
                share = shares[stage]
                if share != _ZERO:
                    dx, dy, dz = dx + share * u, dy + share * v, dz + share * w
            x, y, z = x + dx, y + dy, z + dz
        end[p, 0], end[p, 1], end[p, 2] = x, y, z


@njit(nogil=True, fastmath=_MATH, cache=True)
@no_type_check
def _go_back(rows, visited, of_end, of_points, gradient, parts, shares, steps, cells, order):
    taken = len(order)
    stages = len(parts)
    wx, wy, wz = np.empty(taken, np.float32), np.empty(taken, np.float32), np.empty(taken, np.float32)
    sx, sy, sz = np.empty(taken, np.float32), np.empty(taken, np.float32), np.empty(taken, np.float32)
    for p in range(len(of_end)):
        gx, gy, gz = of_end[p, 0], of_end[p, 1], of_end[p, 2]
        for i in range(steps - 1, -1, -1):
            bx, by, bz = _ZERO, _ZERO, _ZERO  # of the position of the stage after
            tx, ty, tz = _ZERO, _ZERO, _ZERO
            for stage in range(stages - 1, -1, -1):
                # What the stage's velocity is to the end: by the step itself, and by the next stage's position.
                u, v, w = shares[stage] * gx, shares[stage] * gy, shares[stage] * gz
                if stage + 1 < stages:
                    far = parts[stage + 1]
                    u, v, w = u + far * bx, v + far * by, w + far * bz
                here = visited[i * stages + stage, p]
                ix, iy, iz = (
                    _locate(here[0], cells, wx, sx, taken),
                    _locate(here[1], cells, wy, sy, taken),
                    _locate(here[2], cells, wz, sz, taken),
                )
                bx, by, bz = _ZERO, _ZERO, _ZERO
                for a in range(taken):
                    for b in range(taken):
                        of_row, along_x, along_y = wx[a] * wy[b], sx[a] * wy[b], wx[a] * sy[b]
                        for c in range(taken):
                            near = rows[ix + a, iy + b, iz + c]
                            given = u * near[0] + v * near[1] + w * near[2]
                            bx += along_x * wz[c] * given
                            by += along_y * wz[c] * given
                            bz += of_row * sz[c] * given
                            weight = of_row * wz[c]
                            sums = gradient[ix + a, iy + b, iz + c]
                            sums[0] += weight * u
                            sums[1] += weight * v
                            sums[2] += weight * w
                tx, ty, tz = tx + bx, ty + by, tz + bz
            gx, gy, gz = gx + tx, gy + ty, gz + tz
        of_points[p, 0], of_points[p, 1], of_points[p, 2] = gx, gy, gz


@njit(nogil=True, fastmath=_MATH, cache=True)
@no_type_check
def _look_up(rows, points, value, jacobian, cells, order):
    taken = len(order)
    wx, wy, wz = np.empty(taken, np.float32), np.empty(taken, np.float32), np.empty(taken, np.float32)
    sx, sy, sz = np.empty(taken, np.float32), np.empty(taken, np.float32), np.empty(taken, np.float32)
    for p in range(len(points)):
        ix, iy, iz = (
            _locate(points[p, 0], cells, wx, sx, taken),
            _locate(points[p, 1], cells, wy, sy, taken),
            _locate(points[p, 2], cells, wz, sz, taken),
        )
        for component in range(3):
            total, by_x, by_y, by_z = _ZERO, _ZERO, _ZERO, _ZERO
            for a in range(taken):
                for b in range(taken):
                    of_row, along_x, along_y = wx[a] * wy[b], sx[a] * wy[b], wx[a] * sy[b]
                    for c in range(taken):
                        near = rows[ix + a, iy + b, iz + c, component]
                        total += of_row * wz[c] * near
                        by_x += along_x * wz[c] * near
                        by_y += along_y * wz[c] * near
                        by_z += of_row * sz[c] * near
            value[p, component] = total
            jacobian[p, component, 0], jacobian[p, component, 1], jacobian[p, component, 2] = by_x, by_y, by_z


@njit(nogil=True, fastmath=_MATH, cache=True)
@no_type_check
def _look_up_back(points, of_value, of_jacobian, gradient, cells, order):
    taken = len(order)
    wx, wy, wz = np.empty(taken, np.float32), np.empty(taken, np.float32), np.empty(taken, np.float32)
    sx, sy, sz = np.empty(taken, np.float32), np.empty(taken, np.float32), np.empty(taken, np.float32)
    for p in range(len(points)):
        ix, iy, iz = (
            _locate(points[p, 0], cells, wx, sx, taken),
            _locate(points[p, 1], cells, wy, sy, taken),
            _locate(points[p, 2], cells, wz, sz, taken),
        )
        for a in range(taken):
            for b in range(taken):
                of_row, along_x, along_y = wx[a] * wy[b], sx[a] * wy[b], wx[a] * sy[b]
                for c in range(taken):
                    weight, by_x, by_y, by_z = of_row * wz[c], along_x * wz[c], along_y * wz[c], of_row * sz[c]
                    for component in range(3):
                        row = of_jacobian[p, component]
                        gradient[ix + a, iy + b, iz + c, component] += (
                            weight * of_value[p, component] + by_x * row[0] + by_y * row[1] + by_z * row[2]
                        )

"""B-spline fields looked up by Triton kernels: all steps and stages of a trajectory in one, forward and backward.

The mathematics is that of `recon.surface.spline`, which says why; `TritonSpline` stands in for its `Spline`. A point
goes its whole way in the registers of one thread. Backward it goes the way back, with the positions of the stages, and
adds to the coefficients' gradient what each stage gives.

These additions meet: thousands of points share a coefficient. Sums of floats would depend on the order in which
threads come, so what is added are 64-bit integers, whose sums do not: multiples of a power of two that is chosen, on
the device, 2^40 times finer than the largest gradient of a point. What does not fit, or is not finite, makes the whole
gradient not a number, so that it is noticed.
"""

from typing import Any, NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.config import Integrator
from recon.surface.spline import HALF_WIDTH, TABLEAUS, FusedSpline

BLOCK = 64

FINENESS = 40
"""Bits by which the smallest step of the sums is smaller than the largest gradient of a point."""

LARGEST = 2.0**55
"""Of what is added at once, in steps: 256 of these fit a sum."""

_HALF_WIDTH = tl.constexpr(HALF_WIDTH)
_LARGEST = tl.constexpr(LARGEST)
_STAGES = {integrator: len(stages) for integrator, (stages, _) in TABLEAUS.items()}


class _Sums(NamedTuple):
    """The coefficients' gradient while it is added up: multiples of 1 / `factor`, and 1 in `spoilt` if it is none."""

    steps: Tensor
    spoilt: Tensor
    factor: Float[Tensor, ""]

    @classmethod
    def of(cls, rows: Float[Tensor, "m m m 3"], largest: Float[Tensor, ""]) -> "_Sums":
        """Sums of zero, fine enough for gradients of points that are not greater than `largest`."""
        exponent = torch.frexp(largest).exponent.clamp(-80, 120)
        factor = torch.ldexp(torch.ones_like(largest), FINENESS - exponent)
        steps = torch.zeros(rows.shape, dtype=torch.int64, device=rows.device)
        return cls(steps, torch.zeros(1, dtype=torch.int32, device=rows.device), factor)

    def gradient(self) -> Float[Tensor, "m m m 3"]:
        sums = (self.steps.double() / self.factor.double()).float()
        return torch.where(self.spoilt > 0, torch.nan, sums)


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
        count, stages = len(points), _STAGES[integrator]
        visited = rows.new_empty(steps * stages, 3, count)
        end = rows.new_empty(3, count)
        _run(_forward, count, rows, points.T.contiguous(), visited, end, step, steps, cells, degree, integrator)
        ctx.save_for_backward(rows, visited)
        ctx.scheme = step, steps, cells, degree, integrator
        # The first stage of each step looks where the step starts.
        before = visited[::stages].transpose(1, 2)
        ctx.mark_non_differentiable(before)
        return end.T, before

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_end: Float[Tensor, "v 3"], _: Any) -> tuple[Tensor | None, ...]:
        rows, visited = ctx.saved_tensors
        of_end = of_end.T.contiguous()
        sums, of_points = _Sums.of(rows, of_end.abs().amax()), torch.empty_like(of_end)
        _run(_backward, of_end.shape[1], rows, visited, of_end, of_points, *sums, *ctx.scheme)
        return sums.gradient(), of_points.T, None, None, None, None, None


def _run(kernel: Any, count: int, *arguments: Any) -> None:
    """One of the two kernels over points; its arguments and, last, the scheme."""
    *tensors, step, steps, cells, degree, integrator = arguments
    kernel[(triton.cdiv(count, BLOCK),)](
        *tensors,
        count,
        float(step),
        steps,
        cells,
        DEGREE=degree,
        STAGES=_STAGES[integrator],
        BLOCK=BLOCK,
        num_warps=2,
        enable_fp_fusion=False,
    )


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Float[Tensor, "m m m 3"], points: Float[Tensor, "v 3"], cells: int, degree: int
    ) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 3"]]:
        points = points.T.contiguous()
        count = points.shape[1]
        value, jacobian = rows.new_empty(3, count), rows.new_empty(9, count)
        grid, meta = (triton.cdiv(count, BLOCK),), {"DEGREE": degree, "BLOCK": BLOCK, "num_warps": 2}
        _look_up[grid](rows, points, value, jacobian, count, cells, **meta, enable_fp_fusion=False)
        ctx.save_for_backward(rows, points, jacobian)
        ctx.cells, ctx.degree = cells, degree
        return value.T, jacobian.view(3, 3, count).permute(2, 0, 1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_value: Float[Tensor, "v 3"], of_jacobian: Float[Tensor, "v 3 3"]
    ) -> tuple[Float[Tensor, "m m m 3"], Float[Tensor, "v 3"], None, None]:
        rows, points, jacobian = ctx.saved_tensors
        count = points.shape[1]
        of_value, by_jacobian = of_value.T.contiguous(), of_jacobian.permute(1, 2, 0).contiguous()
        # A derivative's weights are as much greater as a cell is smaller than 1.
        steepest = by_jacobian.abs().amax() * (ctx.cells / (2 * HALF_WIDTH))
        sums = _Sums.of(rows, torch.maximum(of_value.abs().amax(), steepest))
        grid, meta = (triton.cdiv(count, BLOCK),), {"DEGREE": ctx.degree, "BLOCK": BLOCK, "num_warps": 2}
        _look_up_backward[grid](points, of_value, by_jacobian, *sums, count, ctx.cells, **meta, enable_fp_fusion=False)
        of_points = (jacobian.view(3, 3, count) * of_value[:, None]).sum(0)
        return sums.gradient(), of_points.T, None, None


class TritonSpline(FusedSpline):
    """See `recon.surface.spline.FusedSpline`."""

    look_up = _LookUp
    carry = _Trajectory


@triton.jit
@no_type_check
def _locate(p, cells):
    """Along one axis: the cell that a position is in, the fraction of it, and what the fraction moves by with it."""
    scale = cells / (2 * _HALF_WIDTH)
    at = (p + _HALF_WIDTH) * scale
    # What is no number must stay none, which the minimum and the maximum do not care for.
    inside = tl.where(at == at, tl.minimum(tl.maximum(at, 0.0), cells * 1.0), at)
    cell = tl.minimum(tl.floor(inside), cells - 1.0)
    cell = tl.where(inside == inside, cell, 0.0)
    return cell.to(tl.int32), inside - cell, tl.where(at == inside, scale, 0.0)


@triton.jit
@no_type_check
def _bases(f, DEGREE: tl.constexpr):
    g = 1 - f
    if DEGREE == 1:
        w0, w1, w2, w3 = g, f, f * 0, f * 0
    elif DEGREE == 2:
        w0, w1, w2, w3 = g * g * 0.5, 0.5 + f * g, f * f * 0.5, f * 0
    else:
        w0, w3 = g * g * g / 6, f * f * f / 6
        w1, w2 = 2 / 3 - f * f * (1 - f * 0.5), 2 / 3 - g * g * (1 - g * 0.5)
    return w0, w1, w2, w3


@triton.jit
@no_type_check
def _slopes(f, by, DEGREE: tl.constexpr):
    g = 1 - f
    if DEGREE == 1:
        s0, s1, s2, s3 = -by, by, by * 0, by * 0
    elif DEGREE == 2:
        s0, s1, s2, s3 = -g * by, (g - f) * by, f * by, by * 0
    else:
        s0, s3 = -g * g * 0.5 * by, f * f * 0.5 * by
        s1, s2 = f * (1.5 * f - 2) * by, g * (2 - 1.5 * g) * by
    return s0, s1, s2, s3


@triton.jit
@no_type_check
def _pick(w0, w1, w2, w3, i):
    """The i-th of four; where `i` is known when the kernel is compiled, so is which."""
    return tl.where(i == 0, w0, tl.where(i == 1, w1, tl.where(i == 2, w2, w3)))


@triton.jit
@no_type_check
def _part(stage, STAGES: tl.constexpr):
    """How much of the velocity of the stage before goes into the position of a stage (a_ij, the only one there is)."""
    part = 0.5
    if STAGES == 4:
        part = tl.where(stage == 3, 1.0, 0.5)
    return tl.where((stage == 0) | (stage == STAGES), 0.0, part)


@triton.jit
@no_type_check
def _share(stage, STAGES: tl.constexpr):
    """How much of the velocity of a stage goes into the step (b_i)."""
    if STAGES == 4:
        share = tl.where((stage == 0) | (stage == 3), 1 / 6, 1 / 3)
    else:
        share = tl.where(stage == STAGES - 1, 1.0, 0.0)
    return share


@triton.jit
@no_type_check
def _value(rows, x, y, z, there, cells, DEGREE: tl.constexpr):
    """The field at some points."""
    i, fx, _ = _locate(x, cells)
    j, fy, _ = _locate(y, cells)
    k, fz, _ = _locate(z, cells)
    x0, x1, x2, x3 = _bases(fx, DEGREE)
    y0, y1, y2, y3 = _bases(fy, DEGREE)
    z0, z1, z2, z3 = _bases(fz, DEGREE)
    side = cells + DEGREE
    u, v, w = x * 0, x * 0, x * 0
    a = 0
    while a < DEGREE + 1:  # not unrolled: a kernel with all taps of a point takes a minute to compile
        for b in tl.static_range(DEGREE + 1):
            along = _pick(x0, x1, x2, x3, a) * _pick(y0, y1, y2, y3, b)
            start = rows + (((i + a) * side + j + b) * side + k) * 3
            for c in tl.static_range(DEGREE + 1):
                weight = along * _pick(z0, z1, z2, z3, c)
                u += weight * tl.load(start + 3 * c, mask=there, other=0.0)
                v += weight * tl.load(start + 3 * c + 1, mask=there, other=0.0)
                w += weight * tl.load(start + 3 * c + 2, mask=there, other=0.0)
        a += 1
    return u, v, w


@triton.jit
@no_type_check
def _store(to, count, place, x, y, z, there):
    tl.store(to + place, x, mask=there)
    tl.store(to + count + place, y, mask=there)
    tl.store(to + 2 * count + place, z, mask=there)


@triton.jit
@no_type_check
def _load(source, count, place, there):
    x = tl.load(source + place, mask=there, other=0.0)
    y = tl.load(source + count + place, mask=there, other=0.0)
    z = tl.load(source + 2 * count + place, mask=there, other=0.0)
    return x, y, z


@triton.jit
@no_type_check
def _forward(
    rows, points, visited, end, count, step, steps, cells,
    DEGREE: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < count
    x, y, z = _load(points, count, place, there)
    u, v, w = x * 0, x * 0, x * 0
    du, dv, dw = u, u, u
    i = 0
    while i < steps * STAGES:
        stage = i % STAGES
        part, share, last = _part(stage, STAGES) * step, _share(stage, STAGES), stage == STAGES - 1
        ax, ay, az = x + part * u, y + part * v, z + part * w
        _store(visited + i * 3 * count, count, place, ax, ay, az, there)
        u, v, w = _value(rows, ax, ay, az, there, cells, DEGREE)
        du, dv, dw = du + share * u, dv + share * v, dw + share * w
        x, y, z = tl.where(last, x + step * du, x), tl.where(last, y + step * dv, y), tl.where(last, z + step * dw, z)
        du, dv, dw = tl.where(last, 0.0, du), tl.where(last, 0.0, dv), tl.where(last, 0.0, dw)
        i += 1
    _store(end, count, place, x, y, z, there)


@triton.jit
@no_type_check
def _note(u, v, w, factor, spoilt, there):
    """Note where something is not finite or too large; and what may be added, in steps."""
    u, v, w = u * factor, v * factor, w * factor
    sound = (tl.abs(u) < _LARGEST) & (tl.abs(v) < _LARGEST) & (tl.abs(w) < _LARGEST)
    tl.atomic_max(spoilt + tl.zeros_like(sound.to(tl.int32)), 1, mask=there & ~sound, sem="relaxed")
    return tl.where(sound, u, 0.0), tl.where(sound, v, 0.0), tl.where(sound, w, 0.0)


@triton.jit
@no_type_check
def _adjoint(rows, visited, sums, spoilt, factor, u, v, w, count, place, there, cells, DEGREE: tl.constexpr):
    """Add what a gradient (u, v, w) of the velocity at a stage is to the coefficients; returns what it is to the
    stage's position."""
    x, y, z = _load(visited, count, place, there)
    i, fx, rx = _locate(x, cells)
    j, fy, ry = _locate(y, cells)
    k, fz, rz = _locate(z, cells)
    x0, x1, x2, x3 = _bases(fx, DEGREE)
    y0, y1, y2, y3 = _bases(fy, DEGREE)
    z0, z1, z2, z3 = _bases(fz, DEGREE)
    p0, p1, p2, p3 = _slopes(fx, rx, DEGREE)
    q0, q1, q2, q3 = _slopes(fy, ry, DEGREE)
    r0, r1, r2, r3 = _slopes(fz, rz, DEGREE)
    side = cells + DEGREE
    su, sv, sw = _note(u, v, w, factor, spoilt, there)
    bx, by, bz = x * 0, x * 0, x * 0
    a = 0
    while a < DEGREE + 1:
        wx, dx = _pick(x0, x1, x2, x3, a), _pick(p0, p1, p2, p3, a)
        for b in tl.static_range(DEGREE + 1):
            wy, dy = _pick(y0, y1, y2, y3, b), _pick(q0, q1, q2, q3, b)
            start = (((i + a) * side + j + b) * side + k) * 3
            for c in tl.static_range(DEGREE + 1):
                wz, dz = _pick(z0, z1, z2, z3, c), _pick(r0, r1, r2, r3, c)
                at = start + 3 * c
                given = u * tl.load(rows + at, mask=there, other=0.0)
                given += v * tl.load(rows + at + 1, mask=there, other=0.0)
                given += w * tl.load(rows + at + 2, mask=there, other=0.0)
                bx += dx * wy * wz * given
                by += wx * dy * wz * given
                bz += wx * wy * dz * given
                weight = wx * wy * wz
                weight = tl.where(weight == weight, weight, 0.0)
                tl.atomic_add(sums + at, (weight * su).to(tl.int64), mask=there, sem="relaxed")
                tl.atomic_add(sums + at + 1, (weight * sv).to(tl.int64), mask=there, sem="relaxed")
                tl.atomic_add(sums + at + 2, (weight * sw).to(tl.int64), mask=there, sem="relaxed")
        a += 1
    return bx, by, bz


@triton.jit
@no_type_check
def _backward(
    rows, visited, of_end, of_points, sums, spoilt, factors, count, step, steps, cells,
    DEGREE: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < count
    factor = tl.load(factors)
    gx, gy, gz = _load(of_end, count, place, there)
    bx, by, bz = gx * 0, gy * 0, gz * 0
    tx, ty, tz = bx, by, bz
    i = steps * STAGES - 1
    while i >= 0:
        stage = i % STAGES
        # What the stage's velocity is to the end: through the step itself, and through the next stage's position.
        share, part = _share(stage, STAGES) * step, _part(stage + 1, STAGES) * step
        u, v, w = share * gx + part * bx, share * gy + part * by, share * gz + part * bz
        at = visited + i * 3 * count
        bx, by, bz = _adjoint(rows, at, sums, spoilt, factor, u, v, w, count, place, there, cells, DEGREE)
        tx, ty, tz = tx + bx, ty + by, tz + bz
        first = stage == 0
        gx, gy, gz = tl.where(first, gx + tx, gx), tl.where(first, gy + ty, gy), tl.where(first, gz + tz, gz)
        tx, ty, tz = tl.where(first, 0.0, tx), tl.where(first, 0.0, ty), tl.where(first, 0.0, tz)
        i -= 1
    _store(of_points, count, place, gx, gy, gz, there)


@triton.jit
@no_type_check
def _look_up(rows, points, value, jacobian, count, cells, DEGREE: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < count
    x, y, z = _load(points, count, place, there)
    i, fx, rx = _locate(x, cells)
    j, fy, ry = _locate(y, cells)
    k, fz, rz = _locate(z, cells)
    x0, x1, x2, x3 = _bases(fx, DEGREE)
    y0, y1, y2, y3 = _bases(fy, DEGREE)
    z0, z1, z2, z3 = _bases(fz, DEGREE)
    p0, p1, p2, p3 = _slopes(fx, rx, DEGREE)
    q0, q1, q2, q3 = _slopes(fy, ry, DEGREE)
    r0, r1, r2, r3 = _slopes(fz, rz, DEGREE)
    side = cells + DEGREE
    for component in tl.static_range(3):
        total, by_x, by_y, by_z = x * 0, x * 0, x * 0, x * 0
        a = 0
        while a < DEGREE + 1:
            wx, dx = _pick(x0, x1, x2, x3, a), _pick(p0, p1, p2, p3, a)
            for b in tl.static_range(DEGREE + 1):
                wy, dy = _pick(y0, y1, y2, y3, b), _pick(q0, q1, q2, q3, b)
                start = rows + (((i + a) * side + j + b) * side + k) * 3 + component
                for c in tl.static_range(DEGREE + 1):
                    wz, dz = _pick(z0, z1, z2, z3, c), _pick(r0, r1, r2, r3, c)
                    near = tl.load(start + 3 * c, mask=there, other=0.0)
                    total += wx * wy * wz * near
                    by_x += dx * wy * wz * near
                    by_y += wx * dy * wz * near
                    by_z += wx * wy * dz * near
            a += 1
        tl.store(value + component * count + place, total, mask=there)
        _store(jacobian + component * 3 * count, count, place, by_x, by_y, by_z, there)


@triton.jit
@no_type_check
def _look_up_backward(
    points, of_value, of_jacobian, sums, spoilt, factors, count, cells, DEGREE: tl.constexpr, BLOCK: tl.constexpr
):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < count
    factor = tl.load(factors)
    x, y, z = _load(points, count, place, there)
    i, fx, rx = _locate(x, cells)
    j, fy, ry = _locate(y, cells)
    k, fz, rz = _locate(z, cells)
    x0, x1, x2, x3 = _bases(fx, DEGREE)
    y0, y1, y2, y3 = _bases(fy, DEGREE)
    z0, z1, z2, z3 = _bases(fz, DEGREE)
    p0, p1, p2, p3 = _slopes(fx, rx, DEGREE)
    q0, q1, q2, q3 = _slopes(fy, ry, DEGREE)
    r0, r1, r2, r3 = _slopes(fz, rz, DEGREE)
    side = cells + DEGREE
    u, v, w = _load(of_value, count, place, there)
    ux, uy, uz = _load(of_jacobian, count, place, there)
    vx, vy, vz = _load(of_jacobian + 3 * count, count, place, there)
    wx_, wy_, wz_ = _load(of_jacobian + 6 * count, count, place, there)
    u, v, w = _note(u, v, w, factor, spoilt, there)
    scale = cells / (2 * _HALF_WIDTH)
    ux, uy, uz = _note(ux * scale, uy * scale, uz * scale, factor, spoilt, there)
    vx, vy, vz = _note(vx * scale, vy * scale, vz * scale, factor, spoilt, there)
    wx_, wy_, wz_ = _note(wx_ * scale, wy_ * scale, wz_ * scale, factor, spoilt, there)
    a = 0
    while a < DEGREE + 1:
        wx, dx = _pick(x0, x1, x2, x3, a), _pick(p0, p1, p2, p3, a) / scale
        for b in tl.static_range(DEGREE + 1):
            wy, dy = _pick(y0, y1, y2, y3, b), _pick(q0, q1, q2, q3, b) / scale
            start = sums + (((i + a) * side + j + b) * side + k) * 3
            for c in tl.static_range(DEGREE + 1):
                wz, dz = _pick(z0, z1, z2, z3, c), _pick(r0, r1, r2, r3, c) / scale
                weight, by_x, by_y, by_z = wx * wy * wz, dx * wy * wz, wx * dy * wz, wx * wy * dz
                weight = tl.where(weight == weight, weight, 0.0)
                by_x = tl.where(by_x == by_x, by_x, 0.0)
                by_y = tl.where(by_y == by_y, by_y, 0.0)
                by_z = tl.where(by_z == by_z, by_z, 0.0)
                at = start + 3 * c
                given = weight * u + by_x * ux + by_y * uy + by_z * uz
                tl.atomic_add(at, given.to(tl.int64), mask=there, sem="relaxed")
                given = weight * v + by_x * vx + by_y * vy + by_z * vz
                tl.atomic_add(at + 1, given.to(tl.int64), mask=there, sem="relaxed")
                given = weight * w + by_x * wx_ + by_y * wy_ + by_z * wz_
                tl.atomic_add(at + 2, given.to(tl.int64), mask=there, sem="relaxed")
        a += 1

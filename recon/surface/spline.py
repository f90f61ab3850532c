"""Vector fields as tensor products of uniform B-splines, carried along with their exact derivatives.

    v(x) = sum_ijk c_ijk b(x_1 / h - i) b(x_2 / h - j) b(x_3 / h - k)

over the cube [-HALF_WIDTH, HALF_WIDTH]^3 of n^3 cells, with b the centred B-spline of a degree (1: linear, 2:
quadratic, 3: cubic; de Boor 1978), so that n + degree coefficients along each axis tell the field. A field of degree
d has d - 1 continuous derivatives, and at every point depends on (d + 1)^3 coefficients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.config import Integrator

HALF_WIDTH = 1.1
"""Half the side of the cube, in the unit frame: the unit sphere and a margin. Beyond it the field is constant
along the axes that are left."""

TABLEAUS: dict[Integrator, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    "euler": (((),), (1.0,)),
    "midpoint": (((), (1 / 2,)), (0.0, 1.0)),
    "rk4": (((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""Stages and weights of explicit Runge-Kutta schemes: k_i = v(x + h sum_j a_ij k_j), x <- x + h sum_i b_i k_i."""


class Spline(NamedTuple):
    """A field ready to be looked up.

    `table` has a row for every position (i, j, k) of a point's first coefficient along y and z, and every i along
    x: the (degree + 1)^2 coefficients that follow along y and z. So a point gathers degree + 1 rows.
    """

    table: Float[Tensor, "r w"]
    cells: int
    degree: int

    @classmethod
    def of(cls, coefficients: Float[Tensor, "3 m m m"], degree: int) -> "Spline":
        cells = coefficients.shape[1] - degree
        rows = coefficients.permute(1, 2, 3, 0)
        near = [rows[:, j : j + cells, k : k + cells] for j in range(degree + 1) for k in range(degree + 1)]
        return cls(torch.cat(near, dim=3).flatten(0, 2), cells, degree)

    def __call__(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        """The field at points of the unit frame, with gradient to coefficients and points."""
        return self.with_jacobian(points)[0]

    def with_jacobian(self, points: Float[Tensor, "v 3"]) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 3"]]:
        """The field and its Jacobian [component, coordinate]; the latter's gradient is to coefficients alone."""
        value, jacobian = _LookUp.apply(self.table, points, self.cells, self.degree)
        return value, jacobian

    def trajectory(
        self, points: Float[Tensor, "v 3"], step: float, steps: int, integrator: Integrator
    ) -> list[Float[Tensor, "v 3"]]:
        """Positions at the start and after each of `steps` steps; the last alone has a gradient."""
        end, path = _Trajectory.apply(self.table, points, self, step, steps, integrator)
        return [*path.unbind(0), end]

    def step_jacobians(
        self, points: Float[Tensor, "v 3"], step: float, integrator: Integrator
    ) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 3"]]:
        """See `step_jacobians`."""
        return step_jacobians(self.with_jacobian, points, step, integrator)


def step_jacobians(
    with_jacobian: Callable[[Tensor], tuple[Tensor, Tensor]],
    points: Float[Tensor, "v 3"],
    step: float,
    integrator: Integrator,
) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 3"]]:
    """Where one step along a field takes the points, and the derivative of that step there.

    The gradient is to what the field is made of, at stages that stay where they are.
    """
    stages, weights = TABLEAUS[integrator]
    velocities: list[Tensor] = []
    slopes: list[Tensor] = []
    eye = torch.eye(3, dtype=points.dtype, device=points.device)
    for a in stages:
        at = points + step * _weighted(a, velocities)
        value, jacobian = with_jacobian(at.detach())
        velocities.append(value)
        slopes.append(jacobian @ (eye + step * _weighted(a, slopes)))
    return points + step * _weighted(weights, velocities), eye + step * _weighted(weights, slopes)


@dataclass(frozen=True)
class FusedSpline:
    """A field that is looked up by fused code, in place of `Spline`; `rows` are its coefficients, vectors last.

    `recon.surface.kernels` and `recon.surface.compiled` say by which: `look_up` gives values and Jacobians, `carry`
    trajectories.
    """

    rows: Float[Tensor, "m m m 3"]
    cells: int
    degree: int

    look_up: ClassVar[type[torch.autograd.Function]]
    carry: ClassVar[type[torch.autograd.Function]]

    @classmethod
    def of(cls, coefficients: Float[Tensor, "3 m m m"], degree: int) -> "FusedSpline":
        return cls(coefficients.permute(1, 2, 3, 0).contiguous(), coefficients.shape[1] - degree, degree)

    def with_jacobian(self, points: Float[Tensor, "v 3"]) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 3"]]:
        """The field and its Jacobian [component, coordinate]; the latter's gradient is to coefficients alone."""
        value, jacobian = self.look_up.apply(self.rows, points, self.cells, self.degree)
        return value, jacobian

    def trajectory(
        self, points: Float[Tensor, "v 3"], step: float, steps: int, integrator: Integrator
    ) -> list[Float[Tensor, "v 3"]]:
        """Positions at the start and after each of `steps` steps; the last alone has a gradient."""
        end, path = self.carry.apply(self.rows, points, self.cells, self.degree, step, steps, integrator)
        return [*path.unbind(0), end]

    def step_jacobians(
        self, points: Float[Tensor, "v 3"], step: float, integrator: Integrator
    ) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 3"]]:
        """See `step_jacobians`."""
        return step_jacobians(self.with_jacobian, points, step, integrator)


def refinement(cells: int, degree: int, like: Tensor) -> Float[Tensor, "f c"]:
    """The matrix that takes coefficients over `cells` cells to those of the same field over twice as many.

    The two-scale relation of B-splines: a coarse one is the sum of degree + 2 fine ones, weighted by the
    binomial coefficients over 2^degree.
    """
    weights = torch.ones(1)
    for _ in range(degree + 1):
        weights = torch.cat([weights, torch.zeros(1)]) + torch.cat([torch.zeros(1), weights])
    weights = weights / 2**degree
    fine, coarse = 2 * cells + degree, cells + degree
    matrix = torch.zeros(fine + 2 * degree, coarse)
    for column in range(coarse):
        matrix[2 * column : 2 * column + degree + 2, column] = weights
    return matrix[degree : degree + fine].to(like)


def refined(coefficients: Float[Tensor, "3 c c c"], matrix: Float[Tensor, "f c"]) -> Float[Tensor, "3 f f f"]:
    """`matrix` along each of the three axes."""
    for _ in range(3):
        # The last axis becomes the second: three times, and all are where they were.
        coefficients = (coefficients @ matrix.T).permute(0, 3, 1, 2)
    return coefficients


class _Taps(NamedTuple):
    """Where some points look, and with which weights; of first derivatives too."""

    rows: Int[Tensor, " vk"]
    weights: Float[Tensor, "k 3 v"]
    slopes: Float[Tensor, "k 3 v"]


def _locate(points: Float[Tensor, "v 3"], cells: int, degree: int) -> _Taps:
    scale = cells / (2 * HALF_WIDTH)
    at = (points.T + HALF_WIDTH) * scale
    inside = at.clamp(0, cells)
    # A point that is not a number looks somewhere, with weights that are no numbers: so is what it finds.
    cell = inside.floor().clamp_(max=cells - 1).nan_to_num_(0)
    weights, slopes = _bases(inside - cell, degree)
    slopes = slopes * (scale * (at == inside))
    x, y, z = cell.long()
    first = (x * cells + y) * cells + z
    rows = first[:, None] + cells * cells * torch.arange(degree + 1, device=points.device)
    return _Taps(rows.flatten(), weights, slopes)


def _bases(f: Float[Tensor, "3 v"], degree: int) -> tuple[Float[Tensor, "k 3 v"], Float[Tensor, "k 3 v"]]:
    """The B-splines that are not zero at the fraction `f` of a cell, and their derivatives."""
    g = 1 - f
    match degree:
        case 1:
            return torch.stack([g, f]), torch.stack([-torch.ones_like(f), torch.ones_like(f)])
        case 2:
            return torch.stack([g * g / 2, 0.5 + f * g, f * f / 2]), torch.stack([-g, g - f, f])
        case _:
            cubes = [g**3 / 6, 2 / 3 - f * f * (1 - f / 2), 2 / 3 - g * g * (1 - g / 2), f**3 / 6]
            slopes = [-g * g / 2, f * (1.5 * f - 2), g * (2 - 1.5 * g), f * f / 2]
            return torch.stack(cubes), torch.stack(slopes)


def _look_up(table: Float[Tensor, "r w"], taps: _Taps) -> tuple[Float[Tensor, "3 v"], Float[Tensor, "3 3 v"]]:
    """Values, and derivatives [coordinate, component]; points are last in memory, so that sums run along them."""
    taken, _, count = taps.weights.shape
    near = table.index_select(0, taps.rows).view(count, taken, taken, taken, 3).permute(1, 2, 3, 4, 0).contiguous()
    (wx, wy, wz), (sx, sy, sz) = (each.unbind(1) for each in (taps.weights, taps.slopes))
    wx, wy, wz, sx, sy, sz = (each[:, None] for each in (wx, wy, wz, sx, sy, sz))
    along_z, steep_z = ((near * each).sum(2) for each in (wz, sz))
    along_y, steep_y, along_yz = ((a * each).sum(1) for a, each in ((along_z, wy), (along_z, sy), (steep_z, wy)))
    derivatives = [(a * each).sum(0) for a, each in ((along_y, sx), (steep_y, wx), (along_yz, wx))]
    return (along_y * wx).sum(0), torch.stack(derivatives)


def _add_gradient(
    gradient: Float[Tensor, "r w"],
    rows: Int[Tensor, " vk"],
    weights: Float[Tensor, "k 3 v"],
    of_value: Float[Tensor, "3 v"],
) -> None:
    """What a gradient with respect to values is to the table, in place."""
    wx, wy, wz = weights.unbind(1)
    count = wx.shape[1]
    yz = (wy[:, None] * wz).view(-1, count).T[:, :, None] * of_value.T[:, None]
    of_rows = wx.T[:, :, None] * yz.reshape(count, 1, -1)
    gradient.index_add_(0, rows, of_rows.reshape(-1, gradient.shape[1]))


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, points: Tensor, cells: int, degree: int) -> tuple[Tensor, Tensor]:
        taps = _locate(points, cells, degree)
        value, derivatives = _look_up(table, taps)
        ctx.save_for_backward(*taps, derivatives)
        ctx.shape = table.shape
        return value.T, derivatives.permute(2, 1, 0)

    @staticmethod
    def backward(ctx: Any, of_value: Tensor, of_jacobian: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, weights, slopes, derivatives = ctx.saved_tensors
        table = of_value.new_zeros(ctx.shape)
        _add_gradient(table, rows, weights, of_value.T)
        for axis in range(3):
            # The derivative along an axis is a value, with that axis' slopes for its weights.
            swapped = weights.clone()
            swapped[:, axis] = slopes[:, axis]
            _add_gradient(table, rows, swapped, of_jacobian[:, :, axis].T)
        return table, torch.einsum("dcv,vc->vd", derivatives, of_value), None, None


class _Trajectory(torch.autograd.Function):
    """All steps as one operation: the adjoint of a Runge-Kutta scheme, stage by stage backwards.

    Left to autograd, every stage would have a gradient as large as the table, and nine tenths of the time would be
    adding them up.
    """

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, points: Tensor, spline: Spline, step: float, steps: int, integrator: Integrator
    ) -> tuple[Tensor, Tensor]:
        stages, weights = TABLEAUS[integrator]
        path, saved = [points.T.contiguous()], []
        for _ in range(steps):
            velocities: list[Tensor] = []
            for a in stages:
                at = path[-1] + step * _weighted(a, velocities)
                taps = _locate(at.T, spline.cells, spline.degree)
                velocity, derivatives = _look_up(table, taps)
                velocities.append(velocity)
                saved += [taps.rows, taps.weights, derivatives]
            path.append(path[-1] + step * _weighted(weights, velocities))
        ctx.save_for_backward(*saved)
        ctx.scheme = step, steps, integrator, table.shape
        before = torch.stack(path[:-1]).transpose(1, 2)
        ctx.mark_non_differentiable(before)
        return path[-1].T, before

    @staticmethod
    def backward(ctx: Any, of_end: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        step, steps, integrator, shape = ctx.scheme
        stages, weights = TABLEAUS[integrator]
        table, of_points = of_end.new_zeros(shape), of_end.T
        saved = ctx.saved_tensors
        for first in reversed(range(0, 3 * steps * len(stages), 3 * len(stages))):
            of_positions: dict[int, Tensor] = {}  # of a stage, with respect to where it looks
            for i in reversed(range(len(stages))):
                rows, taps, derivatives = saved[first + 3 * i : first + 3 * i + 3]
                later = [(stages[j][i], of_positions[j]) for j in of_positions if stages[j][i]]
                of_velocity = step * (weights[i] * of_points + sum(a * each for a, each in later))
                _add_gradient(table, rows, taps, of_velocity)
                of_positions[i] = (derivatives * of_velocity).sum(1)
            of_points = of_points + sum(of_positions.values())
        return table, of_points.T, None, None, None, None


def _weighted(weights: tuple[float, ...], parts: list[Tensor]) -> Tensor | float:
    """sum_i weights_i parts_i, and 0 where there are none."""
    return sum((w * part for w, part in zip(weights, parts, strict=True) if w), 0.0)

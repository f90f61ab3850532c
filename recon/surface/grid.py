"""The velocity field as a sum of grids from coarse to fine, each of which holds coefficients of B-splines."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.config import Integrator, SurfaceConfig
from recon.render.kernels.serving import serves
from recon.surface.flow import DURATION, determinant
from recon.surface.spline import HALF_WIDTH, Spline, refined, refinement


class VelocityGrid(nn.Module):
    """A stationary velocity v(x) in (-1, 1)^3 over the cube about the unit sphere.

    coefficients = tanh(sum_n (n_0 / n)^falloff * refined(grid_n)); v = their B-spline. A spline lies between its
    coefficients, so no point moves faster than 1 along an axis.

    Coarse grids move much at once and fine ones little: with steps of equal size, as Adam takes them, the factors
    make of that a gradient in a Sobolev norm, which prefers smooth changes (as the preconditioner of Nicolet et al.
    2021, "Large Steps in Inverse Rendering of Geometry", does on a mesh).
    """

    def __init__(self, config: SurfaceConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = [(config.cells[0] / cells) ** config.falloff for cells in config.cells]
        sides = [cells + config.degree for cells in config.cells]
        # The flow starts as the identity: the first mesh is the sphere itself.
        self.grids = nn.ParameterList(nn.Parameter(torch.zeros(3, side, side, side)) for side in sides)
        for i, cells in enumerate(config.cells[:-1]):
            matrix = refinement(cells, config.degree, torch.zeros(()))
            self.register_buffer(f"refinement_{i}", matrix, persistent=False)

    def coefficients(self) -> Float[Tensor, "3 m m m"]:
        """Of the finest grid's B-splines, in which the coarser ones are contained exactly."""
        total = self.factors[0] * self.grids[0]
        for i, (grid, factor) in enumerate(zip(self.grids[1:], self.factors[1:], strict=True)):
            total = refined(total, getattr(self, f"refinement_{i}")) + factor * grid
        return torch.tanh(total)

    def flow(self) -> "GridFlow":
        """The flow of the field as it is now."""
        coefficients = self.coefficients()
        return GridFlow(coefficients, spline(coefficients, self.config.degree), self.config)


@runtime_checkable
class AnySpline(Protocol):
    """A field ready to be looked up: `recon.surface.spline.Spline`, or that of `compiled` or `kernels`."""

    @property
    def cells(self) -> int: ...

    def trajectory(
        self, points: Float[Tensor, "v 3"], step: float, steps: int, integrator: Integrator
    ) -> list[Float[Tensor, "v 3"]]: ...

    def step_jacobians(
        self, points: Float[Tensor, "v 3"], step: float, integrator: Integrator
    ) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 3"]]: ...


def spline(coefficients: Float[Tensor, "3 m m m"], degree: int) -> AnySpline:
    """The field of some coefficients, by compiled code where it serves."""
    if coefficients.dtype == torch.float32 and serves(_trial, coefficients.device, "the flow"):
        return _compiled(coefficients.device)(coefficients, degree)
    return Spline.of(coefficients, degree)


def _compiled(device: torch.device) -> Callable[[Tensor, int], AnySpline]:
    """What makes a field of coefficients that is looked up by compiled code."""
    if device.type == "cuda":
        from recon.surface.kernels import TritonSpline

        return TritonSpline.of
    from recon.surface.compiled import CompiledSpline

    return CompiledSpline.of


def _trial(device: torch.device) -> None:
    from recon.surface.trial import check

    check(device, _compiled(device))


class GridFlow(NamedTuple):
    """The flow along a grid's spline. See `recon.surface.flow.Flow`."""

    coefficients: Float[Tensor, "3 m m m"]
    spline: AnySpline
    config: SurfaceConfig

    @property
    def step(self) -> float:
        return DURATION / self.config.steps

    def trajectory(self, points: Float[Tensor, "v 3"]) -> list[Float[Tensor, "v 3"]]:
        return self.spline.trajectory(points, self.step, self.config.steps, self.config.integrator)

    def energy(self, alpha: float, points: Float[Tensor, "k 3"]) -> Float[Tensor, ""]:
        """mean |(I - alpha Laplacian) c|^2 over the coefficients c; `points` are not needed.

        Second differences of coefficients are those of the spline's second derivative, so this is the velocity
        term over the whole cube, in closed form.
        """
        return (self.coefficients - alpha * laplacian(self.coefficients, self.spline.cells)).pow(2).sum(0).mean()

    def step_derivatives(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, "3 v 3"]:
        return self.spline.step_jacobians(points, self.step, self.config.integrator)[1].permute(2, 0, 1)

    def jacobian_determinants(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, " v"]:
        total = torch.ones_like(points[:, 0])
        for _ in range(self.config.steps):
            points, derivative = self.spline.step_jacobians(points, self.step, self.config.integrator)
            total = total * determinant(*derivative.unbind(1))
        return total


def laplacian(coefficients: Float[Tensor, "3 m m m"], cells: int) -> Float[Tensor, "3 m m m"]:
    """Second differences along the three axes over the squared width of a cell; the border's are one-sided."""
    padded = _padded(coefficients)
    total = -6 * coefficients
    for axis in (1, 2, 3):
        inner = padded
        for other in {1, 2, 3} - {axis}:
            inner = inner.narrow(other, 1, coefficients.shape[other])
        total = (
            total + inner.narrow(axis, 0, coefficients.shape[axis]) + inner.narrow(axis, 2, coefficients.shape[axis])
        )
    return total * (cells / (2 * HALF_WIDTH)) ** 2


def _padded(coefficients: Float[Tensor, "3 m m m"]) -> Float[Tensor, "3 _ _ _"]:
    """With the border once more around it."""
    if not coefficients.is_cuda:
        return nn.functional.pad(coefficients[None], (1,) * 6, mode="replicate")[0]
    # There torch's padding adds up its gradient in any order.
    for axis in (1, 2, 3):
        last = coefficients.shape[axis] - 1
        border = coefficients.narrow(axis, 0, 1), coefficients.narrow(axis, last, 1)
        coefficients = torch.cat([border[0], coefficients, border[1]], dim=axis)
    return coefficients

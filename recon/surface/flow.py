"""The flow: points carried along a velocity field over pseudo-time.

With small steps the map is a diffeomorphism, so the image of the sphere is closed, without
self-intersection and of genus 0 (Cheng et al. 2022, section 3.1).
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp

from recon.config import Integrator

Field = Callable[[Float[Tensor, "v 3"]], Float[Tensor, "v 3"]]

DURATION = 2.0
"""Pseudo-time of the whole flow: at the largest speed a point can cross the unit sphere."""


@runtime_checkable
class Flow(Protocol):
    """The flow along a velocity field as it is at one moment of training, whatever represents the field."""

    def trajectory(self, points: Float[Tensor, "v 3"]) -> list[Float[Tensor, "v 3"]]:
        """Where points of the unit frame are at the start and after each step; the last with gradient."""
        ...

    def energy(self, alpha: float, points: Float[Tensor, "k 3"]) -> Float[Tensor, ""]:
        """mean |(1 - alpha Laplacian) v|^2, at `points` or wherever the field knows it at once: the norm in which
        geodesics of diffeomorphisms are taken (Cheng et al. 2022, section 3.4)."""
        ...

    def step_derivatives(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, "3 v 3"]:
        """The derivatives of one step along x, y and z at each point, with gradient."""
        ...

    def jacobian_determinants(self, points: Float[Tensor, "v 3"]) -> Float[Tensor, " v"]:
        """Determinant of the derivative of the whole flow at each point: positive where it keeps orientation."""
        ...


def trajectory(
    field: Field, points: Float[Tensor, "v 3"], steps: int, integrator: Integrator = "euler"
) -> list[Float[Tensor, "v 3"]]:
    """Positions at the start and after each of `steps` steps of x <- x + (2 / steps) v(x)."""
    step = _STEPS[integrator]
    path = [points]
    for _ in range(steps):
        path.append(step(field, path[-1], DURATION / steps))
    return path


def flow(
    field: Field, points: Float[Tensor, "v 3"], steps: int, integrator: Integrator = "euler"
) -> Float[Tensor, "v 3"]:
    """Where the points end."""
    return trajectory(field, points, steps, integrator)[-1]


def jacobian_determinants(
    field: Field, points: Float[Tensor, "v 3"], steps: int, integrator: Integrator = "euler"
) -> Float[Tensor, " v"]:
    """Determinant of the derivative of the flow at each point: positive where it keeps orientation."""

    return determinant(*_derivatives(lambda at: flow(field, at, steps, integrator), points))


def step_derivatives(
    field: Field, points: Float[Tensor, "v 3"], steps: int, integrator: Integrator = "euler"
) -> Float[Tensor, "3 v 3"]:
    """The derivatives of one step along x, y and z at each point; the flow's are their products."""
    return _derivatives(lambda at: _STEPS[integrator](field, at, DURATION / steps), points)


def _derivatives(function: Field, points: Float[Tensor, "v 3"]) -> Float[Tensor, "3 v 3"]:
    copies = points.repeat(3, 1)
    axes = torch.eye(3, dtype=points.dtype, device=points.device).repeat_interleave(len(points), dim=0)
    columns: Tensor = jvp(function, (copies,), (axes,))[1]
    return columns.view(3, *points.shape)


def determinant(a: Float[Tensor, "v 3"], b: Float[Tensor, "v 3"], c: Float[Tensor, "v 3"]) -> Float[Tensor, " v"]:
    """Of the matrices with these columns, or rows."""
    return (a * torch.linalg.cross(b, c)).sum(-1)


def _euler(field: Field, x: Float[Tensor, "v 3"], h: float) -> Float[Tensor, "v 3"]:
    return x + h * field(x)


def _midpoint(field: Field, x: Float[Tensor, "v 3"], h: float) -> Float[Tensor, "v 3"]:
    return x + h * field(x + h / 2 * field(x))


def _rk4(field: Field, x: Float[Tensor, "v 3"], h: float) -> Float[Tensor, "v 3"]:
    k1 = field(x)
    k2 = field(x + h / 2 * k1)
    k3 = field(x + h / 2 * k2)
    k4 = field(x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


_STEPS = {"euler": _euler, "midpoint": _midpoint, "rk4": _rk4}

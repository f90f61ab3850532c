"""The flow: points carried along a velocity field over pseudo-time.

With small steps the map is a diffeomorphism, so the image of the sphere is closed, without
self-intersection and of genus 0 (Cheng et al. 2022, section 3.1).
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp

Field = Callable[[Float[Tensor, "v 3"]], Float[Tensor, "v 3"]]
Integrator = Literal["euler", "midpoint", "rk4"]

DURATION = 2.0
"""Pseudo-time of the whole flow: at the largest speed a point can cross the unit sphere."""


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

    return _determinants(lambda at: flow(field, at, steps, integrator), points)


def step_determinants(
    field: Field, points: Float[Tensor, "v 3"], steps: int, integrator: Integrator = "euler"
) -> Float[Tensor, " v"]:
    """Determinant of the derivative of one step at each point; that of the flow is their product."""
    return _determinants(lambda at: _STEPS[integrator](field, at, DURATION / steps), points)


def _determinants(function: Field, points: Float[Tensor, "v 3"]) -> Float[Tensor, " v"]:
    copies = points.repeat(3, 1)
    axes = torch.eye(3, dtype=points.dtype, device=points.device).repeat_interleave(len(points), dim=0)
    columns: Tensor = jvp(function, (copies,), (axes,))[1]
    a, b, c = columns.view(3, *points.shape)
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

"""All of space in a ball of radius 2: the object's unit sphere as it is, everything else around it."""

from jaxtyping import Float
from torch import Tensor

RADIUS = 2.0
"""Where infinity goes."""


def contract(points: Float[Tensor, "s 3"]) -> Float[Tensor, "s 3"]:
    """x inside the unit sphere, (2 - 1/|x|) x/|x| outside (Barron et al. 2022, mip-NeRF 360, eq. 10)."""
    radius = points.norm(dim=1, keepdim=True).clamp(min=1)
    return points * (2 - 1 / radius) / radius


def expand(points: Float[Tensor, "s 3"]) -> Float[Tensor, "s 3"]:
    """The inverse of `contract`; beyond radius 2 there is nothing, and the result is not finite or wrong."""
    radius = points.norm(dim=1, keepdim=True).clamp(min=1)
    return points / (radius * (2 - radius))

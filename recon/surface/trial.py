"""A trial of a compiled spline on a device, before a training relies on it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recon.surface.spline import Spline

TOLERANCE = 1e-4
"""Relative difference that is no error."""


@torch.enable_grad()  # the first picture that asks may need none
def check(device: torch.device, of: Callable[[Tensor, int], Any]) -> None:
    """Carry some points, forward and backward, with the spline that `of` makes of coefficients and in torch.

    Raises:
        RuntimeError: they differ. What else a compiler raises where it cannot compile or launch is left as it is.
    """
    generator = torch.Generator().manual_seed(0)
    # Some points lie outside the cube.
    points = (0.6 * torch.randn(200, 3, generator=generator)).to(device)
    coefficients = (0.3 * torch.randn(3, 6, 6, 6, generator=generator)).to(device)
    results = []
    for make in (Spline.of, of):
        leaf = coefficients.clone().requires_grad_()
        field = make(leaf, 2)
        *path, end = field.trajectory(points, 0.4, 2, "midpoint")
        place, derivative = field.step_jacobians(points, 0.4, "midpoint")
        loss = end.square().sum() + place.square().sum() + derivative.square().sum()
        results.append([torch.stack(path), end.detach(), derivative.detach(), *torch.autograd.grad(loss, leaf)])
    for expected, found in zip(*results, strict=True):
        if not (found - expected).norm() <= TOLERANCE * expected.norm():
            raise RuntimeError("the flow of a small field is not that of torch")

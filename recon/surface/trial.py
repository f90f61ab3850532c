"""A trial of the fused spline on a device, before a training relies on it."""

import torch

from recon.surface.kernels import FusedSpline
from recon.surface.spline import Spline

TOLERANCE = 1e-4
"""Relative difference that is no error."""


def check(device: torch.device) -> None:
    """Carry some points, forward and backward, with the kernels and in torch.

    Raises:
        RuntimeError: they differ. What else Triton raises where it cannot compile or launch is left as it is.
    """
    generator = torch.Generator().manual_seed(0)
    # Some points lie outside the cube.
    points = (0.6 * torch.randn(200, 3, generator=generator)).to(device)
    coefficients = (0.3 * torch.randn(3, 6, 6, 6, generator=generator)).to(device)
    results = []
    for spline in (Spline, FusedSpline):
        leaf = coefficients.clone().requires_grad_()
        field = spline.of(leaf, 2)
        *path, end = field.trajectory(points, 0.4, 2, "midpoint")
        place, derivative = field.step_jacobians(points, 0.4, "midpoint")
        loss = end.square().sum() + place.square().sum() + derivative.square().sum()
        results.append([torch.stack(path), end.detach(), derivative.detach(), *torch.autograd.grad(loss, leaf)])
    for expected, found in zip(*results, strict=True):
        if not (found - expected).norm() <= TOLERANCE * expected.norm():
            raise RuntimeError("the flow of a small field is not that of torch")

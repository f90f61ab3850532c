"""A trial of compiled look-ups of textures, before a training relies on them."""

import torch

from recon.model.compiled import look_up as compiled_look_up
from recon.model.texture import look_up

TOLERANCE = 1e-4
"""Relative difference that is no error."""


@torch.enable_grad()  # the first picture that asks may need none
def check(device: torch.device) -> None:
    """Look up a small texture at some points, forward and backward, in compiled loops and in torch.

    Raises:
        RuntimeError: they differ. What else a compiler raises where it cannot compile is left as it is.
    """
    generator = torch.Generator().manual_seed(0)
    padded = torch.randn(3, 10, 10, generator=generator).to(device)
    points = torch.randn(200, 3, generator=generator).to(device)
    results = []
    for function in (look_up, compiled_look_up):
        leaves = [padded.clone().requires_grad_(), points.clone().requires_grad_()]
        values = function(*leaves)
        results.append([values.detach(), *torch.autograd.grad(values.square().sum(), leaves)])
    for expected, found in zip(*results, strict=True):
        if not (found - expected).norm() <= TOLERANCE * expected.norm():
            raise RuntimeError("what is looked up in a small texture is not what torch finds")

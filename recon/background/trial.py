"""A trial of compiled loops through a field, before a training relies on them."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from recon.background.grid import GridField
from recon.background.medium import start_values
from recon.background.rays import Rays
from recon.background.volume import SampledField, compiled_segments, torch_segments

TOLERANCE = 1e-3
"""Relative difference that is no error: a sample on a border of cells may go to either."""


@torch.enable_grad()  # the first picture that asks may need none
def check(device: torch.device) -> None:
    """Follow rays through a small field, forward and backward, in compiled loops and in torch.

    Raises:
        RuntimeError: they differ. What else a compiler raises where it cannot compile is left as it is.
    """
    for ambient in (False, True):
        space, rays, segments = small_field(ambient)
        results = []
        for follow in (torch_segments, compiled_segments):
            lights = rays.lights.clone().requires_grad_() if rays.lights is not None else None
            light = follow(space, rays._replace(lights=lights), *segments)
            leaves = [*space.field.parameters(), *([] if lights is None else [lights])]
            values = torch.cat([each.flatten() for segment in light for each in segment])
            results.append([values.detach(), *torch.autograd.grad(values.square().sum(), leaves)])
        for expected, found in zip(*results, strict=True):
            if not (found - expected).norm() <= TOLERANCE * expected.norm():
                raise RuntimeError("the light through a small field is not that of torch")


def small_field(ambient: bool) -> tuple[SampledField, Rays, list[Tensor]]:
    """A field of random values with empty cells, rays to its middle, lit from beside them where there is `ambient`
    light, and edges of a segment before the sphere and of one behind it."""
    generator = torch.Generator().manual_seed(0)
    field = GridField(6, start_values(1.0, ambient))
    for grid in field.parameters():
        grid.data += torch.randn(grid.shape, generator=generator)
    cells = torch.rand(8, 8, 8, generator=generator) < 0.7
    origins = 3 * normalize(torch.randn(40, 3, generator=generator), dim=1)
    directions = normalize(0.5 * torch.randn(40, 3, generator=generator) - origins, dim=1)
    lights = origins + 0.3 * torch.randn(40, 3, generator=generator) if ambient else None
    rays = Rays(origins, directions, torch.full((40,), 2.0), torch.full((40,), 4.0), lights)
    jitter = torch.rand(40, 1, generator=generator)
    front = jitter + torch.linspace(0, 1, 7)
    behind = 4 + jitter + torch.linspace(0, 3, 10) ** 2
    behind[::5] = behind[::5, :1]  # not looked up
    return SampledField(field, 3.0, cells), rays, [front, behind]

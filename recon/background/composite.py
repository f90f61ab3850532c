"""The field around a rendered surface, pixel by pixel."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.background.field import Background, Surroundings, no_shift
from recon.background.rays import CHUNK, rays_through
from recon.camera import Cameras
from recon.render.renderer import Rendering


@torch.no_grad()
def compose(rendering: Rendering, background: Background, cameras: Cameras) -> Rendering:
    """The rendering of a surface before nothing, set into its surroundings in every pixel."""
    surface, coverage = rendering.radiance.flatten(0, 2), rendering.coverage.flatten()
    whole, alone = [], []
    for pixel in torch.arange(len(coverage), device=coverage.device).split(CHUNK):
        rays = rays_through(cameras, pixel)
        around = background.surroundings(rays, no_shift(rays))
        whole.append(around.around(surface[pixel], coverage[pixel]))
        alone.append(around.alone)
    shape = rendering.radiance.shape
    return rendering._replace(
        radiance=torch.cat(whole).view(shape), surface=rendering.radiance, background=torch.cat(alone).view(shape)
    )


def chosen_pixels(
    coverage: Float[Tensor, "n h w"], veiled: Bool[Tensor, "n h w"], count: int, generator: torch.Generator
) -> tuple[Int[Tensor, " r"], Float[Tensor, "n h w"]]:
    """Pixels whose surroundings an iteration renders, and weights with which they stand for all.

    All pixels where surroundings and surface meet, for there the surface learns where it ends; of
    those that the surface does not reach, `count` random ones.
    """
    flat = coverage.detach().flatten()
    meeting = ((flat > 0) & ((flat < 1) | veiled.flatten())).nonzero().squeeze(1)
    clear = (flat == 0).nonzero().squeeze(1)
    drawn = clear[torch.randperm(len(clear), generator=generator)[:count].to(clear.device)]
    weights = (flat > 0).to(coverage.dtype)
    weights[drawn] = len(clear) / max(len(drawn), 1)
    return torch.cat([meeting, drawn]), weights.view(coverage.shape)


def compose_some(rendering: Rendering, around: Surroundings, pixel: Int[Tensor, " r"]) -> Rendering:
    """The rendering of a surface before nothing, with the surroundings of some pixels."""
    surface, coverage = rendering.radiance.flatten(0, 2), rendering.coverage.flatten()
    mixed = around.around(surface.index_select(0, pixel), coverage.index_select(0, pixel))
    radiance = surface.index_copy(0, pixel, mixed).view(rendering.radiance.shape)
    return rendering._replace(radiance=radiance)

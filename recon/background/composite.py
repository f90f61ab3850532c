"""The field around a rendered surface in some pixels, as training composites it: with gradient, where it counts."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.background.field import OuterSegments
from recon.render.renderer import Rendering


def chosen_pixels(
    alpha: Float[Tensor, "n h w"], foreground: Bool[Tensor, "n h w"], count: int, generator: torch.Generator
) -> tuple[Int[Tensor, " r"], Float[Tensor, "n h w"]]:
    """Pixels in which an iteration renders the field, and weights with which they stand for all.

    All pixels where field and surface meet, for there the surface learns where it ends; of
    those that the surface does not reach, `count` random ones.
    """
    flat = alpha.detach().flatten()
    meeting = ((flat > 0) & ((flat < 1) | foreground.flatten())).nonzero().squeeze(1)
    clear = (flat == 0).nonzero().squeeze(1)
    drawn = clear[torch.randperm(len(clear), generator=generator)[:count].to(clear.device)]
    weights = (flat > 0).to(alpha.dtype)
    weights[drawn] = len(clear) / max(len(drawn), 1)
    return torch.cat([meeting, drawn]), weights.view(alpha.shape)


def composite_some(rendering: Rendering, outer: OuterSegments, pixel: Int[Tensor, " r"]) -> Rendering:
    """The rendering of a surface before nothing, with the field around it in some pixels."""
    surface, alpha = rendering.radiance.flatten(0, 2), rendering.alpha.flatten()
    mixed = outer.with_surface(surface.index_select(0, pixel), alpha.index_select(0, pixel))
    radiance = surface.index_copy(0, pixel, mixed).view(rendering.radiance.shape)
    return rendering._replace(radiance=radiance, surface=rendering.radiance)

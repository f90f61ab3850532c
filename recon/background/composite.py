"""The field around a rendered surface in some pixels, as training composites it: with gradient, where it counts."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.background.field import OuterSegments
from recon.render.renderer import Rendering

OUTLINES = 4
"""Most pixels of outlines that an iteration renders, relative to those past the object: more than small views have."""


def chosen_pixels(
    alpha: Float[Tensor, "n h w"], foreground: Bool[Tensor, "n h w"], count: int, generator: torch.Generator
) -> tuple[Int[Tensor, " r"], Float[Tensor, "n h w"]]:
    """Pixels in which an iteration renders the field, and weights with which they stand for all.

    Of those that the surface does not reach, and of those that it covers while something may stand before it, `count`
    random ones each; of its outline, where the surface learns where it ends, `OUTLINES` times as many, which are all
    unless pictures are large. Pixels that nothing but the surface shows in count as they are.
    """
    flat, before = alpha.detach().flatten(), foreground.flatten()
    covered = flat >= 1
    weights = (covered & ~before).to(alpha.dtype)
    chosen = []
    for kind, most in (((flat > 0) & ~covered, OUTLINES * count), (covered & before, count), (flat == 0, count)):
        pixel = kind.nonzero().squeeze(1)
        drawn = pixel
        if len(pixel) > most:
            drawn = pixel[torch.randperm(len(pixel), generator=generator)[:most].to(pixel.device)]
        weights[drawn] = len(pixel) / max(len(drawn), 1)
        chosen.append(drawn)
    return torch.cat(chosen), weights.view(alpha.shape)


def composite_some(rendering: Rendering, outer: OuterSegments, pixel: Int[Tensor, " r"]) -> Rendering:
    """The rendering of a surface before nothing, with the field around it in some pixels."""
    surface, alpha = rendering.radiance.flatten(0, 2), rendering.alpha.flatten()
    mixed = outer.with_surface(surface.index_select(0, pixel), alpha.index_select(0, pixel))
    radiance = surface.index_copy(0, pixel, mixed).view(rendering.radiance.shape)
    return rendering._replace(radiance=radiance, surface=rendering.radiance)

"""Loss terms that keep field and surface from explaining the same things, or things that are not there.

Each is a mean over pixels or rays. docs/background.md says what each is against.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.background.field import OuterSegments
from recon.background.rays import Rays
from recon.background.visual_hull import ALIKE
from recon.background.volume import RaySegment
from recon.render.renderer import Rendering

LARGEST_WEIGHT = 4.0
"""Of an outline pixel: what is behind it is not known to better than a few hundredths."""

FAINT = 1e-3
"""Alpha below which a pixel does not say what the surface looks like."""

LIT = 0.1
"""Radiance of the field at which its explanation of a pixel counts half."""

WITHIN = 0.5
"""Price of opacity in the unit sphere, relative to that in front of it; more would make fog of the object."""

BEYOND = 0.05
"""Price of opacity behind or beside it."""


def pseudo_mask_loss(alpha: Float[Tensor, "b h w"], masks: Float[Tensor, "b h w 2"]) -> Float[Tensor, ""]:
    """Mean absolute difference between the surface's alpha and what the field makes of it, times
    how sure that is; `masks` holds the two."""
    return ((alpha - masks[..., 0]).abs() * masks[..., 1]).mean()


@torch.no_grad()
def outline_weights(rendering: Rendering, outer: OuterSegments, pixel: Int[Tensor, " r"]) -> Float[Tensor, "b h w"]:
    """|S| / |S - B| on outline pixels, 1 to `LARGEST_WEIGHT`, and 1 elsewhere.

    With alpha a in place of a', a pixel of surface S and field B has the error |S - B| |a - a'|, and before
    black |S| |a - a'|. So weighted, an outline is pulled before a wall of nearly its brightness as before black.
    `rendering` is the surface before nothing; `pixel` as in `redundant_alpha_loss`.
    """
    seen = rendering.alpha.flatten().index_select(0, pixel)
    surface = rendering.radiance.flatten(0, 2).index_select(0, pixel) / seen.clamp(min=FAINT)[:, None]
    contrast = (surface - outer.behind.radiance).abs().mean(1)
    weight = (surface.mean(1) / contrast.clamp(min=1e-6)).clamp(1, LARGEST_WEIGHT)
    weight = torch.where((seen > FAINT) & (seen < 1), weight, 1)
    return torch.ones_like(rendering.alpha).flatten().index_copy(0, pixel, weight).view(rendering.alpha.shape)


def redundant_alpha_loss(
    alpha: Float[Tensor, "b h w"],
    outer: OuterSegments,
    pixel: Int[Tensor, " r"],
    images: Float[Tensor, "b h w 3"],
    alike: float = ALIKE,
    known: Float[Tensor, "b h w"] | None = None,
    weights: Float[Tensor, " r"] | None = None,
) -> Float[Tensor, ""]:
    """Mean alpha of outline pixels that the field explains without the surface.

    A membrane that is as bright as the wall behind it has no error, and so no gradient of the images'.
    `pixel` are those, as flat indices into (b, h, w), that `outer` belongs to; `alike` is the difference of
    radiance at which the price has fallen to 1/e; where `known` is 0 no photograph says anything; `weights` are how
    many pixels each of them stands for, one where None.
    """
    seen = alpha.flatten().index_select(0, pixel)
    with torch.no_grad():
        alone = outer.without_surface
        difference = (alone - images.flatten(0, 2).index_select(0, pixel)).abs().mean(1)
        # Before black the image error alone moves outlines, and a price would eat what is dark itself.
        lit = alone.mean(1) / (alone.mean(1) + LIT)
        price = lit * torch.exp(-((difference / alike) ** 2)) * (seen < 1)
        if known is not None:
            price = price * (known.flatten().index_select(0, pixel) > 0)
        if weights is not None:
            price = price * weights
    return (price * seen).sum() / alpha.numel()


def opacity_loss(rays: Rays, outer: OuterSegments, volume: RaySegment | None = None) -> Float[Tensor, ""]:
    """Mean opacity of the field: in front of the unit sphere, and less dear, in it and elsewhere.

    Where black explains black, only this clears it; and what inside and outside explain alike is
    left to the outside.
    """
    price = torch.where(rays.leave > rays.enter, 1.0, BEYOND)
    loss = _mean(price * (1 - outer.front.transmittance)) + BEYOND * _mean(1 - outer.behind.transmittance)
    return loss if volume is None else loss + WITHIN * _mean(1 - volume.transmittance)


def haze_loss(between: RaySegment) -> Float[Tensor, ""]:
    """Mean opacity, and radiance that is added, from places between the cameras to the unit sphere; 0 without such.

    Where one camera moved freely to the next, nothing stands. Haze that is thin and dark seen from across the object
    is bright right before a flash, and only views that training has not would show it.
    """
    return _mean(1 - between.transmittance + between.radiance.mean(1))


def ray_distortion_loss(segments: Sequence[RaySegment]) -> Float[Tensor, ""]:
    """How far apart along rays the field stops light: mean sum_ij w_i w_j |s_i - s_j| + sum_i w_i^2 / 3k_i.

    `segments` follow one another, and each counts as one unit of length. Surfaces have none of it and
    fog has much (Barron et al. 2022, mip-NeRF 360, equation 15).
    """
    weights, through = [], torch.ones_like(segments[0].transmittance)
    for part in segments:
        weights.append(through[:, None] * part.weights)
        through = through * part.transmittance
    weight = torch.cat(weights, dim=1)
    counts = torch.tensor([part.weights.shape[1] for part in segments])
    width = (1 / counts).repeat_interleave(counts).to(weight)
    place = width.cumsum(0) - width / 2
    moment = weight * place
    between = weight * (place * (weight.cumsum(1) - weight) - (moment.cumsum(1) - moment))
    return _mean((2 * between + weight**2 * width / 3).sum(1))


def _mean(values: Float[Tensor, " r"]) -> Float[Tensor, ""]:
    """The mean, and 0 of no rays: crops may be covered wholly."""
    return values.sum() / max(len(values), 1)

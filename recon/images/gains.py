"""Strengths of light that nobody knows: what a view is compared with is exposed as its photograph is."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def fitted_gains(
    prediction: Float[Tensor, "n h w 3"], target: Float[Tensor, "n h w 3"], known: Bool[Tensor, "n h w"] | None = None
) -> Float[Tensor, "n 3"]:
    """For each view and channel the factor of the prediction that leaves the least squared error.

    In closed form, sum(prediction * target) / sum(prediction^2), over pixels that are `known` and whose target is not
    saturated; 1 where the prediction is black there.
    """
    counted = target < 1
    if known is not None:
        counted = counted & known[..., None]
    shown = torch.where(counted, prediction, 0)
    energy = shown.square().sum(dim=(1, 2))
    gains = (shown * target).sum(dim=(1, 2)) / energy.clamp(min=torch.finfo(energy.dtype).tiny)
    return torch.where(energy > 0, gains, 1)

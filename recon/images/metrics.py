"""How far rendered views are from photographs."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

SSIM_WINDOW = 11


def image_metrics(
    prediction: Float[Tensor, "n h w 3"], target: Float[Tensor, "n h w 3"]
) -> dict[str, Float[Tensor, " n"]]:
    """Errors of every view, over all of its pixels, of linear radiance clamped to [0, 1].

    Returns:
        `mean_absolute_error`; `psnr`, in dB for a peak of 1, at most 100 so that equal images have a
        number; `ssim`, Wang et al. 2004 (torchmetrics; Gaussian window of 11 pixels, sigma 1.5), NaN
        for images that are smaller than its window.
    """
    prediction, target = prediction.clamp(0, 1), target.clamp(0, 1)
    difference = prediction - target
    return {
        "mean_absolute_error": difference.abs().mean(dim=(1, 2, 3)),
        "psnr": -10 * difference.square().mean(dim=(1, 2, 3)).clamp(min=1e-10).log10(),
        "ssim": _ssim(prediction, target),
    }


def mask_iou(coverage: Float[Tensor, "n h w"], masks: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Intersection over union of the pixels that are covered by half or more; 1 where both are empty."""
    predicted, given = coverage >= 0.5, masks >= 0.5
    intersection = (predicted & given).sum(dim=(1, 2))
    union = (predicted | given).sum(dim=(1, 2))
    return torch.where(union == 0, 1.0, intersection / union.clamp(min=1))


def mean_metrics(per_view: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over views of each metric, so that views weigh alike however they were batched."""
    return {name: fmean(view[name] for view in per_view) for name in per_view[0]}


def _ssim(prediction: Float[Tensor, "n h w 3"], target: Float[Tensor, "n h w 3"]) -> Float[Tensor, " n"]:
    if min(prediction.shape[1:3]) < SSIM_WINDOW:
        return prediction.new_full((len(prediction),), torch.nan)
    # torchmetrics takes seconds to import, which only a validation should pay.
    from torchmetrics.functional.image import structural_similarity_index_measure

    scores = structural_similarity_index_measure(
        prediction.movedim(-1, 1), target.movedim(-1, 1), data_range=1.0, reduction="none"
    )
    assert isinstance(scores, Tensor)
    return scores.reshape(-1)

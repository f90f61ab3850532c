"""How far rendered views are from photographs."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SSIM_WINDOW = 11


def image_metrics(
    prediction: Float[Tensor, "n h w 3"], target: Float[Tensor, "n h w 3"], known: Bool[Tensor, "n h w"] | None = None
) -> dict[str, Float[Tensor, " n"]]:
    """Errors of every view, over all of its pixels (or those that are `known`), of linear radiance clamped to [0, 1].

    Returns:
        `mean_absolute_error`; `psnr`, in dB for a peak of 1, at most 100 so that equal images have a
        number; `ssim`, Wang et al. 2004 (torchmetrics; Gaussian window of 11 pixels, sigma 1.5), NaN
        for images that are smaller than its window.
    """
    prediction, target = prediction.clamp(0, 1), target.clamp(0, 1)
    if known is not None:
        prediction = torch.where(known[..., None], prediction, target)
    difference = prediction - target

    def mean(error: Float[Tensor, "n h w 3"]) -> Float[Tensor, " n"]:
        return error.mean(dim=(1, 2, 3)) if known is None else _mean_of_known(error, known)

    return {
        "mean_absolute_error": mean(difference.abs()),
        "psnr": -10 * mean(difference.square()).clamp(min=1e-10).log10(),
        "ssim": _ssim(prediction, target, known),
    }


def mask_iou(
    alpha: Float[Tensor, "n h w"], masks: Float[Tensor, "n h w"], known: Bool[Tensor, "n h w"] | None = None
) -> Float[Tensor, " n"]:
    """Intersection over union of the (`known`) pixels that are covered by half or more; 1 where both are empty."""
    predicted, given = alpha >= 0.5, masks >= 0.5
    if known is not None:
        predicted, given = predicted & known, given & known
    intersection = (predicted & given).sum(dim=(1, 2))
    union = (predicted | given).sum(dim=(1, 2))
    return torch.where(union == 0, 1.0, intersection / union.clamp(min=1))


def mean_metrics(per_view: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the views that have it, so that views weigh alike however they were batched."""
    names = dict.fromkeys(name for view in per_view for name in view)
    return {name: fmean(view[name] for view in per_view if name in view) for name in names}


def _mean_of_known(values: Float[Tensor, "n h w c"], known: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    return (values.mean(dim=3) * known).sum(dim=(1, 2)) / known.sum(dim=(1, 2))


def _ssim(
    prediction: Float[Tensor, "n h w 3"], target: Float[Tensor, "n h w 3"], known: Bool[Tensor, "n h w"] | None
) -> Float[Tensor, " n"]:
    if min(prediction.shape[1:3]) < SSIM_WINDOW:
        return prediction.new_full((len(prediction),), torch.nan)
    # torchmetrics takes seconds to import, which only a validation should pay.
    from torchmetrics.functional.image import structural_similarity_index_measure

    images = prediction.movedim(-1, 1), target.movedim(-1, 1)
    if known is not None:
        _, places = structural_similarity_index_measure(
            *images, data_range=1.0, reduction="none", return_full_image=True
        )
        return _mean_of_known(places.movedim(1, -1), known)
    scores = structural_similarity_index_measure(*images, data_range=1.0, reduction="none")
    assert isinstance(scores, Tensor)
    return scores.reshape(-1)

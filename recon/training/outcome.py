"""Whether a training got anywhere: what its surface shows, held against what needs no surface at all.

A training ends without an error also where nothing was found: the light was no flash, the surroundings were never
explained, the clock ended it after a few iterations. The views tell: the mean of the other pictures is then as near to
each of them as the prediction is, or the masks lie elsewhere than the surface. The shape alone tells only where the
surface is still the sphere that it began as.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from recon.background.black import shows_more_than_black
from recon.background.visible_cells import black_beside_sphere
from recon.camera import Cameras
from recon.config import RunConfig
from recon.images.metrics import mask_iou
from recon.model.model import Model
from recon.surface.icosphere import icosphere
from recon.views import Views

UNMOVED = 0.02
"""Root mean square of the way of the surface's points, in radii of the sphere, below which it is still the sphere."""

NOISE = 0.01
"""Mean absolute error up to which a prediction is good, whatever else is as near: views of a ball are alike."""

COVERED = 0.99
"""Alpha from which on a pixel shows the surface alone."""

OUTLINED, MISSED = 0.9, 0.7
"""Mask IoU from which on the shape is found, whatever the brightness, and below which it is another."""


class Fit(NamedTuple):
    """What is measured of a training that is over, on a few of its views.

    Attributes:
        moved: root mean square distance of the surface's points from where they began, in radii of the sphere.
        error: mean absolute error of the prediction, in all pixels.
        mean_error: of the mean of the other views in place of the prediction; NaN where there is one view alone.
        covered_error, covered_mean_error: the same in the pixels that show the surface alone; NaN where none does.
        overlap: IoU of the surface and the masks; None without masks.
    """

    moved: float
    error: float
    mean_error: float
    covered_error: float
    covered_mean_error: float
    overlap: float | None


@torch.no_grad()
def measured(model: Model, views: Views, shown: Views, error: float) -> Fit:
    """How well `model` fits the views that it was trained on.

    Args:
        views: all of them.
        shown: some of them, which are looked at.
        error: mean absolute error of the prediction on `shown`.
    """
    start = icosphere(model.export_level, model.device).vertices
    mesh = model.mesh(model.export_level)
    rendering = model.render_surface(mesh, model.poses.corrected(Cameras.from_views(shown).to(model.device)))
    alpha, radiance = rendering.alpha.cpu(), rendering.radiance.cpu().clamp(0, 1).numpy()
    images = shown.images.clip(0, 1)
    mean, known = mean_of_others(views, shown)
    covered = known & (alpha.numpy() > COVERED)
    of_mean = np.abs(mean - images).mean(axis=3)
    return Fit(
        moved=(mesh.vertices - start).square().sum(dim=1).mean().sqrt().item(),
        error=error,
        mean_error=_mean(of_mean[known]),
        covered_error=_mean(np.abs(radiance - images).mean(axis=3)[covered]),
        covered_mean_error=_mean(of_mean[covered]),
        overlap=None if shown.masks is None else _overlap(alpha, shown),
    )


def mean_of_others(views: Views, shown: Views) -> tuple[Float[np.ndarray, "k h w 3"], Bool[np.ndarray, "k h w"]]:
    """For each of the `shown` views the mean of all the other `views`, pixel by pixel: the best guess without an idea
    of where the cameras are. And where it and the view itself are known."""
    total = np.zeros(views.images.shape[1:])
    count = np.zeros(views.images.shape[1:3])
    for i, image in enumerate(views.images):  # one by one bounds the memory
        known = np.ones(image.shape[:2]) if views.known is None else views.known[i] > 0
        total += image.clip(0, 1) * known[..., None]
        count += known
    own = np.ones(shown.images.shape[:3], bool) if shown.known is None else shown.known > 0
    others = count - own
    mean = (total - shown.images.clip(0, 1) * own[..., None]) / np.maximum(others, 1)[..., None]
    return mean, own & (others > 0)


def got_nowhere(fit: Fit) -> list[str]:
    """The signs that nothing was found, as parts of a sentence; none where the training is as it should be."""
    overlap = 1.0 if fit.overlap is None else fit.overlap
    signs = []
    if fit.moved < UNMOVED and (fit.overlap is None or overlap < OUTLINED):
        signs.append(f"the surface is still the sphere (its points moved by {fit.moved:.1%} of the radius)")
    if fit.overlap is None or overlap < OUTLINED:
        if fit.error > max(fit.mean_error, NOISE):
            signs.append(f"its error of {fit.error:.3f} is worse than {fit.mean_error:.3f}, the mean picture's")
        elif fit.covered_error > max(fit.covered_mean_error, NOISE):
            signs.append(
                f"where the surface is, its error of {fit.covered_error:.3f} is worse than "
                f"{fit.covered_mean_error:.3f}, the mean picture's"
            )
    if np.isnan(fit.covered_error):
        signs.append("the surface covers no pixel")
    elif overlap < MISSED:
        signs.append(f"its outlines miss the masks (IoU {overlap:.2f})")
    return signs


def advice(config: RunConfig, views: Views, iterations: int) -> list[str]:
    """What to do about a training that got nowhere, likeliest first."""
    found = []
    if iterations < config.train.iterations:
        found.append(
            f"it had {iterations} of {config.train.iterations} iterations: give it more time, or smaller views "
            "('recon extract --size')"
        )
    if config.background == "none" and not _before_black(views):
        found.append("the surroundings are in view: give masks, or '--set background=field'")
    found.append(
        "'recon inspect' on the views tells whether the light is the camera's flash (fixed lamps need "
        "'--set loss.silhouette=1' with masks) and whether the unit sphere holds the object ('recon extract --sphere')"
    )
    return found


def outcome(fit: Fit, config: RunConfig, views: Views, iterations: int) -> str | None:
    """In one line what is wrong with a training that got nowhere and what to do; None where it got somewhere."""
    signs = got_nowhere(fit)
    if not signs:
        return None
    return f"the training got nowhere: {' and '.join(signs)}; {'; '.join(advice(config, views, iterations))}"


def _before_black(views: Views) -> bool:
    """Whether nothing is lit beside the object, as far as can be told."""
    if views.masks is not None:
        return not shows_more_than_black(views)
    return black_beside_sphere(Cameras.from_views(views), torch.from_numpy(views.images))


def _overlap(alpha: Float[torch.Tensor, "n h w"], views: Views) -> float:
    assert views.masks is not None
    known = None if views.known is None else torch.from_numpy(views.known) > 0
    return mask_iou(alpha, torch.from_numpy(views.masks) / 255, known).mean().item()


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")

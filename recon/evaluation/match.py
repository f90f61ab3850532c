"""A model's views of a viewpoint set's cameras, and how they compare."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.camera import Cameras
from recon.images.metrics import image_metrics, mask_iou
from recon.model.model import Model, SurfaceMesh
from recon.render.renderer import Rendering
from recon.views import Views

PIXELS_AT_ONCE = 2**18


class Match(NamedTuple):
    """Predicted views and their metrics, one mapping a view.

    `prediction` is what the photograph is compared with: the object before its background. Where
    a background is modelled, `object` and `background` are either alone. Depth (along the optical
    axis, unit frame) and world normals are 0 where the object is not seen.
    """

    prediction: Float[np.ndarray, "n h w 3"]
    coverage: Float[np.ndarray, "n h w"]
    depth: Float[np.ndarray, "n h w"]
    normals: Float[np.ndarray, "n h w 3"]
    object: Float[np.ndarray, "n h w 3"] | None
    background: Float[np.ndarray, "n h w 3"] | None
    per_view: list[dict[str, float]]


@torch.no_grad()
def match(model: Model, mesh: SurfaceMesh, views: Views) -> Match:
    """Render the cameras of `views` (in the model's frame and radiance scale) and compare."""
    cameras = Cameras.from_views(views).to(model.device)
    batch = max(1, PIXELS_AT_ONCE // (views.height * views.width))
    layers, per_view = [], []
    for start in range(0, len(views), batch):
        part = slice(start, start + batch)
        given = None if views.backgrounds is None else torch.from_numpy(views.backgrounds[part]).to(model.device)
        rendering = model.render(mesh, cameras[part], given)
        radiance = rendering.radiance.cpu()
        known = None if views.known is None else torch.from_numpy(views.known[part]) > 0
        metrics = image_metrics(radiance, torch.from_numpy(views.images[part]), known)
        if views.masks is not None:
            masks = torch.from_numpy(views.masks[part]) / 255
            metrics["mask_iou"] = mask_iou(rendering.coverage.cpu(), masks, known)
        planes = [rendering.radiance, rendering.coverage, rendering.depth, rendering.normals, *_apart(rendering)]
        layers.append([plane.cpu().numpy() for plane in planes])
        per_view += _rows(metrics)
    prediction, coverage, depth, normals, *apart = (np.concatenate(plane) for plane in zip(*layers, strict=True))
    alone, background = apart or (None, None)
    return Match(prediction, coverage, depth, normals, alone, background, per_view)


def _apart(rendering: Rendering) -> list[Float[Tensor, "n h w 3"]]:
    """The object before black and the background without it, where one is modelled or known."""
    if rendering.surface is None or rendering.background is None:
        return []
    return [rendering.surface, rendering.background]


def _rows(metrics: Mapping[str, Float[Tensor, " n"]]) -> list[dict[str, float]]:
    columns = zip(*(values.tolist() for values in metrics.values()), strict=True)
    return [dict(zip(metrics, row, strict=True)) for row in columns]

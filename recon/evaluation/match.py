"""A model's views of a viewpoint set's cameras, and how they compare."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.camera import Cameras
from recon.images.gains import fitted_gains
from recon.images.metrics import image_metrics, mask_iou
from recon.model.material import Material, material_of
from recon.model.model import Model, SurfaceMesh, exposed
from recon.model.reflectance import MicrofacetReflectance, VaryingReflectance
from recon.render.renderer import Rendering, render
from recon.render.shade import Angles
from recon.views import Views

PIXELS_AT_ONCE = 2**18
"""Of the views that are rendered together; a larger view is rendered alone."""


class Match(NamedTuple):
    """Predicted views and their metrics, one mapping a view.

    `prediction` is what the photograph is compared with: the object before its background. Where
    a background is modelled, `object` and `background` are either alone. `albedo` (base colour, linear)
    and `roughness` (grey) are there where the reflectance varies, in [0, 1]. Depth (along the optical
    axis, unit frame) and world normals are 0 where the object is not seen.
    """

    prediction: Float[np.ndarray, "n h w 3"]
    alpha: Float[np.ndarray, "n h w"]
    depth: Float[np.ndarray, "n h w"]
    normals: Float[np.ndarray, "n h w 3"]
    object: Float[np.ndarray, "n h w 3"] | None
    background: Float[np.ndarray, "n h w 3"] | None
    per_view: list[dict[str, float]]
    albedo: Float[np.ndarray, "n h w 3"] | None = None
    roughness: Float[np.ndarray, "n h w 3"] | None = None


def views_at_once(height: int, width: int) -> int:
    """How many views of so many pixels are rendered together: however many a set has, no more are in memory."""
    return max(1, PIXELS_AT_ONCE // (height * width))


@torch.no_grad()
def match(model: Model, mesh: SurfaceMesh, views: Views) -> Match:
    """Render the cameras of `views` (in the model's frame and radiance scale), all at once, and compare.

    Where strengths of the light were learned, those of other views are not known: each view, whether it was fitted or
    not, is compared with a prediction that has the gains which suit it best (`recon.images.gains`).
    """
    cameras = model.poses.corrected(Cameras.from_views(views).to(model.device))
    given = None if views.backgrounds is None else torch.from_numpy(views.backgrounds).to(model.device)
    known = None if views.known is None else torch.from_numpy(views.known) > 0
    rendering, images = model.render(mesh, cameras, given), torch.from_numpy(views.images)
    if model.config.light.strength:
        gains = fitted_gains(rendering.radiance.cpu(), images, known).to(model.device)
        rendering = exposed(rendering, gains[:, None, None])
    radiance = rendering.radiance.cpu()
    metrics = image_metrics(radiance, images, known)
    if views.masks is not None:
        metrics["mask_iou"] = mask_iou(rendering.alpha.cpu(), torch.from_numpy(views.masks) / 255, known)
    planes = [radiance, rendering.alpha, rendering.depth, rendering.normals, *_apart(rendering)]
    prediction, alpha, depth, normals, *apart = (plane.cpu().numpy() for plane in planes)
    alone, background = apart or (None, None)
    return Match(prediction, alpha, depth, normals, alone, background, _rows(metrics), *_material(model, mesh, cameras))


def _material(model: Model, mesh: SurfaceMesh, cameras: Cameras) -> list[Float[np.ndarray, "n h w 3"]]:
    """Base colour and, of a reflectance with lobes, roughness as the cameras see them, without light."""
    if not isinstance(model.reflectance, VaryingReflectance):
        return []
    white = material_of(model.reflectance, model.reflectance.parameters_of(mesh.attributes)).white
    shown: list[Callable[[Material], Float[Tensor, "p 3"]]] = [lambda found: found.base_color(white)]
    if isinstance(model.reflectance, MicrofacetReflectance):
        shown.append(lambda found: found.roughness[:, None].expand(-1, 3))
    return [_seen(model, mesh, cameras, quantity) for quantity in shown]


def _seen(
    model: Model, mesh: SurfaceMesh, cameras: Cameras, quantity: Callable[[Material], Float[Tensor, "p 3"]]
) -> Float[np.ndarray, "n h w 3"]:
    """What cameras see of the material, without light."""

    def unlit(attributes: Tensor, irradiance: Tensor, cosine: Tensor, angles: Angles | None = None) -> Tensor:
        found = material_of(model.reflectance, model.reflectance.parameters_of(attributes))
        return quantity(found).to(model.device)

    shown = render(mesh.vertices, mesh.faces, cameras, albedo=mesh.attributes, shader=unlit, samples=2)
    return shown.radiance.clamp(0, 1).cpu().numpy()


def _apart(rendering: Rendering) -> list[Float[Tensor, "n h w 3"]]:
    """The object before black and the background without it, where one is modelled or known."""
    if rendering.surface is None or rendering.background is None:
        return []
    return [rendering.surface, rendering.background]


def _rows(metrics: Mapping[str, Float[Tensor, " n"]]) -> list[dict[str, float]]:
    columns = zip(*(values.tolist() for values in metrics.values()), strict=True)
    return [dict(zip(metrics, row, strict=True)) for row in columns]

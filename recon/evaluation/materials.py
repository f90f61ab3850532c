"""How far the learned reflectance is from that of a scene whose materials are known."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion
from torch import Tensor

from recon.camera import Cameras
from recon.evaluation.match import Match
from recon.model.model import Model, SurfaceMesh
from recon.model.reflectance import ConstantReflectance
from recon.render.renderer import render
from recon.render.shade import Angles
from recon.views import Views

SAMPLES = 2
"""Points along each side of a pixel of which albedo and roughness are the mean."""


class MaterialErrors:
    """Errors of albedo and roughness over the views of one set, which come in parts.

    Only pixels count that the object covers whole, in the photograph and in the reconstruction: others show a mixture.
    """

    def __init__(self) -> None:
        self._albedo: list[tuple[Float[np.ndarray, "p 3"], Float[np.ndarray, "p 3"]]] = []
        self._roughness: list[Float[np.ndarray, " p"]] = []

    def add(self, model: Model, mesh: SurfaceMesh, views: Views, found: Match) -> None:
        """More views, in the model's frame. Those without known materials say nothing."""
        if views.albedo is None or views.roughness is None:
            return
        cameras, reflectance = Cameras.from_views(views).to(model.device), model.reflectance
        albedo = _seen(mesh, cameras, lambda at: reflectance.parameters_of(at)[:, :3])
        glossy = reflectance.gloss(reflectance.parameters_of(mesh.attributes[:1])) is not None
        roughness = _seen(mesh, cameras, partial(_roughness, reflectance))[..., 0] if glossy else None
        for i, covered in enumerate(_covered(views, found)):
            self._albedo.append((albedo[i][covered], views.albedo[i][covered]))
            counted = covered & (views.roughness[i] > 0)
            self._roughness.append(np.empty(0) if roughness is None else (roughness[i] - views.roughness[i])[counted])

    def per_view(self) -> list[dict[str, float]]:
        """`albedo_error` and `roughness_error` of each view, where there is anything to compare.

        Albedo is learned up to the flash's intensity: it is compared after one scale for the whole set, that of
        least squares. Roughness r is that of a GGX lobe of alpha = r^2.
        """
        product = sum(float((found * true).sum()) for found, true in self._albedo)
        scale = product / max(sum(float((found * found).sum()) for found, _ in self._albedo), 1e-30)
        errors = [
            {"albedo_error": np.abs(scale * found - true), "roughness_error": np.abs(rough)}
            for (found, true), rough in zip(self._albedo, self._roughness, strict=True)
        ]
        return [{name: float(values.mean()) for name, values in view.items() if values.size} for view in errors]


def _covered(views: Views, found: Match) -> list[Bool[np.ndarray, "h w"]]:
    assert views.masks is not None, "a scene that knows its materials knows its masks"
    known = np.ones_like(views.masks) if views.known is None else views.known
    return [
        binary_erosion(mask > 127, np.ones((3, 3))) & (alpha >= 1) & (shown > 0)
        for mask, alpha, shown in zip(views.masks, found.alpha, known, strict=True)
    ]


@torch.no_grad()
def _seen(
    mesh: SurfaceMesh, cameras: Cameras, quantity: Callable[[Float[Tensor, "p a"]], Float[Tensor, "p 3"]]
) -> Float[np.ndarray, "n h w 3"]:
    """What cameras see of a quantity that follows from the mesh's attributes."""

    def unlit(attributes: Tensor, irradiance: Tensor, cosine: Tensor, angles: Angles | None = None) -> Tensor:
        return quantity(attributes)

    shown = render(mesh.vertices, mesh.faces, cameras, albedo=mesh.attributes, shader=unlit, samples=SAMPLES)
    return shown.radiance.cpu().numpy()


def _roughness(reflectance: ConstantReflectance, attributes: Float[Tensor, "p a"]) -> Float[Tensor, "p 3"]:
    gloss = reflectance.gloss(reflectance.parameters_of(attributes))
    assert gloss is not None
    return gloss[:, 1:].expand(-1, 3)

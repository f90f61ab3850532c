"""How far the learned reflectance is from that of a scene whose materials are known."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion

from recon.evaluation.match import Match
from recon.views import Views


class MaterialErrors:
    """Errors of albedo and roughness over the views of one set, which come in parts.

    Only pixels count that the object covers whole, in the photograph and in the reconstruction: others show a mixture.
    """

    def __init__(self) -> None:
        self._albedo: list[tuple[Float[np.ndarray, "p 3"], Float[np.ndarray, "p 3"]]] = []
        self._roughness: list[Float[np.ndarray, " p"]] = []

    def add(self, views: Views, found: Match) -> None:
        """More views, in the model's frame. Those without known materials say nothing."""
        if views.albedo is None or views.roughness is None:
            return
        albedo = np.ones_like(views.images) if found.albedo is None else found.albedo
        for i, covered in enumerate(_covered(views, found)):
            self._albedo.append((albedo[i][covered], views.albedo[i][covered]))
            counted = covered & (views.roughness[i] > 0)
            glossy = np.empty(0) if found.roughness is None else found.roughness[i, ..., 0] - views.roughness[i]
            self._roughness.append(glossy[counted] if glossy.size else glossy)

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

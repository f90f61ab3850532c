"""How far the learned reflectance is from that of a scene whose materials are known."""

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion

from recon.evaluation.match import Match
from recon.files import writing
from recon.views import Views


class MaterialErrors:
    """Errors of albedo and roughness over the views of one set, which come in parts.

        with MaterialErrors(folder) as errors:
            errors.add(some, match(model, mesh, some))
            rows = errors.per_view()

    Only pixels count that the object covers whole, in the photograph and in the reconstruction: others show a mixture.
    They wait on the disk, not in memory, until all are there: in `folder`, or where the system has temporary files.

    Raises:
        ReconError: the folder cannot be written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._waiting = tempfile.TemporaryFile(dir=self._folder)
        self._count = 0
        self._product, self._square = 0.0, 0.0

    def __enter__(self) -> "MaterialErrors":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.close()

    def add(self, views: Views, found: Match) -> None:
        """More views, in the model's frame. Those without known materials say nothing."""
        if views.albedo is None or views.roughness is None:
            return
        albedo = np.ones_like(views.images) if found.albedo is None else found.albedo
        for i, covered in enumerate(_covered(views, found)):
            counted = covered & (views.roughness[i] > 0)
            glossy = np.empty(0) if found.roughness is None else found.roughness[i, ..., 0] - views.roughness[i]
            self._keep(albedo[i][covered], views.albedo[i][covered], glossy[counted] if glossy.size else glossy)

    def per_view(self) -> list[dict[str, float]]:
        """`albedo_error` and `roughness_error` of each view, where there is anything to compare; once all views came.

        Albedo is learned up to the flash's intensity: it is compared after one scale for the whole set, that of
        least squares. Roughness r is that of a GGX lobe of alpha = r^2.
        """
        scale = self._product / max(self._square, 1e-30)
        rows = []
        with self._waiting:
            self._waiting.seek(0)
            for _ in range(self._count):
                found, true, rough = (np.load(self._waiting, allow_pickle=False) for _ in range(3))
                errors = {"albedo_error": np.abs(scale * found - true), "roughness_error": np.abs(rough)}
                rows.append({name: float(values.mean()) for name, values in errors.items() if values.size})
        return rows

    def _keep(
        self, found: Float[np.ndarray, "p 3"], true: Float[np.ndarray, "p 3"], rough: Float[np.ndarray, " q"]
    ) -> None:
        self._count += 1
        self._product += float((found * true).sum())
        self._square += float((found * found).sum())
        with writing(self._folder):
            for values in (found, true, rough):
                np.save(self._waiting, values, allow_pickle=False)
            self._waiting.flush()


def _covered(views: Views, found: Match) -> list[Bool[np.ndarray, "h w"]]:
    assert views.masks is not None, "a scene that knows its materials knows its masks"
    known = np.ones_like(views.masks) if views.known is None else views.known
    return [
        binary_erosion(mask > 127, np.ones((3, 3))) & (alpha >= 1) & (shown > 0)
        for mask, alpha, shown in zip(views.masks, found.alpha, known, strict=True)
    ]

"""What a model of the background needs of the views that it is trained on or compared with."""

from pathlib import Path

from recon.errors import ReconError
from recon.views import LIGHTS, Views


def check_lights(background: str, views: Views, path: Path) -> None:
    """Raise `ReconError` where the background's model cannot be lit as the views are.

    The radiance field's light is the camera's flash, by whose fall-off it tells near from far.
    """
    key = next((key for key in LIGHTS if getattr(views, key) is not None), None)
    if background == "field" and key is not None:
        raise ReconError(f"{path}: has key '{key}', but 'background: field' knows the flash at the camera alone")


def check_given(background: str, views: Views, path: Path) -> None:
    """Raise `ReconError` where the background is to be given and the views do not bring it."""
    if background == "given" and views.backgrounds is None:
        raise ReconError(
            f"{path}: key 'backgrounds' is missing, which 'background: given' composes with; "
            "`recon extract` writes it for a scene with 'empty_views: true'"
        )

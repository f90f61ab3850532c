"""Every view of a viewpoint set as pictures: what was photographed, what is predicted, and its layers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from recon.evaluation.match import Match
from recon.files import writable_folder
from recon.images.colour_maps import (
    DEPTH,
    DIFFERENCE,
    Range,
    colours,
    depth_range,
    difference_range,
    normal_colours,
)
from recon.images.pictures import Tone, absolute_difference, tone_map, write_picture
from recon.views import Views

KINDS = ("truth", "prediction", "difference", "normals", "depth", "object", "background")


def write_gallery(folder: Path, views: Views, found: Match, tone: Tone) -> dict[str, Range]:
    """`VIEW_KIND.png` in `folder` for every view and each of `KINDS` that the model has.

    `prediction` is the composite; `object` and `background` are written where a background is
    modelled. Pictures of a former validation are removed.

    Returns:
        The values at the two ends of the colour maps: mean absolute difference of radiance, and depth
        along the optical axis in the source's unit.

    Raises:
        ReconError: the folder cannot be written.
    """
    writable_folder(folder)
    for kind in KINDS:
        for stale in folder.glob(f"*_{kind}.png"):
            stale.unlink()
    ranges = {"difference": _difference_range(views, found), "depth": depth_range(found.depth, found.coverage > 0.5)}
    for kind, pictures in _pictures(views, found, tone, ranges):
        for view, picture in enumerate(pictures):
            write_picture(picture, folder / f"{view:03d}_{kind}.png")
    unit = float(np.cbrt(np.linalg.det(views.world_from_unit[:3, :3])))
    near, far = ranges["depth"]
    return ranges | {"depth": (near * unit, far * unit)}


def _difference_range(views: Views, found: Match) -> Range:
    return difference_range(absolute_difference(views.images, found.prediction))


def _pictures(
    views: Views, found: Match, tone: Tone, ranges: dict[str, Range]
) -> Iterator[tuple[str, UInt8[np.ndarray, "n h w 3"]]]:
    # One mapping for what is compared, so that equal radiance looks alike.
    yield from zip(("truth", "prediction"), tone_map(np.stack([views.images, found.prediction]), tone), strict=True)
    difference = absolute_difference(views.images, found.prediction)
    yield "difference", colours(difference, DIFFERENCE, ranges["difference"])
    yield "normals", normal_colours(found.normals, views.camera_to_world)
    seen = (found.coverage > 0.5)[..., None]
    yield "depth", colours(found.depth, DEPTH, ranges["depth"]) * seen.astype(np.uint8)
    if found.object is not None and found.background is not None:
        yield "object", tone_map(found.object, tone)
        yield "background", tone_map(found.background, tone)

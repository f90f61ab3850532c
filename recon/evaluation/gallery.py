"""Every view of a viewpoint set as pictures: what was photographed, what is predicted, and its layers."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from jaxtyping import Bool, Float, UInt8

from recon.evaluation.match import Match
from recon.files import writable_folder, writing
from recon.frames import frame_scale
from recon.images.colour_maps import DEPTH, DIFFERENCE, Range, colours, normal_colours, round_up
from recon.images.pictures import Tone, absolute_difference, tone_map, write_picture
from recon.views import Views

KINDS = ("truth", "prediction", "difference", "normals", "depth", "object", "background", "albedo", "roughness")
BELOW = 0.99
"""Part of the differences that the end of their colour map is not below."""


class Gallery:
    """`VIEW_KIND.png` in `folder` for every view of a set of `count`, and each of `KINDS` that the model has.

        with Gallery(folder, len(views), tone) as gallery:
            gallery.add(some, match(model, mesh, some))
            ranges = gallery.finish()

    `prediction` is the composite; `object` and `background` are written where a background is
    modelled, `albedo` and `roughness` where the reflectance varies. Pictures of a former validation are
    removed. Pictures whose colours depend on all views (errors, depth, and with `scale` the radiances) wait
    on the disk, not in memory, for `finish`.

    Raises:
        ReconError: the folder cannot be written.
    """

    def __init__(self, folder: Path, count: int, tone: Tone) -> None:
        self._folder = writable_folder(folder)
        self._count, self._tone = count, tone
        remove_pictures(folder)
        self._done = 0
        self._waiting: IO[bytes] = tempfile.TemporaryFile(dir=folder)
        self._order: list[tuple[str, int]] = []
        self._peaks: dict[str, float] = {}
        self._differences: LargestValues | None = None
        self._nearest, self._farthest = np.inf, -np.inf
        self._unit = 1.0

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.close()

    def add(self, views: Views, found: Match) -> None:
        """The next views of the set, in the model's frame and radiance scale, and what was found of them."""
        self._unit = frame_scale(views.world_from_unit)
        difference = absolute_difference(views.images, found.prediction)
        seen = found.alpha > 0.5
        self._measure(difference, found.depth, seen)
        self._write("normals", normal_colours(found.normals, views.camera_to_world), self._done)
        if found.albedo is not None:
            self._write("albedo", tone_map(found.albedo), self._done)
        if found.roughness is not None:
            self._write("roughness", np.rint(255 * found.roughness).astype(np.uint8), self._done)
        self._keep("difference", difference)
        # What is not seen has no depth; a view lies before its camera, so 0 marks it.
        self._keep("depth", np.where(seen, found.depth, 0))
        radiances = {"truth": views.images, "prediction": found.prediction}
        if found.object is not None and found.background is not None:
            radiances |= {"object": found.object, "background": found.background}
        for kind, radiance in radiances.items():
            if self._tone == "clamp":
                self._write(kind, tone_map(radiance), self._done)
            else:
                self._keep(kind, radiance)
                peak = float(np.where(np.isfinite(radiance), radiance, 0).max(initial=0.0))
                self._peaks[kind] = max(peak, self._peaks.get(kind, 1.0))
        self._done += len(views)

    def finish(self) -> dict[str, Range]:
        """Write what has waited.

        Returns:
            The values at the two ends of the colour maps: mean absolute difference of radiance, and depth
            along the optical axis in the source's unit.
        """
        assert self._differences is not None and self._done == self._count
        near, far = (self._nearest, self._farthest) if self._farthest >= 0 else (0.0, 1.0)
        ranges: dict[str, Range] = {
            "difference": (0.0, round_up(self._differences.quantile())),
            "depth": (near, far),
        }
        # One mapping for what is compared, so that equal radiance looks alike.
        if "truth" in self._peaks:
            self._peaks["truth"] = self._peaks["prediction"] = max(self._peaks["truth"], self._peaks["prediction"])
        self._waiting.seek(0)
        for kind, first in self._order:
            values = np.load(self._waiting, allow_pickle=False)
            if kind == "difference":
                pictures = colours(values, DIFFERENCE, ranges["difference"])
            elif kind == "depth":
                pictures = colours(values, DEPTH, ranges["depth"]) * (values != 0)[..., None].astype(np.uint8)
            else:
                pictures = tone_map(values.astype(np.float64) / self._peaks[kind])
            self._write(kind, pictures, first)
        return ranges | {"depth": (near * self._unit, far * self._unit)}

    def _measure(
        self, difference: Float[np.ndarray, "n h w"], depth: Float[np.ndarray, "n h w"], seen: Bool[np.ndarray, "n h w"]
    ) -> None:
        if self._differences is None:
            self._differences = LargestValues(self._count * difference[0].size, BELOW)
        self._differences.add(difference)
        if seen.any():
            self._nearest = min(self._nearest, float(depth[seen].min()))
            self._farthest = max(self._farthest, float(depth[seen].max()))

    def _write(self, kind: str, pictures: UInt8[np.ndarray, "n h w 3"], first: int) -> None:
        for view, picture in enumerate(pictures, start=first):
            write_picture(picture, picture_path(self._folder, view, kind))

    def _keep(self, kind: str, values: Float[np.ndarray, "*shape"]) -> None:
        self._order.append((kind, self._done))
        with writing(self._folder):
            np.save(self._waiting, values, allow_pickle=False)
            self._waiting.flush()


class LargestValues:
    """A quantile of `count` values that come in parts: those that may be it are kept, the largest."""

    def __init__(self, count: int, below: float) -> None:
        self._place = below * (count - 1)
        self._kept = np.empty(0, dtype=np.float32)
        self._size = count - int(self._place)

    def add(self, values: Float[np.ndarray, "*shape"]) -> None:
        """Some of the values."""
        both = np.concatenate([self._kept, values.reshape(-1)])
        self._kept = both if len(both) <= self._size else np.partition(both, -self._size)[-self._size :]

    def quantile(self) -> float:
        """As `np.quantile` has it, once all values came: between two neighbours, linearly."""
        low, *rest = np.partition(self._kept, range(min(2, len(self._kept))))[:2].astype(np.float64)
        return float(low + (self._place % 1) * ((rest or [low])[0] - low))


def picture_path(folder: Path, view: int, kind: str) -> Path:
    """The picture of a view."""
    return folder / f"{view:03d}_{kind}.png"


def remove_pictures(folder: Path) -> None:
    """Remove the pictures of a gallery from its folder, and nothing else."""
    for kind in KINDS:
        for stale in folder.glob(f"*_{kind}.png"):
            if stale.name.removesuffix(f"_{kind}.png").isdecimal():
                stale.unlink()

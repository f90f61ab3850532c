"""A viewpoint set that stays in its file."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from recon.npz import stored_arrays
from recon.views import LIGHTS, WRITTEN_BY, Views, points_seen, views_of
from recon.views_checks import PIXELS, POINTS, check_arrays, check_keys, parsed_metadata

OF_VIEWS = ("camera_to_world", "intrinsics", *LIGHTS)
"""The keys that have an entry a view, but for the pictures."""

SMALL = (*OF_VIEWS, *POINTS, "radiance_scale", "world_from_unit")
"""All numbers but the pictures."""


class StoredViews:
    """A checked viewpoint set of which some views at a time are in memory: however many it has, it takes no more.

    Attributes:
        path: of the file, which has to stay as it is.
        height, width: of the pictures.

    Raises:
        ReconError: when it is made, as `recon.views.load_views`.
    """

    def __init__(self, path: Path) -> None:
        arrays = stored_arrays(path, WRITTEN_BY)
        check_keys(arrays, path)
        self.path = path
        self._metadata = parsed_metadata(arrays["metadata"].read(), path)
        self._pixels = {key: arrays[key] for key in PIXELS if key in arrays}
        self._small = {key: arrays[key].read() for key in SMALL if key in arrays}
        for key in arrays.keys() - {*PIXELS, *SMALL, "metadata"}:
            deque(arrays[key], maxlen=0)  # of no use, but a damaged file is told now
        check_arrays({**self._pixels, **self._small}, path)
        self._count, self.height, self.width = arrays["images"].shape[:3]

    def __len__(self) -> int:
        return self._count

    def parts(self, size: int) -> Iterator[tuple[int, Views]]:
        """All views in their order, `size` at a time: the number of the first, and the views, with the points that any
        of them sees. Every call reads the file anew.

        Raises:
            ReconError: the file is gone or damaged by now.
        """
        pixels = {key: iter(rows) for key, rows in self._pixels.items()}
        for first in range(0, self._count, size):
            here = {key: np.stack(list(islice(rows, size))) for key, rows in pixels.items()}
            yield first, views_of(here | self._small_of(slice(first, first + size)), self._metadata, self.path)

    def _small_of(self, part: slice) -> dict[str, np.ndarray]:
        """What is no picture, of some views."""
        cut = {key: self._small[key][part] for key in OF_VIEWS if key in self._small}
        chosen = np.arange(self._count)[part]
        seen = points_seen(self._small.get("points"), self._small.get("observations"), chosen)
        points = {key: array for key, array in zip(POINTS, seen, strict=True) if array is not None}
        return {**self._small, **cut, **points}

"""How much memory a stage needs, from pixels, views and level: what the rules ask a cluster's scheduler for.

Measured as the largest resident size of `recon train` and `recon validate` on a CPU (docs/cluster.md),
and rounded up; a job that is killed all the same is given as much again.
"""

import zipfile
from pathlib import Path
from typing import NamedTuple

from recon.config import WHOLE_VIEWS, RunConfig
from recon.errors import ReconError

INTERPRETER = 800
"""MB of Python with torch and MLflow, before there is any data; 690 were measured."""

SHADED_SAMPLE = 600
"""Bytes that a rendered sample of an iteration takes until its gradient is known."""

VERTEX = 6_000
"""Bytes that a vertex of the mesh takes likewise, with all steps of the flow."""


class Size(NamedTuple):
    """Of a viewpoint set."""

    views: int
    height: int
    width: int

    @property
    def bytes(self) -> int:
        """Of its images as float32."""
        return 12 * self.views * self.height * self.width


def size_of(views: Path) -> Size:
    """The size of a viewpoint set from the head of its file, without reading the images.

    Raises:
        FileNotFoundError: it is not there (yet), which tells Snakemake to ask again later.
        ReconError: it is no viewpoint set.
    """
    from numpy.lib import format as npy

    try:
        with open(views, "rb") as file, zipfile.ZipFile(file) as archive, archive.open("images.npy") as images:
            version = npy.read_magic(images)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, _ = read(images)
        return Size(*shape[:3])
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ReconError(f"{views}: not a viewpoint set: {error}") from None


def training_memory(views: Path, config: RunConfig) -> int:
    """MB that a training on `views` takes at most."""
    return _memory(size_of(views), config, config.train.views_per_iteration or WHOLE_VIEWS)


def validation_memory(views: Path, config: RunConfig) -> int:
    """MB that a validation on sets such as `views` takes at most: one set is held at a time, and rendered in parts."""
    return _memory(size_of(views), config, WHOLE_VIEWS)


def _memory(size: Size, config: RunConfig, rendered: int) -> int:
    """MB of a stage that renders so many views at once; crops make up the pixels of whole views."""
    vertices = 10 * 4 ** max(config.train.levels) + 2
    samples = rendered * size.height * size.width * config.render.samples**2
    # Views are held as read and as tensors; a checkpoint measures a few more.
    return INTERPRETER + round((3 * size.bytes + SHADED_SAMPLE * samples + VERTEX * vertices) / 1e6)

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

MEASURED_PIXELS = 2**18
"""Of the views that a validation renders together (`recon.evaluation.match`), or of one view that has more."""

MEASURED_SAMPLE = 250
"""Bytes that one of their samples takes."""

MEASURED_GLOSS = 550
"""And more, where it has a glossy layer."""

MEASURED_PIXEL = 600
"""Bytes that a pixel of a view takes in the pictures of a viewpoint set, which show a few views at once."""

MEASURED_VERTEX = 1_500
"""Bytes that a vertex of the mesh takes in a validation."""


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
    """MB that a training on `views` takes at most; crops make up the pixels of whole views."""
    size, rendered = size_of(views), config.train.views_per_iteration or WHOLE_VIEWS
    samples = rendered * size.height * size.width * config.render.samples**2
    # Views are held as read and as tensors; a checkpoint measures a few more.
    return INTERPRETER + round((3 * size.bytes + SHADED_SAMPLE * samples + VERTEX * _vertices(config)) / 1e6)


def validation_memory(views: Path, config: RunConfig) -> int:
    """MB that a validation on sets such as `views` takes at most, however many views they have: a few are in memory."""
    size = size_of(views)
    pixels = size.height * size.width
    samples = max(MEASURED_PIXELS, pixels) * config.render.samples**2
    sample = MEASURED_SAMPLE + (MEASURED_GLOSS if config.reflectance == "microfacet" else 0)
    if config.render.backend != "torch" or config.light.shadows:  # without compiled loops
        sample = max(sample, SHADED_SAMPLE)
    needed = sample * samples + MEASURED_PIXEL * pixels + MEASURED_VERTEX * _vertices(config)
    return INTERPRETER + round(needed / 1e6)


def _vertices(config: RunConfig) -> int:
    return 10 * 4 ** max(config.train.levels) + 2

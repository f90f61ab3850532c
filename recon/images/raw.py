"""Raw files of cameras as linear radiance, by LibRaw, whose Python package `rawpy` is an extra."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt16

from recon.errors import ReconError

SUFFIXES = (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2")

ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}
"""EXIF's for LibRaw's."""


class Development(NamedTuple):
    """What makes colours of a sensor's samples, and must be one for all photographs of a set.

    Attributes:
        white_balance: factors of red, green, blue and the second green.
        black: samples of these where there is no light.
        white: the sample where the sensor is full.
    """

    white_balance: tuple[float, float, float, float]
    black: tuple[int, int, int, int]
    white: int


def development(paths: Iterable[Path]) -> Development | None:
    """That of the first raw file, with its camera's white balance for daylight; None where there is no raw file.

    Not the balance as shot, which a camera chooses anew for each photograph, nor black levels that it measures anew.
    """
    first = next((path for path in paths if path.suffix.lower() in SUFFIXES), None)
    if first is None:
        return None
    with _opened(first) as raw:
        red, green, blue, other = (float(value) for value in raw.daylight_whitebalance)
        first_black, *rest = (int(value) for value in raw.black_level_per_channel)
        black = (first_black, *rest, *([first_black] * 3))
        levels = black[0], black[1], black[2], black[3]
        return Development((red, green, blue, other or green), levels, int(raw.white_level))


def read_raw(path: Path, how: Development | None) -> tuple[UInt16[np.ndarray, "h w 3"], int]:
    """Linear samples in sRGB's primaries, as stored, and the EXIF orientation. `how`: the file's own where left out.

    Raises:
        ReconError: there is no rawpy, or the file cannot be read.
    """
    rawpy = _rawpy(path)
    how = how or development([path])
    assert how is not None  # the path is that of a raw file
    low = min(how.black)
    with _opened(path) as raw:
        orientation = ORIENTATIONS.get(int(raw.sizes.flip), 1)
        try:
            samples = raw.postprocess(
                gamma=(1, 1),
                no_auto_bright=True,
                adjust_maximum_thr=0.0,  # LibRaw would take the brightest pixel of this photograph for white
                output_bps=16,
                output_color=rawpy.ColorSpace.sRGB,
                user_wb=list(how.white_balance),
                user_black=low,
                user_cblack=[value - low for value in how.black],
                user_sat=how.white,
                user_flip=0,
            )
        except rawpy.LibRawError as error:
            raise ReconError(f"{path}: not a readable raw file: {' '.join(str(error).split())}") from None
    return samples, orientation


def _rawpy(path: Path) -> Any:
    try:
        import rawpy
    except ImportError:
        raise ReconError(f"{path}: raw files need rawpy: pip install -e '.[raw]' in recon's checkout") from None
    return rawpy


def _opened(path: Path) -> Any:
    rawpy = _rawpy(path)
    try:
        return rawpy.imread(str(path))
    except rawpy.LibRawError as error:
        raise ReconError(f"{path}: not a readable raw file: {' '.join(str(error).split())}") from None

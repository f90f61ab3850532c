"""Linear radiance as pictures that screens and papers show."""

import io
from pathlib import Path
from typing import Literal

import cv2
import imageio.v3 as imageio
import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image

from recon.files import atomic

COMPRESSION = 6
"""Of PNG textures, from 0 to 9: above it the time doubles for a few hundredths of the size."""

Tone = Literal["clamp", "scale"]
Picture = UInt8[np.ndarray, "*batch 3"] | UInt16[np.ndarray, "*batch 3"]


def tone_map(radiance: Float[np.ndarray, "*batch 3"], tone: Tone = "clamp", bits: Literal[8, 16] = 8) -> Picture:
    """Linear radiance as sRGB integers; what is brighter than white comes out white, never wrapped.

    A prediction may exceed 1. `clamp` writes that as white; `scale` divides the whole array by its
    largest value where that is above 1. What is not a number is black, and infinity is white.
    """
    # The largest finite value: one infinity must not turn all else black.
    finite = np.where(np.isfinite(radiance), radiance, 0).astype(np.float64)
    peak = max(1.0, finite.max(initial=0.0)) if tone == "scale" else 1.0
    linear = np.nan_to_num(radiance.astype(np.float64) / peak, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
    levels = 2**bits - 1
    return np.rint(srgb(linear) * levels).astype(np.uint8 if bits == 8 else np.uint16)


def srgb(linear: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The sRGB transfer function (IEC 61966-2-1) of linear values in [0, 1]."""
    # The branch that is not taken would raise a small negative base for linear < 0: none are given.
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def absolute_difference(
    target: Float[np.ndarray, "*batch 3"], prediction: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch"]:
    """Mean over the channels of the absolute difference of linear radiance clamped to [0, 1]."""
    return np.abs(target.clip(0, 1) - prediction.clip(0, 1)).mean(axis=-1)


def png_bytes(picture: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> bytes:
    """8-bit integers as a PNG file."""
    rows = picture if picture.ndim == 2 else picture[..., ::-1]
    return cv2.imencode(".png", rows, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])[1].tobytes()


def opacity_png_bytes(opacity: UInt8[np.ndarray, "h w"]) -> bytes:
    """White of an opacity, as a PNG file of grey and alpha."""
    buffer = io.BytesIO()
    Image.fromarray(np.stack([np.full_like(opacity, 255), opacity], axis=-1), "LA").save(
        buffer, "png", compress_level=COMPRESSION
    )
    return buffer.getvalue()


def write_picture(picture: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"], path: str | Path) -> None:
    """Write 8- or 16-bit integers, with or without opacity, as PNG, whole or not at all.

    Raises:
        ReconError: the file cannot be written.
    """
    # Pillow, which imageio prefers, has no 16-bit colour.
    plugin = "opencv" if picture.dtype == np.uint16 else "pillow"
    with atomic(path) as temporary:
        imageio.imwrite(temporary, picture, plugin=plugin, extension=".png")

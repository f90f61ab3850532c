"""Pictures and masks of photographs as linear radiance."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped
from PIL import Image, ImageCms

from recon.errors import ReconError

SUFFIXES = (".exr", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""The formats that are read, in the order in which a path without suffix is tried."""

ColorSpace = Literal["srgb", "linear"]
"""What integers of a picture mean, where a person says it."""

JPEG = (".jpg", ".jpeg")


class Picture(NamedTuple):
    """Linear colours over black, and the coverage, if the file has it."""

    color: Float32[np.ndarray, "h w 3"]
    alpha: Float32[np.ndarray, "h w"] | None


def read_picture(path: Path, color_space: ColorSpace | None = None) -> Picture:
    """Read a picture. EXR is linear; integers are what `color_space` says.

    Without `color_space` a colour profile in the file is heeded (JPEG), and without either integers are
    sRGB. A grey picture becomes three equal channels. Colours come composited over black: EXR stores
    them so (premultiplied), integer formats do not.

    Raises:
        ReconError: missing, unreadable, of an unknown format or channel layout; a pixel is not finite;
            a PNG or TIFF has another profile than sRGB and `color_space` is None.
    """
    channels = _read_channels(path, convert=color_space is None)
    if channels.shape[2] not in (1, 2, 3, 4):
        raise ReconError(f"{path}: has {channels.shape[2]} channels, expected grey, RGB or RGBA")
    _check_finite(channels, path)
    has_alpha = channels.shape[2] in (2, 4)
    color, alpha = (channels[..., :-1], channels[..., -1]) if has_alpha else (channels, None)
    if path.suffix.lower() != ".exr":
        color = color if color_space == "linear" else linear_from_srgb(color)
        color = color if alpha is None else color * alpha[..., None]
    return Picture(np.broadcast_to(color, (*color.shape[:2], 3)).astype(np.float32), alpha)


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """Read a mask: what is brighter than half of its brightest value is object.

    Relative to the brightest value, because masks are written as 0 and 1 as well as 0 and 255.

    Raises:
        ReconError: missing, unreadable, or empty.
    """
    channels = _read_channels(path)
    _check_finite(channels, path)
    level = channels[..., :3].max(axis=2) if channels.shape[2] != 2 else channels[..., 0]
    if level.max() <= 0:
        raise ReconError(f"{path}: the mask is empty")
    return level > 0.5 * level.max()


def linear_from_srgb(encoded: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Inverse of the sRGB transfer function (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(encoded.dtype)


def _read_channels(path: Path, convert: bool = False) -> Float32[np.ndarray, "h w c"]:
    """Channels as stored, integers divided by the largest of their type; `convert`: in sRGB."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ReconError(f"{path}: not a picture that recon reads ({', '.join(SUFFIXES)})")
    if not path.is_file():
        raise ReconError(f"{path}: no such picture")
    if suffix == ".exr":
        return _read_exr(path)
    array = _read_jpeg(path, convert) if suffix in JPEG else _read_lossless(path, convert)
    if array.dtype.kind == "u":
        array = array.astype(np.float32) / np.iinfo(array.dtype).max
    return np.atleast_3d(array).astype(np.float32)


def _read_jpeg(path: Path, convert: bool) -> Shaped[np.ndarray, "..."]:
    """As stored: rotating by EXIF would turn the picture away from its intrinsics."""
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            image.load()
            if image.mode not in ("L", "RGB"):
                raise ReconError(f"{path}: is stored as {image.mode}, expected RGB or grey")
            if convert and _foreign_profile(image):
                profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
                output = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
                assert output is not None  # it is None only where an image is changed in place
                return np.asarray(output)
            return np.asarray(image)
    except ReconError:
        raise
    except Exception as error:  # Pillow's errors for damaged files have no common base
        raise ReconError(f"{path}: not a readable picture: {' '.join(str(error).split())}") from error


def _foreign_profile(image: Image.Image) -> str:
    """What the picture's colour profile calls itself; empty where there is none, or where it is sRGB."""
    content = image.info.get("icc_profile")
    if not content:
        return ""
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(content))).strip()
    return "" if "srgb" in name.lower() else name or "without a name"


def _check_profile(path: Path) -> None:
    # What Pillow does not know, such as TIFF of 16-bit colours, it says nothing of.
    with suppress(OSError, ImageCms.PyCMSError), Image.open(path) as image:
        if name := _foreign_profile(image):
            raise ReconError(f"{path}: has the colour profile {name!r}; export it as sRGB, or say 'color_space'")


def _read_lossless(path: Path, convert: bool) -> Shaped[np.ndarray, "..."]:
    import cv2  # Pillow, and so imageio, cuts 16-bit colours down to 8

    if convert:
        _check_profile(path)
    data = np.fromfile(path, np.uint8)
    with _silenced():
        array = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if array is None:
        raise ReconError(f"{path}: not a readable picture (truncated?)")
    if array.ndim == 3 and array.shape[2] >= 3:
        array[..., :3] = array[..., 2::-1].copy()  # BGR
    return array


def _read_exr(path: Path) -> Float32[np.ndarray, "h w c"]:
    import OpenEXR

    try:
        with _silenced(), OpenEXR.File(str(path), separate_channels=True) as file:
            header = dict(file.header())  # closing the file empties the original
            planes = {name: channel.pixels for name, channel in file.channels().items()}
    except Exception as error:  # RuntimeError, ValueError, TypeError, by the kind of damage
        raise ReconError(f"{path}: not a readable EXR file (truncated?)") from error
    try:
        names = _color_channels(list(planes))
        stored = np.stack([planes[name].astype(np.float32) for name in names], axis=2)
    except (LookupError, ValueError):
        raise ReconError(f"{path}: channels {', '.join(planes)} hold neither one RGB image nor one grey") from None
    return _in_display_window(stored, header)


def _color_channels(names: list[str]) -> list[str]:
    """R, G, B and, if there, A of the plain image or of Blender's `Layer.Combined`; else a lone channel."""
    prefixes = sorted({name[: name.rfind(".") + 1] for name in names}, key=lambda p: (p != "", "Combined" not in p, p))
    for prefix in prefixes:
        if all(prefix + c in names for c in "RGB"):
            return [prefix + c for c in "RGBA" if prefix + c in names]
    grey = [name for name in names if name in ("Y", "V", "A")] if len(names) > 1 else names
    return [grey[0]]


def _in_display_window(stored: Float32[np.ndarray, "h w c"], header: dict) -> Float32[np.ndarray, "_ _ c"]:
    """The image that the file stands for: EXR may store a part of it, or more (a render region, overscan)."""
    (left, top), _ = header["dataWindow"]
    (x0, y0), (x1, y1) = header["displayWindow"]
    image = np.zeros((y1 - y0 + 1, x1 - x0 + 1, stored.shape[2]), np.float32)
    row, column = top - y0, left - x0
    rows = slice(max(row, 0), min(row + stored.shape[0], image.shape[0]))
    columns = slice(max(column, 0), min(column + stored.shape[1], image.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        image[rows, columns] = stored[
            rows.start - row : rows.stop - row, columns.start - column : columns.stop - column
        ]
    return image


@contextmanager
def _silenced() -> Iterator[None]:
    """Nothing on standard output and error: the libraries print their own lines about broken files,
    from Python and from below it, and a person shall get one."""
    saved = [os.dup(1), os.dup(2)]
    with open(os.devnull, "w") as null, redirect_stdout(null):
        try:
            for stream in (1, 2):
                os.dup2(null.fileno(), stream)
            yield
        finally:
            for stream, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, stream)
                os.close(copy)


def _check_finite(channels: Float32[np.ndarray, "h w c"], path: Path) -> None:
    if not np.isfinite(channels).all():
        row, column, _ = np.argwhere(~np.isfinite(channels))[0]
        raise ReconError(f"{path}: the pixel in row {row}, column {column} is not finite")

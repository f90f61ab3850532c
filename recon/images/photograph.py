"""Pictures and masks of photographs as linear radiance."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from PIL import Image, ImageCms

from recon.errors import ReconError
from recon.images import raw
from recon.images.encoding import (
    Curve,
    Encoding,
    jpeg_encoding,
    linear,
    linear_from_srgb,
    png_encoding,
    tiff_encoding,
    turned,
)

HEIF = (".heic", ".heif")

SUFFIXES = (".exr", ".hdr", ".png", ".jpg", ".jpeg", ".tif", ".tiff", *raw.SUFFIXES, *HEIF)
"""The formats that are read, in the order in which a path without suffix is tried."""

ColorSpace = Literal["srgb", "linear"]
"""What samples of a picture mean, where a person says it."""

MAGIC = {
    b"\x89PNG": ".png",
    b"\xff\xd8": ".jpg",
    b"II": ".tif",
    b"MM": ".tif",
    b"\x76\x2f\x31\x01": ".exr",
    b"#?": ".hdr",
}
"""How files of each format begin."""

EXR = Encoding(linear, associated=True)
"""What all of them are."""

RADIANCE = Encoding(linear)
"""What files of Radiance (.hdr, RGBE) are."""

FAINT = 0.1
"""Brightness up to which a mask that is not of two levels was not made to be seen."""

JPEG = (".jpg", ".jpeg")


class Picture(NamedTuple):
    """Linear colours over black, and the alpha, if the file has it.

    Attributes:
        orientation: EXIF's, 1 to 8, which has not been acted upon: the pixels are as stored.
        assumed: integers of more than 8 bits were taken as sRGB, although neither file nor person says so.
    """

    color: Float32[np.ndarray, "h w 3"]
    alpha: Float32[np.ndarray, "h w"] | None
    orientation: int = 1
    assumed: bool = False

    def turned(self) -> "Picture":
        """Upright, as the orientation says."""
        alpha = None if self.alpha is None else turned(self.alpha, self.orientation)
        return self._replace(color=turned(self.color, self.orientation), alpha=alpha, orientation=1)


def read_picture(
    path: Path, color_space: ColorSpace | None = None, development: raw.Development | None = None
) -> Picture:
    """Read a picture. EXR and HDR are linear, and so is a raw file by its `development`; other samples are what
    `color_space` says.

    Without `color_space` the file is asked: floats are linear; a colour profile, or PNG's own chunks, have
    the curve. Where it says nothing, integers are sRGB. A grey picture becomes three equal channels.
    Colours come composited over black.

    Raises:
        ReconError: missing, unreadable, of an unknown format or channel layout; a pixel is not finite;
            a PNG or TIFF has other primaries than sRGB's and `color_space` is None.
    """
    samples, encoding = _read_samples(path, convert=color_space is None, development=development)
    if samples.shape[2] not in (1, 2, 3, 4):
        raise ReconError(f"{path}: has {samples.shape[2]} channels, expected grey, RGB or RGBA")
    has_alpha = samples.shape[2] in (2, 4)
    color, alpha = (samples[..., :-1], _shares(samples[..., -1])) if has_alpha else (samples, None)
    curve = encoding.curve or linear_from_srgb
    if encoding is EXR or encoding is RADIANCE or path.suffix.lower() in raw.SUFFIXES:
        curve = linear
    elif color_space is not None:
        curve = linear if color_space == "linear" else linear_from_srgb
    elif encoding.profile:
        raise ReconError(
            f"{path}: has the colour profile {encoding.profile!r}; export it as sRGB, or say what it is "
            "('color_space' of a transforms.json, or --color-space)"
        )
    if alpha is not None and encoding.associated and curve is not linear:
        color = _shares(color)
        color = np.divide(color, alpha[..., None], out=np.zeros_like(color), where=alpha[..., None] > 0)
    color = _decoded(color, curve)
    if alpha is not None and not (encoding.associated and curve is linear):
        color = color * alpha[..., None]
    return Picture(
        np.broadcast_to(color, (*color.shape[:2], 3)).astype(np.float32, copy=False),
        alpha,
        encoding.orientation,
        assumed=_bits(samples) > 8 and color_space is None and encoding.curve is None,
    )


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """Read a mask: what is brighter than half of its brightest value is object.

    Relative to the brightest value, because masks are written as 0 and 1 as well as 0 and 255. Where the
    file has an opacity that is not full, the object is what is opaque.

    Raises:
        ReconError: missing, unreadable, or empty; brightness and opacity, or several levels, mark
            different pixels.
    """
    samples, _ = _read_samples(path)
    channels, bits = _shares(samples), _bits(samples)
    level, alpha = channels[..., :3].max(axis=2), None
    if channels.shape[2] in (2, 4):
        level, alpha = channels[..., :-1].max(axis=2), channels[..., -1]
    if alpha is not None and alpha.max() <= 0:
        raise ReconError(f"{path}: the mask is empty")
    outline = level > 0.5 * level.max()
    if alpha is not None and not (alpha > 0.5 * alpha.max()).all():
        opaque = alpha > 0.5 * alpha.max()
        two = (level < 0.05 * level.max()) | (level > 0.95 * level.max())
        if two.mean() > 0.99 and len(np.unique(outline[opaque])) == 2:
            raise ReconError(f"{path}: brightness and opacity mark different pixels; expected a mask in one of them")
        return opaque
    if level.max() <= 0:
        raise ReconError(f"{path}: the mask is empty")
    if bits and level.max() <= FAINT:
        found = np.unique(np.round(level * (2**bits - 1))).astype(int)
        if len(found) > 2:
            shown = ", ".join(map(str, found[:4])) + (", …" if len(found) > 4 else "")
            raise ReconError(f"{path}: has the levels {shown}: labels, or nearly black; expected black and white")
    return outline


def _bits(samples: Shaped[np.ndarray, "..."]) -> int:
    """Of integers; 0 of floats."""
    return 8 * samples.dtype.itemsize if samples.dtype.kind == "u" else 0


def _shares(samples: Shaped[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Integers divided by the largest of their type, floats as they are."""
    if samples.dtype.kind == "u":
        return samples.astype(np.float32) / np.iinfo(samples.dtype).max
    return samples.astype(np.float32, copy=False)


def _decoded(samples: Shaped[np.ndarray, "*shape"], curve: Curve) -> Float32[np.ndarray, "*shape"]:
    """The samples by their curve; of integers each value once, for photographs have more pixels than values."""
    if samples.dtype not in (np.uint8, np.uint16):
        return curve(_shares(samples))
    table = curve(_shares(np.arange(np.iinfo(samples.dtype).max + 1, dtype=samples.dtype))).astype(np.float32)
    if samples.dtype == np.uint8:
        import cv2

        return cv2.LUT(samples, table).reshape(samples.shape)
    decoded = np.empty(samples.shape, np.float32)
    for row, target in zip(samples, decoded, strict=True):  # by rows: as indices, samples take eight times their memory
        np.take(table, row, out=target, mode="clip")
    return decoded


def _read_samples(
    path: Path, convert: bool = False, development: raw.Development | None = None
) -> tuple[Shaped[np.ndarray, "h w c"], Encoding]:
    """Finite samples as stored, and what the file says of them. `convert`: a JPEG of other primaries in sRGB."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ReconError(f"{path}: not a picture that recon reads ({', '.join(SUFFIXES)})")
    if not path.is_file():
        raise ReconError(f"{path}: no such picture")
    if suffix in raw.SUFFIXES:  # many begin like a TIFF
        array, orientation = raw.read_raw(path, development)
        return array, Encoding(linear, orientation=orientation)
    with open(path, "rb") as file:
        start = file.read(4)
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), suffix)  # names may be wrong
    if kind == ".exr":
        return _finite(_read_exr(path), path), EXR
    if kind in HEIF:
        _register_heif(path)
    array, encoding = _read_jpeg(path, convert) if kind in (*JPEG, *HEIF) else _read_lossless(path)
    if encoding.fault:
        raise ReconError(f"{path}: {encoding.fault}")
    if array.dtype.kind not in "uf":
        raise ReconError(f"{path}: has samples of {array.dtype}, expected unsigned integers or floats")
    return _finite(np.atleast_3d(array), path), encoding


def _read_jpeg(path: Path, convert: bool) -> tuple[Shaped[np.ndarray, "..."], Encoding]:
    """As stored: whether the poses belong to the turned picture, EXIF does not know."""
    try:
        with Image.open(path, formats=["JPEG", *(["HEIF"] if "HEIF" in Image.OPEN else [])]) as image:
            image.load()
            if image.mode not in ("L", "RGB"):
                raise ReconError(f"{path}: is stored as {image.mode}, expected RGB or grey")
            encoding = jpeg_encoding(image)
            if convert and encoding.profile and (content := image.info.get("icc_profile")):
                profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
                output = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
                assert output is not None  # it is None only where an image is changed in place
                return np.asarray(output), encoding._replace(profile="")
            return np.asarray(image), encoding
    except ReconError:
        raise
    except Exception as error:  # Pillow's errors for damaged files have no common base
        raise ReconError(f"{path}: not a readable picture: {' '.join(str(error).split())}") from error


def _register_heif(path: Path) -> None:
    """Teach Pillow the format."""
    try:
        import pillow_heif
    except ImportError:
        raise ReconError(f"{path}: HEIC needs pillow-heif: pip install -e '.[heic]' in recon's checkout") from None
    pillow_heif.register_heif_opener()


def _read_lossless(path: Path) -> tuple[Shaped[np.ndarray, "..."], Encoding]:
    import cv2  # Pillow, and so imageio, cuts 16-bit colours down to 8

    data = path.read_bytes()
    encoding, array = Encoding(), None
    with suppress(ValueError, struct.error, zlib.error):
        if data.startswith(b"\x89PNG"):
            encoding = png_encoding(data)
        elif data.startswith(b"#?"):
            encoding = RADIANCE
        else:
            encoding, data = tiff_encoding(data)
        if encoding.fault:
            return np.zeros((1, 1), np.uint8), encoding
        with _silenced(), suppress(cv2.error):  # such as a size that no machine holds
            array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ReconError(f"{path}: not a readable picture (truncated?){_pointer(data)}")
    if array.ndim == 3 and array.shape[2] >= 3:
        array[..., :3] = array[..., 2::-1].copy()  # BGR
    return array, encoding


def _read_exr(path: Path) -> Float32[np.ndarray, "h w c"]:
    import OpenEXR

    try:
        with _silenced(), OpenEXR.File(str(path), separate_channels=True) as file:
            header = dict(file.header())  # closing the file empties the original
            planes = {name: channel.pixels for name, channel in file.channels().items()}
            parts = [part.name() for part in file.parts if {"R", "G", "B"} <= set(part.channels)]
    except Exception as error:  # RuntimeError, ValueError, TypeError, by the kind of damage
        raise ReconError(f"{path}: not a readable EXR file (truncated?){_pointer(path.read_bytes())}") from error
    try:
        names = _color_channels(list(planes))
        stored = np.stack([planes[name].astype(np.float32) for name in names], axis=2)
    except (LookupError, ValueError):
        raise ReconError(f"{path}: channels {', '.join(planes)} hold neither one RGB image nor one grey") from None
    if len(parts) > 1:
        raise ReconError(f"{path}: holds several pictures: {', '.join(parts)}; expected one")
    return _in_display_window(stored, header)


def _pointer(data: bytes) -> str:
    return ": it is a pointer of Git LFS, not the file" if data.startswith(b"version https://git-lfs") else ""


def _color_channels(names: list[str]) -> list[str]:
    """R, G, B and, if there, A of the plain image or of Blender's `Layer.Combined`; else a lone channel.

    Raises `LookupError` where there are none, or several.
    """
    prefixes = {name[: name.rfind(".") + 1] for name in names}
    colors = sorted(prefix for prefix in prefixes if all(prefix + c in names for c in "RGB"))
    chosen = [p for p in colors if p == ""] or [p for p in colors if p.endswith("Combined.")] or colors
    if len(chosen) > 1:
        raise LookupError
    if chosen:
        return [chosen[0] + c for c in "RGBA" if chosen[0] + c in names]
    if {"RY", "BY"} & set(names) or [name.rpartition(".")[2] for name in names] == ["Z"]:
        raise LookupError
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


def _finite(samples: Shaped[np.ndarray, "h w c"], path: Path) -> Shaped[np.ndarray, "h w c"]:
    """The samples, checked."""
    if samples.dtype.kind == "f" and not np.isfinite(samples.astype(np.float32, copy=False)).all():
        row, column, _ = np.argwhere(~np.isfinite(samples.astype(np.float32)))[0]
        raise ReconError(f"{path}: the pixel in row {row}, column {column} is not finite")
    return samples

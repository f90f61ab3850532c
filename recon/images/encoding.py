"""What picture files say about their samples: how linear they are, what opacity means, and how the camera was held.

    PNG    cICP, iCCP, sRGB, gAMA (in this order of precedence), eXIf
    TIFF   SampleFormat (floats are linear), ICC profile, ExtraSamples, Orientation
    JPEG   ICC profile, EXIF

Decoders tell little of it, and some act upon it by themselves in one case and not in another.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageCms

Curve = Callable[[Float[np.ndarray, "*shape"]], Float[np.ndarray, "*shape"]]
"""From samples to linear radiance."""


class Encoding(NamedTuple):
    """What a file says; everything may be left out.

    Attributes:
        curve: how samples become linear.
        profile: name of a colour profile that is not sRGB's primaries with a curve; empty where there is none.
        associated: colours are multiplied by the opacity already.
        orientation: EXIF's, 1 to 8: how the stored rows and columns are to be turned to be upright.
        fault: why the samples cannot be taken for what they seem to be.
    """

    curve: Curve | None = None
    profile: str = ""
    associated: bool = False
    orientation: int = 1
    fault: str = ""


def linear_from_srgb(encoded: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Inverse of the sRGB transfer function (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded.clip(0) + 0.055) / 1.055) ** 2.4).astype(
        encoded.dtype
    )


def linear(samples: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return samples


def power(exponent: float) -> Curve:
    """The curve of a display of this gamma."""
    return lambda samples: (np.sign(samples) * np.abs(samples) ** exponent).astype(samples.dtype)


SRGB_GAMMA = 45455
"""What PNG's gAMA says of sRGB pictures: writers that know no sRGB chunk mean that."""

ENOUGH = 33
"""Samples at which curves are compared."""


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns as EXIF's `orientation` wants them shown."""
    if orientation >= 5:
        array = np.swapaxes(array, 0, 1)
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return np.ascontiguousarray(array[::rows, ::columns])


# PNG


def png_encoding(data: bytes) -> Encoding:
    """Raises `ValueError` where a chunk is damaged."""
    chunks = dict(_png_chunks(data))
    exif = chunks.get(b"eXIf", b"")
    orientation = _exif_orientation(exif)
    if (code := chunks.get(b"cICP")) is not None and len(code) == 4:
        curve = {8: linear, 13: linear_from_srgb}.get(code[1])
        if code[0] != 1 or curve is None or code[2] != 0:  # other primaries, other curves, or no RGB
            return Encoding(profile=f"cICP {'-'.join(map(str, code))}", orientation=orientation)
        return Encoding(curve, orientation=orientation)
    if (profile := chunks.get(b"iCCP")) is not None:
        _, _, packed = profile.partition(b"\0")
        return icc_encoding(zlib.decompress(packed[1:]))._replace(orientation=orientation)
    if b"sRGB" in chunks:
        return Encoding(linear_from_srgb, orientation=orientation)
    if (gamma := chunks.get(b"gAMA")) is not None and len(gamma) == 4:
        value = struct.unpack(">I", gamma)[0]
        if value == 0:
            return Encoding(orientation=orientation)
        near = abs(value - SRGB_GAMMA) < 0.01 * SRGB_GAMMA
        return Encoding(linear_from_srgb if near else power(100000 / value), orientation=orientation)
    return Encoding(orientation=orientation)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        if name not in (b"IDAT", b"fdAT"):
            yield name, data[place + 8 : place + 8 + size]
        place += 12 + size


# TIFF

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}
ORIENTATION, PHOTOMETRIC, EXTRA_SAMPLES, SAMPLE_FORMAT, ICC, BITS, SAMPLES, SUBFILE = (
    274,
    262,
    338,
    339,
    34675,
    258,
    277,
    254,
)
PHOTOMETRICS = {0: "white as zero", 4: "a mask", 5: "CMYK", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "a sensor's mosaic"}


class Tag(NamedTuple):
    offset: int
    type: int
    length: int


def tiff_encoding(data: bytes) -> tuple[Encoding, bytes]:
    """What a TIFF says, and the file for a decoder that shall neither turn it nor multiply it by its opacity.

    Raises `ValueError` where the directory is damaged.
    """
    order, tags, following = _tiff_tags(data)

    def numbers(tag: int, default: int) -> tuple[int, ...]:
        if (found := tags.get(tag)) is None or found.type not in (1, 3, 4):
            return (default,)
        return struct.unpack_from(f"{order}{found.length}{'_B_HI'[found.type]}", data, found.offset)

    orientation, photometric = numbers(ORIENTATION, 1)[0], numbers(PHOTOMETRIC, 2)[0]
    extra, form, bits = numbers(EXTRA_SAMPLES, 2), numbers(SAMPLE_FORMAT, 1)[0], max(numbers(BITS, 1))
    encoding = Encoding()
    if ICC in tags:
        encoding = icc_encoding(data[tags[ICC].offset : tags[ICC].offset + tags[ICC].length])
    elif form == 3:
        encoding = Encoding(linear)
    fault = ""
    if photometric in PHOTOMETRICS and not (photometric == 0 and bits <= 8):
        fault = f"is stored as {PHOTOMETRICS[photometric]}, expected RGB or grey"
    elif form == 2:
        fault = "has signed integers, expected unsigned ones or floats"
    elif following and _is_page(data, following):
        fault = "holds several pictures, expected one"
    elif numbers(SAMPLES, 1)[0] == 2:
        fault = "is grey with opacity, which is read from PNG alone"
    plain = bytearray(data)
    for tag, value in ((ORIENTATION, 1), (EXTRA_SAMPLES, 0)):
        if tag in tags and tags[tag].type == 3:
            struct.pack_into(f"{order}H", plain, tags[tag].offset, value)
    encoding = encoding._replace(
        orientation=orientation if 1 <= orientation <= 8 else 1, associated=extra[0] == 1, fault=fault
    )
    return encoding, bytes(plain)


def _is_page(data: bytes, place: int) -> bool:
    """Whether the directory there is another picture, not the first one smaller, or a mask."""
    try:
        order, tags, _ = _tiff_tags(data, place)
    except ValueError:
        return False
    kind = tags.get(SUBFILE)
    return kind is None or kind.type != 4 or struct.unpack_from(f"{order}I", data, kind.offset)[0] & 0b101 == 0


def _tiff_tags(data: bytes, start: int | None = None) -> tuple[str, dict[int, Tag], int]:
    """The byte order, the entries of the first directory (or the one at `start`), and where the next lies; 0: nowhere
    (TIFF 6.0, and BigTIFF)."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("no TIFF")
    try:
        big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
        if start is None:
            start = int(struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)[0])
        count = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, start)[0]
        place, step, inline = start + (8 if big else 2), (20 if big else 12), (8 if big else 4)
        tags = {}
        for i in range(min(count, 4096)):
            entry = place + step * i
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            number = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, entry + 4)[0]
            offset = entry + (12 if big else 8)
            if SIZES.get(kind, 1) * number > inline:
                offset = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, offset)[0]
            if offset + SIZES.get(kind, 1) * number > len(data):
                raise ValueError("a TIFF that ends too early")
            tags[tag] = Tag(offset, kind, number)
        end = place + step * count
        following = (
            struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, end)[0] if end + inline <= len(data) else 0
        )
    except struct.error:
        raise ValueError("a TIFF that ends too early") from None
    return order, tags, int(following)


# JPEG and EXIF


def jpeg_encoding(image: Image.Image) -> Encoding:
    exif = image.getexif()
    orientation = exif.get(ORIENTATION, 1)
    encoding = Encoding()
    if content := image.info.get("icc_profile"):
        encoding = icc_encoding(content)
    elif exif.get_ifd(0xA005).get(1) == "R03":  # the camera's own way to say so, without a profile
        encoding = Encoding(profile="Adobe RGB (EXIF)")
    return encoding._replace(orientation=orientation if orientation in range(1, 9) else 1)


def _exif_orientation(exif: bytes) -> int:
    try:
        order, tags, _ = _tiff_tags(exif.removeprefix(b"Exif\0\0"))
        value = struct.unpack_from(f"{order}H", exif.removeprefix(b"Exif\0\0"), tags[ORIENTATION].offset)[0]
    except (ValueError, KeyError, struct.error):
        return 1
    return value if 1 <= value <= 8 else 1


# ICC profiles

SRGB_PRIMARIES = {
    b"rXYZ": (0.4360, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7139),
}
"""Of sRGB, and of Rec. 709, adapted to D50 as profiles have them."""


def icc_encoding(content: bytes) -> Encoding:
    """By the profile's curves, not by its name: "linear sRGB" is a name too.

    A profile of sRGB's primaries, or of grey, is its curve; any other only has a name (ICC.1:2022, sections 7, 10).
    """
    name = _profile_name(content)
    try:
        tags = _icc_tags(content)
        grey = content[16:20] == b"GRAY"
        if not grey and not all(
            np.allclose(_icc_xyz(tags[key]), value, atol=0.01) for key, value in SRGB_PRIMARIES.items()
        ):
            return Encoding(profile=name)
        curves = [_icc_curve(tags[key]) for key in ((b"kTRC",) if grey else (b"rTRC", b"gTRC", b"bTRC"))]
    except (KeyError, ValueError, IndexError, struct.error):
        return Encoding(profile=name)
    ramp = np.linspace(0, 1, ENOUGH)
    values = [curve(ramp) for curve in curves]
    if not all(np.allclose(each, values[0], atol=1e-3) for each in values) or not np.isfinite(values[0]).all():
        return Encoding(profile=name)
    for known in (linear_from_srgb, linear):
        if np.allclose(values[0], known(ramp), atol=2e-3):
            return Encoding(known)
    return Encoding(curves[0])


def _profile_name(content: bytes) -> str:
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(content))).strip() or "without a name"
    except (OSError, ImageCms.PyCMSError):
        return "that cannot be read"


def _icc_tags(content: bytes) -> dict[bytes, bytes]:
    count = struct.unpack_from(">I", content, 128)[0]
    entries = [struct.unpack_from(">4sII", content, 132 + 12 * i) for i in range(min(count, 256))]
    return {name: content[offset : offset + size] for name, offset, size in entries}


def _icc_xyz(tag: bytes) -> tuple[float, ...]:
    return tuple(value / 65536 for value in struct.unpack_from(">3i", tag, 8))


def _icc_curve(tag: bytes) -> Curve:
    if tag[:4] == b"curv":
        count = struct.unpack_from(">I", tag, 8)[0]
        if count == 0:
            return linear
        table = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
        if count == 1:
            return power(float(table[0]) / 256)
        places = np.linspace(0, 1, count)
        return lambda samples: np.interp(samples, places, table / 65535).astype(samples.dtype)
    if tag[:4] != b"para":
        raise ValueError("no curve")
    kind = struct.unpack_from(">H", tag, 8)[0]
    count = (1, 3, 4, 5, 7)[kind]
    given = [float(value) / 65536 for value in struct.unpack_from(f">{count}i", tag, 12)]
    g, a, b, c, d, e, f = given + [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0][count:]
    if kind in (1, 2):  # the same with the bend where the power begins
        c, d, e, f = 0.0, -b / a, c, c

    def curve(samples: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        powered = (a * samples + b).clip(0) ** g + e
        return np.where(samples >= d, powered, c * samples + f).astype(samples.dtype)

    return curve

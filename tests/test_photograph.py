"""What picture files say about themselves: linear or not, opacity, orientation; and masks of every kind."""

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import imageio.v3 as imageio
import numpy as np
import OpenEXR
import pytest
from PIL import Image, ImageCms

from recon.errors import ReconError
from recon.images.encoding import linear_from_srgb, turned
from recon.images.photograph import read_mask, read_picture

RAMP = np.linspace(0, 1, 6 * 7 * 3, dtype=np.float32).reshape(6, 7, 3)


def tiff(
    path: Path, array: np.ndarray, *, order: str = "<", photometric: int = 2, form: int | None = None, **tags: Any
) -> Path:
    """A TIFF of one strip. `tags`: t338=[1] is ExtraSamples."""
    array = array if array.ndim == 3 else array[..., None]
    height, width, count = array.shape
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    form = {"u": 1, "i": 2, "f": 3}[array.dtype.kind] if form is None else form
    entries: dict[int, tuple[int, Any]] = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [8 * array.dtype.itemsize] * count),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [8]),
        277: (3, [count]),
        278: (3, [height]),
        279: (4, [len(data)]),
        339: (3, [form] * count),
    }
    entries |= {int(key[1:]): (7 if isinstance(value, bytes) else 3, value) for key, value in tags.items()}
    start, heap = 8 + len(data), b""
    directory = struct.pack(f"{order}H", len(entries))
    for tag, (kind, values) in sorted(entries.items()):
        packed = values if isinstance(values, bytes) else struct.pack(f"{order}{len(values)}{'HI'[kind - 3]}", *values)
        inline = packed.ljust(4, b"\0")
        if len(packed) > 4:
            inline = struct.pack(f"{order}I", start + 2 + 12 * len(entries) + 4 + len(heap))
            heap += packed + b"\0" * (len(packed) % 2)
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + inline
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, start)
    path.write_bytes(head + data + directory + bytes(4) + heap)
    return path


def png(path: Path, array: np.ndarray, **chunks: bytes) -> Path:
    """A PNG with further chunks before its data."""
    data = bytes(cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array)[1])
    extra = b""
    for name, content in chunks.items():
        body = name.encode() + content
        extra += struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(data[:33] + extra + data[33:])  # after IHDR
    return path


def profile(curve: bytes | None = None, name: str = "sRGB", primaries: bool = True) -> bytes:
    """sRGB's ICC profile with another transfer curve, name, or primaries (ICC.1:2022, sections 7 and 10)."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    changed = bytearray(srgb)
    for k in range(int.from_bytes(srgb[128:132], "big")):
        entry = srgb[132 + 12 * k : 144 + 12 * k]
        offset, size = int.from_bytes(entry[4:8], "big"), int.from_bytes(entry[8:12], "big")
        if entry[:4] in (b"rTRC", b"gTRC", b"bTRC") and curve is not None:
            changed[offset : offset + size] = curve.ljust(size, b"\0")
        if entry[:4] == b"rXYZ" and not primaries:
            changed[offset + 8 : offset + 12] = struct.pack(">i", round(0.515 * 65536))
    return bytes(changed).replace("sRGB".encode("utf-16-be"), name[:4].encode("utf-16-be"))


def power(exponent: float) -> bytes:
    return b"para" + bytes(8) + struct.pack(">i", round(exponent * 65536))


def integers(dtype: type = np.uint8) -> np.ndarray:
    return np.round(RAMP * np.iinfo(dtype).max).astype(dtype)


# How linear a file is


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_of_a_tiff_are_linear(tmp_path: Path, dtype: type, order: str) -> None:
    for scale in (1, 4):
        path = tiff(tmp_path / "a.tif", (scale * RAMP).astype(dtype), order=order)
        picture = read_picture(path)
        assert np.allclose(picture.color, scale * RAMP, atol=1e-6) and not picture.assumed
    assert np.allclose(read_picture(path, "srgb").color, linear_from_srgb(4 * RAMP), rtol=1e-5)
    assert np.allclose(read_picture(path, "linear").color, 4 * RAMP)


def test_floats_with_a_profile_are_what_it_says(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", RAMP, t34675=profile())
    assert np.allclose(read_picture(path).color, linear_from_srgb(RAMP), atol=1e-5)
    path = tiff(tmp_path / "b.tif", RAMP, t34675=profile(primaries=False, name="wide"))
    with pytest.raises(ReconError, match="b.tif: has the colour profile 'wide.*'; export it as sRGB, or say"):
        read_picture(path)
    assert np.allclose(read_picture(path, "linear").color, RAMP)


def test_a_profile_of_16_bit_tiff_is_not_overlooked(tmp_path: Path) -> None:
    """Pillow cannot open 16-bit colours, so it saw no profile there."""
    path = tiff(tmp_path / "a.tif", integers(np.uint16), t34675=profile(primaries=False, name="wide"))
    with pytest.raises(ReconError, match="a.tif: has the colour profile 'wide"):
        read_picture(path)
    path = tiff(tmp_path / "b.tif", integers(np.uint16), t34675=profile(power(1), "LinR"))
    assert np.allclose(read_picture(path).color, RAMP, atol=1e-4)


CURVES = {
    "sRGB": (profile(), linear_from_srgb(RAMP)),
    "linear sRGB by its name": (profile(power(1)), RAMP),
    "gamma 1.8": (profile(power(1.8)), RAMP**1.8),
    "table": (
        profile(b"curv" + bytes(4) + struct.pack(">I3H", 3, 0, 16384, 65535)),
        np.interp(RAMP, [0, 0.5, 1], [0, 0.25, 1]),
    ),
    "u8Fixed8": (profile(b"curv" + bytes(4) + struct.pack(">IH", 1, 512)), RAMP**2),
    "no curve": (profile(b"curv" + bytes(8)), RAMP),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("name", CURVES)
def test_a_profile_is_its_curve_not_its_name(tmp_path: Path, name: str, suffix: str) -> None:
    content, expected = CURVES[name]
    path = tmp_path / f"a.{suffix}"
    flat = np.repeat(integers(), 8, axis=0).repeat(8, axis=1)
    Image.fromarray(flat).save(path, icc_profile=content, quality=100, subsampling=0)
    found = read_picture(path).color[4::8, 4::8]
    assert np.allclose(found, expected, atol=0.06 if suffix == "jpg" else 0.006)
    assert np.allclose(read_picture(path, "linear").color[4::8, 4::8], RAMP, atol=0.06 if suffix == "jpg" else 0.003)


def test_other_primaries_are_converted_in_jpeg_and_refused_elsewhere(tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((8, 8, 3), (200, 90, 50), np.uint8))
    wide = profile(primaries=False, name="wide")
    picture.save(tmp_path / "a.jpg", icc_profile=wide, quality=98)
    red = read_picture(tmp_path / "a.jpg").color[4, 4, 0]
    assert red > 1.05 * linear_from_srgb(np.array(200 / 255))  # the wider red is a stronger one in sRGB
    picture.save(tmp_path / "b.png", icc_profile=wide)
    with pytest.raises(ReconError, match="b.png: has the colour profile 'wide.*'; export it as sRGB"):
        read_picture(tmp_path / "b.png")
    picture.save(tmp_path / "c.png", icc_profile=b"no profile")
    with pytest.raises(ReconError, match="c.png: has the colour profile 'that cannot be read'"):
        read_picture(tmp_path / "c.png")


def test_a_camera_s_adobe_rgb_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 65535
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Image.fromarray(np.full((8, 8, 3), 128, np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(ReconError, match=r"a.jpg: has the colour profile 'Adobe RGB \(EXIF\)'; export it as sRGB"):
        read_picture(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg", "srgb").color.mean() == pytest.approx(0.2159, abs=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_says_its_gamma(tmp_path: Path, dtype: type) -> None:
    def read(**chunks: bytes) -> np.ndarray:
        picture = read_picture(png(tmp_path / "a.png", integers(dtype), **chunks))
        assert picture.assumed == (not chunks and dtype == np.uint16)
        return picture.color

    srgb = linear_from_srgb(RAMP)
    assert np.allclose(read(), srgb, atol=0.005)
    assert np.allclose(read(sRGB=b"\0"), srgb, atol=0.005)
    assert np.allclose(read(gAMA=struct.pack(">I", 45455)), srgb, atol=0.005)
    assert np.allclose(read(gAMA=struct.pack(">I", 100000)), RAMP, atol=0.003)
    assert np.allclose(read(gAMA=struct.pack(">I", 50000)), RAMP**2, atol=0.005)
    assert np.allclose(read(sRGB=b"\0", gAMA=struct.pack(">I", 100000)), srgb, atol=0.005)
    assert np.allclose(read(cICP=bytes([1, 8, 0, 1]), sRGB=b"\0"), RAMP, atol=0.003)
    with pytest.raises(ReconError, match="a.png: has the colour profile 'cICP 9-16-0-1'"):
        read(cICP=bytes([9, 16, 0, 1]))


def test_a_wrong_suffix_is_no_matter(tmp_path: Path) -> None:
    Image.fromarray(integers()).save(tmp_path / "a.jpg", format="PNG")
    Image.fromarray(integers()).save(tmp_path / "b.png", format="JPEG", quality=95)
    tiff(tmp_path / "c.exr", RAMP)
    for name in ("a.jpg", "b.png"):
        assert np.allclose(read_picture(tmp_path / name).color, linear_from_srgb(RAMP), atol=0.1)
    assert np.allclose(read_picture(tmp_path / "c.exr").color, RAMP)


# Layouts


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_opacity_of_a_tiff_is_multiplied_once(tmp_path: Path, dtype: type) -> None:
    """OpenCV multiplies 8-bit colours, and nothing else, when it reads them."""
    share = np.array([0.8, 0.4, 0.2, 0.6])
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    straight = np.tile((share * top).astype(dtype), (4, 5, 1))
    expected = share[:3] if dtype == np.float32 else linear_from_srgb(share[:3])
    picture = read_picture(tiff(tmp_path / "a.tif", straight, t338=[2]))
    assert np.allclose(picture.color, expected * 0.6, atol=0.005)
    assert picture.alpha is not None and np.allclose(picture.alpha, 0.6, atol=0.003)
    stored = np.tile((np.append(share[:3] * share[3], share[3]) * top).astype(dtype), (4, 5, 1))
    assert np.allclose(read_picture(tiff(tmp_path / "b.tif", stored, t338=[1])).color, expected * 0.6, atol=0.006)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["8.tif", "16.tif", "png", "jpg"])
def test_pixels_stay_as_stored_and_the_orientation_is_told(tmp_path: Path, orientation: int, kind: str) -> None:
    stored, path = integers(np.uint16 if kind == "16.tif" else np.uint8), tmp_path / f"a.{kind[-3:]}"
    if kind.endswith("tif"):
        tiff(path, stored, t274=[orientation])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(stored).save(path, exif=exif, quality=100, subsampling=0)
    picture = read_picture(path)
    assert picture.orientation == orientation
    tolerance = 0.03 if kind == "jpg" else 0.006
    assert np.allclose(picture.color, linear_from_srgb(RAMP), atol=tolerance)
    assert np.allclose(picture.turned().color, turned(picture.color, orientation))


def test_orientations_by_hand() -> None:
    f = np.array([[1, 2], [3, 4], [5, 6]])
    expected = {
        1: [[1, 2], [3, 4], [5, 6]],
        2: [[2, 1], [4, 3], [6, 5]],
        3: [[6, 5], [4, 3], [2, 1]],
        4: [[5, 6], [3, 4], [1, 2]],
        5: [[1, 3, 5], [2, 4, 6]],
        6: [[5, 3, 1], [6, 4, 2]],
        7: [[6, 4, 2], [5, 3, 1]],
        8: [[2, 4, 6], [1, 3, 5]],
    }
    for orientation, rows in expected.items():
        assert turned(f, orientation).tolist() == rows, orientation


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.full((4, 5, 4), 9, np.uint8), {"photometric": 5}, "is stored as CMYK, expected RGB or grey"),
        (np.full((4, 5, 3), 9, np.uint8), {"photometric": 8}, "is stored as Lab, expected RGB or grey"),
        (np.full((4, 5), 9, np.uint16), {"photometric": 0}, "is stored as white as zero, expected"),
        (np.full((4, 5), 9, np.int16), {"photometric": 1}, "has signed integers, expected unsigned ones or floats"),
        (np.full((4, 5, 2), 9, np.uint8), {"photometric": 1, "t338": [2]}, "is grey with opacity"),
        (np.full((4, 5, 5), 9, np.uint8), {"t338": [0, 0]}, "not a readable picture"),
        (np.full((4, 5), 0.5, np.float16), {"photometric": 1}, "not a readable picture"),
    ],
)
def test_tiff_of_other_layouts_is_one_line(
    tmp_path: Path, array: np.ndarray, options: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tiff(tmp_path / "a.tif", array, **options)
    with pytest.raises(ReconError, match=f"a.tif: {message}") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")


def test_cmyk_is_no_rgb_with_alpha(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(ReconError, match="a.jpg: is stored as CMYK, expected RGB or grey"):
        read_picture(tmp_path / "a.jpg")


def test_a_size_that_no_machine_holds_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = png(tmp_path / "a.png", integers())
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)
    with pytest.raises(ReconError, match="a.png: not a readable picture"):
        read_picture(path)
    assert capfd.readouterr() == ("", "")


def test_files_of_several_pictures_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(integers())
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(ReconError, match="a.tif: holds several pictures, expected one"):
        read_picture(tmp_path / "a.tif")
    small = page.resize((3, 3))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(tmp_path / "b.tif", save_all=True, append_images=[small])
    assert read_picture(tmp_path / "b.tif").color.shape == RAMP.shape  # the same picture, smaller
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    parts = [OpenEXR.Part(dict(header), {"RGB": RAMP}, name) for name in ("left", "right")]
    with OpenEXR.File(parts) as file:
        file.write(str(tmp_path / "c.exr"))
    with pytest.raises(ReconError, match="c.exr: holds several pictures: left, right; expected one"):
        read_picture(tmp_path / "c.exr")


@pytest.mark.parametrize(
    "names",
    [["Y", "RY", "BY"], ["Z"], ["View.Depth.Z"]]
    + [
        [f"{layer}.{c}" for layer in layers for c in "RGB"]
        for layers in (("Diffuse", "Glossy"), ("A.Combined", "B.Combined"))
    ],
)
def test_exr_without_one_picture_is_refused(tmp_path: Path, names: list[str]) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {name: np.ones((4, 5), np.float32) for name in names}) as file:
        file.write(str(tmp_path / "a.exr"))
    with pytest.raises(ReconError, match="a.exr: channels .* hold neither one RGB image nor one grey"):
        read_picture(tmp_path / "a.exr")


@pytest.mark.parametrize("suffix", ["exr", "png", "tif"])
def test_a_pointer_of_git_lfs_is_called_so(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ReconError, match="it is a pointer of Git LFS, not the file"):
        read_picture(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("cut", [9, 20, 60, 300])
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_files_that_end_anywhere_are_one_line(tmp_path: Path, suffix: str, cut: int) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ReconError, match="not a readable picture"):
        read_picture(path)


# Masks

DISC = (np.hypot(*(np.mgrid[:20, :24] - 10)) < 6).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_mask_may_lie_in_the_opacity(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    opacity = 255 * DISC
    white, photo = (
        np.full((20, 24, 3), 255, np.uint8),
        np.random.default_rng(0).integers(60, 255, (20, 24, 3), np.uint8),
    )
    for color in (white, 0 * white, photo, white * DISC[..., None]):
        Image.fromarray(np.dstack([color, opacity])).save(path)
        assert np.array_equal(read_mask(path), DISC > 0)
    Image.fromarray(np.dstack([white * DISC[..., None], np.full_like(opacity, 255)])).save(path)
    assert np.array_equal(read_mask(path), DISC > 0)
    Image.fromarray(np.dstack([255 * np.roll(DISC, 4, axis=1)[..., None] * np.ones(3, np.uint8), opacity])).save(path)
    with pytest.raises(ReconError, match="brightness and opacity mark different pixels"):
        read_mask(path)
    Image.fromarray(np.dstack([white, 0 * opacity])).save(path)
    with pytest.raises(ReconError, match="the mask is empty"):
        read_mask(path)


def test_grey_masks_with_opacity(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([np.full_like(DISC, 255), 255 * DISC])).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), DISC > 0)


def test_labels_are_no_mask(tmp_path: Path) -> None:
    """Half of the brightest label would silently leave out the others."""
    imageio.imwrite(tmp_path / "m.png", DISC)
    assert np.array_equal(read_mask(tmp_path / "m.png"), DISC > 0)
    imageio.imwrite(tmp_path / "l.png", DISC + np.roll(DISC, 3, axis=0) * 3)
    with pytest.raises(ReconError, match="l.png: has the levels 0, 1, 3, 4: labels, or nearly black; expected black"):
        read_mask(tmp_path / "l.png")

"""Raw files and HEIC: linear, one development for a set, and one line where a package is missing."""

import builtins
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recon.errors import ReconError
from recon.images.photograph import read_picture
from recon.images.raw import development

BLACK, WHITE = 256, 4095


def dng(path: Path, sensor: np.ndarray, neutral: tuple[int, int, int] = (1000, 1000, 1000), black: int = BLACK) -> Path:
    """A mosaic of red, green, green, blue as a minimal DNG 1.4, of a camera whose primaries are sRGB's."""
    rows, columns = sensor.shape
    # XYZ to the camera's RGB: the inverse of sRGB's matrix.
    matrix = [3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570]
    rational = [part for value in matrix for part in (round(value * 10000), 10000)]
    entries: list[tuple[int, int, bytes]] = [
        (254, 4, struct.pack("<I", 0)),
        (256, 4, struct.pack("<I", columns)),
        (257, 4, struct.pack("<I", rows)),
        (258, 3, struct.pack("<H", 16)),
        (259, 3, struct.pack("<H", 1)),
        (262, 3, struct.pack("<H", 32803)),
        (271, 2, b"Maker\0"),
        (272, 2, b"Camera\0"),
        (273, 4, b"\0\0\0\0"),
        (274, 3, struct.pack("<H", 1)),
        (277, 3, struct.pack("<H", 1)),
        (278, 4, struct.pack("<I", rows)),
        (279, 4, struct.pack("<I", 2 * rows * columns)),
        (33421, 3, struct.pack("<2H", 2, 2)),
        (33422, 1, bytes([0, 1, 1, 2])),
        (50706, 1, bytes([1, 4, 0, 0])),
        (50708, 2, b"Maker Camera\0"),
        (50714, 4, struct.pack("<I", black)),
        (50717, 4, struct.pack("<I", WHITE)),
        (50721, 10, struct.pack("<18i", *rational)),
        (50728, 5, struct.pack("<6I", *(part for value in neutral for part in (value, 1000)))),
        (50778, 3, struct.pack("<H", 21)),
    ]
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}
    start = 8 + 2 + 12 * len(entries) + 4
    tail, directory = b"", struct.pack("<H", len(entries))
    for tag, kind, content in entries:
        if tag == 273:
            tail_place = len(directory)
            directory += struct.pack("<HHI", tag, kind, 1) + b"\0\0\0\0"
            continue
        count = len(content) // sizes[kind]
        if len(content) <= 4:
            directory += struct.pack("<HHI", tag, kind, count) + content.ljust(4, b"\0")
        else:
            directory += struct.pack("<HHII", tag, kind, count, start + len(tail))
            tail += content + b"\0" * (len(content) % 2)
    strip = start + len(tail)
    directory = directory[: tail_place + 8] + struct.pack("<I", strip) + directory[tail_place + 12 :]
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + b"\0\0\0\0" + tail + sensor.astype("<u2").tobytes())
    return path


def exposed(share: float, size: int = 64) -> np.ndarray:
    """A sensor that saw grey."""
    return np.full((size, size), BLACK + round(share * (WHITE - BLACK)), np.uint16)


def test_a_raw_file_is_linear_above_its_black_level(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    levels = []
    for i, share in enumerate((0.0, 0.1, 0.2, 0.4)):
        picture = read_picture(dng(tmp_path / f"{i}.DNG", exposed(share)))
        assert picture.color.shape == (64, 64, 3) and picture.alpha is None and not picture.assumed
        levels.append(float(picture.color[16:48, 16:48, 1].mean()))
    assert levels[0] == pytest.approx(0, abs=1e-3)
    assert np.allclose(np.array(levels[1:]) / levels[1], [1, 2, 4], rtol=0.01)


def test_brightness_does_not_depend_on_what_else_a_photograph_shows(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    sensor = exposed(0.1)
    plain = read_picture(dng(tmp_path / "a.dng", sensor)).color[20, 20]
    sensor[40:, 40:] = WHITE
    assert np.allclose(read_picture(dng(tmp_path / "b.dng", sensor)).color[20, 20], plain, rtol=1e-3)


def test_one_white_balance_and_black_level_hold_for_all(tmp_path: Path) -> None:
    """The second camera chose another balance and black level by itself; the sensor saw the same."""
    pytest.importorskip("rawpy")
    first = dng(tmp_path / "a.dng", exposed(0.2))
    second = dng(tmp_path / "b.dng", exposed(0.2), neutral=(500, 1000, 700), black=200)
    how = development([tmp_path / "x.jpg", first, second])
    assert how is not None and how.black[0] == BLACK and how.white == WHITE
    pictures = [read_picture(path, None, how).color[16:48, 16:48].mean(axis=(0, 1)) for path in (first, second)]
    assert np.allclose(pictures[0], pictures[1], rtol=1e-3)
    own = read_picture(second).color[16:48, 16:48].mean(axis=(0, 1))
    assert not np.allclose(own, pictures[0], rtol=0.01)


def test_what_is_no_raw_file(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    (tmp_path / "a.cr2").write_bytes(b"II*\0 nothing")
    with pytest.raises(ReconError, match="a.cr2: not a readable raw file"):
        read_picture(tmp_path / "a.cr2")
    assert development([tmp_path / "a.jpg"]) is None


def test_heic_is_read_as_jpeg_is(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(tmp_path / "a.HEIC", quality=95)
    assert np.allclose(read_picture(tmp_path / "a.HEIC").color, 0.2159, atol=0.01)
    (tmp_path / "b.heic").write_bytes(b"nothing")
    with pytest.raises(ReconError, match="b.heic: not a readable picture"):
        read_picture(tmp_path / "b.heic")


@pytest.mark.parametrize(("name", "package", "extra"), [("a.NEF", "rawpy", "raw"), ("a.heic", "pillow_heif", "heic")])
def test_missing_packages_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    real = builtins.__import__

    def fails(wanted: str, *rest: Any, **more: Any) -> Any:
        if wanted == package:
            raise ImportError(wanted)
        return real(wanted, *rest, **more)

    (tmp_path / name).write_bytes(io.BytesIO(b"some bytes").read())
    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(ReconError, match=rf"{name}: .* pip install -e '\.\[{extra}\]'"):
        read_picture(tmp_path / name)

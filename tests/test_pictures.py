from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest

from recon.errors import ReconError
from recon.images.pictures import srgb, tone_map, write_picture


def grey(*values: float) -> np.ndarray:
    return np.repeat(np.array(values, dtype=np.float32)[:, None], 3, axis=1)


@pytest.mark.parametrize("tone", ["clamp", "scale"])
@pytest.mark.parametrize(("bits", "white"), [(8, 255), (16, 65535)])
def test_an_overshoot_is_white_and_never_black(tone: str, bits: int, white: int) -> None:
    picture = tone_map(grey(1.3, 0.5, 0), tone, bits)
    assert picture[0].tolist() == [white] * 3
    assert picture[2].tolist() == [0] * 3
    assert 0 < picture[1, 0] < white


def test_clamp_keeps_what_is_in_range_and_scale_keeps_ratios() -> None:
    radiance = grey(2.0, 1.0, 0.5)
    assert (tone_map(radiance, "clamp")[1:] == tone_map(grey(1.0, 0.5))).all()
    assert (tone_map(radiance, "scale") == tone_map(grey(1.0, 0.5, 0.25))).all()


def test_scale_never_brightens() -> None:
    assert (tone_map(grey(0.2, 0.1), "scale") == tone_map(grey(0.2, 0.1))).all()


@pytest.mark.parametrize("tone", ["clamp", "scale"])
def test_what_is_no_number_is_black_and_spoils_nothing_else(tone: str) -> None:
    picture = tone_map(grey(np.nan, np.inf, -np.inf, -1, 0.5), tone)
    assert picture[:, 0].tolist() == [0, 255, 0, 0, tone_map(grey(0.5))[0, 0]]


def test_values_are_srgb() -> None:
    # Mid-grey of sRGB, 128, is 21.6% of the light; values of IEC 61966-2-1.
    assert srgb(np.array([0.0, 0.0031308, 0.2158605, 1.0])) == pytest.approx([0, 0.0404499, 128 / 255, 1], abs=1e-6)
    assert tone_map(grey(0.2158605))[0, 0] == 128


@pytest.mark.parametrize("bits", [8, 16])
def test_pictures_come_back_as_written(tmp_path: Path, bits: int) -> None:
    picture = tone_map(np.random.default_rng(0).random((5, 7, 3)), bits=bits)
    write_picture(picture, tmp_path / "a.png")
    back = imageio.imread(tmp_path / "a.png", plugin="opencv", flags=cv2.IMREAD_UNCHANGED)
    assert back.dtype == picture.dtype
    assert (back == picture).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReconError, match="file/a.png: cannot be written"):
        write_picture(np.zeros((2, 2, 3), np.uint8), tmp_path / "file" / "a.png")

"""All views of a set in one picture, so that a page scrubs through them without loading."""

import re
from collections.abc import Mapping
from math import ceil, sqrt
from pathlib import Path
from typing import NamedTuple

import cv2
import imageio.v3 as imageio
import numpy as np
from jaxtyping import UInt8

from recon.errors import ReconError
from recon.evaluation.gallery import KINDS

NAME = re.compile(rf"(\d+)_({'|'.join(KINDS)})\.png")
LOSSLESS = 100
QUALITIES = (LOSSLESS, 95, 82)
"""Of WebP, from what shows every pixel as it is to a fifth of that size with no loss that meets the eye."""


class SpriteSheet(NamedTuple):
    """Tiles of `height` x `width` pixels in rows of `columns`, WebP."""

    encoded: bytes
    views: int
    columns: int
    height: int
    width: int


def gallery_files(folder: Path) -> dict[str, list[Path]]:
    """The pictures in a folder that `recon validate` wrote, by kind and in the order of the views."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)):
        if match := NAME.fullmatch(path.name):
            found.setdefault(match[2], []).append(path)
    return {kind: found[kind] for kind in KINDS if kind in found}


def view_of(path: Path) -> int:
    """The number of the view that a picture of a gallery shows."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def sprite_sheets(
    files: Mapping[str, list[Path]], largest: int, quality: int = QUALITIES[-1]
) -> dict[str, SpriteSheet]:
    """One sprite sheet for each kind; tiles are at most `largest` pixels on a side.

    Raises:
        ReconError: a picture cannot be read, or differs in size from the others.
    """
    return {kind: _sprite_sheet(paths, largest, quality) for kind, paths in files.items()}


def _sprite_sheet(paths: list[Path], largest: int, quality: int) -> SpriteSheet:
    tiles = [_tile(path, largest) for path in paths]
    height, width = tiles[0].shape[:2]
    for path, tile in zip(paths, tiles, strict=True):
        if tile.shape != tiles[0].shape:
            raise ReconError(f"{path}: {tile.shape[1]} x {tile.shape[0]} pixels, others of its set have another size")
    columns = ceil(sqrt(len(tiles)))
    rows = ceil(len(tiles) / columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    return SpriteSheet(webp(sheet, quality), len(tiles), columns, height, width)


def webp(picture: UInt8[np.ndarray, "h w c"], quality: int = QUALITIES[-1]) -> bytes:
    """The picture as WebP, of `LOSSLESS` quality or below."""
    if quality == LOSSLESS:
        # Here quality is the effort of the search, not the fidelity.
        return imageio.imwrite("<bytes>", picture, extension=".webp", lossless=True, quality=60, method=4)
    return imageio.imwrite("<bytes>", picture, extension=".webp", quality=quality, method=4)


def read_picture(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """An 8-bit picture without its opacity.

    Raises:
        ReconError: it cannot be read.
    """
    try:
        return imageio.imread(path, plugin="pillow", mode="RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise ReconError(f"{path}: not a readable picture: {' '.join(str(error).split())}") from error


def _tile(path: Path, largest: int) -> UInt8[np.ndarray, "h w 3"]:
    picture = read_picture(path)
    shrink = largest / max(picture.shape[:2])
    if shrink >= 1:
        return picture
    size = max(1, round(picture.shape[1] * shrink)), max(1, round(picture.shape[0] * shrink))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)

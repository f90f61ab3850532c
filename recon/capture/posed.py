"""Photographs whose cameras a file of another program lists: what these programs have in common."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from recon.capture.framing import Points, Wishes, framed
from recon.capture.notes import merged
from recon.capture.photographs import Photo, Shot, like_picture, picture_notes, upright
from recon.capture.provenance import provenance
from recon.errors import ReconError
from recon.images.photograph import SUFFIXES, ColorSpace, read_mask, read_picture
from recon.images.raw import Development, development
from recon.views import Views

INSPECTION = ".inspection.png"
"""How the pictures of `recon inspect` end, which lie beside what they are of."""


class Posed(NamedTuple):
    """A photograph that has not been read, with its camera.

    Attributes:
        name: what lines to people call it.
        pose: camera-to-world in the source's frame; OpenCV axes.
        intrinsics: in pixels; the centre of the first pixel lies at (0.5, 0.5).
        size: height and width that the camera has; None where the source does not say it.
        distortion: OpenCV's coefficients; None: a pinhole.
        fisheye: the coefficients are the four of OpenCV's fisheye model.
    """

    name: str
    picture: Path
    mask: Path | None
    pose: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    size: tuple[int, int] | None = None
    distortion: Float[np.ndarray, " k"] | None = None
    fisheye: bool = False


def views_from_posed(
    posed: Sequence[Posed],
    source: Path,
    set_name: str,
    wishes: Wishes,
    *,
    missing: str,
    listing: Iterable[Path],
    settings: dict[str, Any],
    packages: Sequence[str] = (),
    notes: Sequence[str] = (),
    points: Points | None = None,
) -> Views:
    """The viewpoint set of photographs with cameras.

    Args:
        source: what errors and provenance call all of them together.
        missing: what is said of a photograph without a mask among others that have one.
        listing: the files that list the cameras.
        settings: for the metadata.
        packages: that read the cameras.
        notes: on the source.

    Raises:
        ReconError: a photograph or mask is missing, broken or of another size than its camera; and as `framed`.
    """
    colors = wishes.color_space, development(each.picture for each in posed)
    shots = [Shot(each.picture, f"{source}: {each.name}", partial(_read, each, colors, str(source))) for each in posed]
    found = framed(shots, missing, str(source), wishes, points)
    names = [posed[i].name for i in found.shown]
    sized = all(each.size is not None for each in posed)
    lines = [*notes, *picture_notes(str(source), found.photos, names, sized=sized), *found.notes]
    files = [file for each in posed for file in (each.picture, each.mask) if file is not None]
    tools = (*packages, "OpenEXR", "imageio", "opencv-python-headless")
    settings = settings | {"images": [posed[i].picture.name for i in found.shown]} | found.settings
    return found.views(provenance(set_name, source.resolve(), [*listing, *files], settings, tools, merged(lines)))


def _read(posed: Posed, colors: tuple[ColorSpace | None, Development | None], source: str) -> Photo:
    stored = read_picture(posed.picture, *colors)
    height, width = (None, None) if posed.size is None else posed.size
    picture = upright(stored, width, height)
    outline = None if posed.mask is None else like_picture(read_mask(posed.mask), picture, stored)
    expected = posed.size or picture.color.shape[:2]
    for path, found in (
        (posed.picture, picture.color.shape[:2]),
        (posed.mask, None if outline is None else outline.shape),
    ):
        if found is not None and tuple(found) != tuple(expected):
            raise ReconError(
                f"{source}: {posed.name}: {path} has {found[1]}x{found[0]} pixels, expected the camera's "
                f"{expected[1]}x{expected[0]}"
            )
    return Photo(
        picture,
        outline,
        posed.pose,
        posed.intrinsics,
        distortion=posed.distortion,
        fisheye=posed.fisheye,
        turned=picture is not stored,
    )


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, by name; none where there is no such folder."""
    return sorted(filter(is_picture, folder.iterdir())) if folder.is_dir() else []


def is_picture(path: Path) -> bool:
    """Whether a file is called like a picture, and is neither hidden, such as what macOS puts beside each file on a
    foreign disk, nor what `recon inspect` draws."""
    ours = path.name.startswith(".") or path.name.endswith(INSPECTION)
    return path.suffix.lower() in SUFFIXES and not ours and path.is_file()


def by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their names without suffix."""
    return {path.stem: path for path in pictures_in(folder)}


def unused_masks(folder: Path) -> Path | None:
    """A folder of masks that nothing refers to."""
    for each in sorted(folder.iterdir()):
        named = each.name.lower() in ("mask", "masks") and each.is_dir()
        if named and pictures_in(each):
            return each
    return None

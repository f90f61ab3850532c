"""Frames as they leave: pictures in a folder, or a film."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from recon.errors import ReconError
from recon.files import atomic, writable_folder, writing
from recon.images.pictures import tone_map, write_picture

FILMS = (".mp4", ".gif")
"""Suffixes of films; anything else is a folder."""

OTHERS = (".png", ".jpg", ".jpeg", ".exr", ".hdr", ".mov", ".mkv", ".webm", ".avi")
"""Suffixes that nobody gives a folder."""

FRAME = re.compile(r"\d{4,}\.(png|exr)")
"""Names of the pictures in a folder."""


@runtime_checkable
class Sink(Protocol):
    """What takes frames, one after the other."""

    def __call__(self, shown: UInt8[np.ndarray, "h w 3"], linear: Float32[np.ndarray, "h w 4"], /) -> None:
        """`shown`: sRGB; `linear`: radiance and alpha of the same picture."""


@contextmanager
def frames_to(out: Path, rate: float, linear: bool) -> Iterator[Sink]:
    """What takes the frames of `out`, which appears whole or not at all when all of them are there.

    Args:
        out: with a suffix of `FILMS` a film; else a folder, of which pictures of an earlier call are replaced.
        rate: frames a second of a film.
        linear: also write each picture of a folder as EXR, 32 bits, colours multiplied by alpha as EXR has them.

    Raises:
        ReconError: it cannot be written; an .mp4, and the package that writes it is missing.
    """
    suffix = out.suffix.lower()
    if suffix not in FILMS:
        with _folder(out, linear) as sink:
            yield sink
    elif suffix == ".mp4":
        with atomic(out) as temporary, _mp4(temporary, rate) as sink:
            yield sink
    else:
        with _gif(out, rate) as sink:
            yield sink


def check_out(out: Path, size: tuple[int, int], linear: bool) -> None:
    """Raise `ReconError` where a film cannot hold such frames, before any is rendered.

    `size` is width and height in pixels.
    """
    suffix = out.suffix.lower()
    film = suffix in FILMS
    if suffix in OTHERS and not out.is_dir():
        raise ReconError(f"{out}: expected a folder, or the name of a film ({', '.join(FILMS)})")
    if film and linear:
        raise ReconError(f"--linear: {out} is a film, which has no radiance; expected a folder")
    if film and out.is_dir():
        raise ReconError(f"{out}: is a folder; expected the name of a film")
    if not film and out.is_file():
        raise ReconError(f"{out}: is a file; expected a folder, or the name of a film ({', '.join(FILMS)})")
    if suffix == ".mp4":
        _ffmpeg()
        if size[0] % 2 or size[1] % 2:
            raise ReconError(f"{out}: frames of {size[0]}x{size[1]} pixels; an .mp4 needs even numbers: --size")


@contextmanager
def _folder(out: Path, linear: bool) -> Iterator[Sink]:
    """Pictures are written beside the folder first, and moved when all are there."""
    writable_folder(out if out.exists() else out.parent)
    with tempfile.TemporaryDirectory(prefix=f".{out.name[:100]}.", dir=out.parent) as aside:
        names: list[str] = []

        def take(shown: UInt8[np.ndarray, "h w 3"], radiance: Float32[np.ndarray, "h w 4"]) -> None:
            name = f"{len(names):04d}"
            names.append(name)
            write_picture(shown, Path(aside) / f"{name}.png")
            if linear:
                write_exr(radiance, Path(aside) / f"{name}.exr")

        yield take
        with writing(out):
            out.mkdir(exist_ok=True)
            for old in out.iterdir():
                if FRAME.fullmatch(old.name):
                    old.unlink()
            for new in sorted(Path(aside).iterdir()):
                os.replace(new, out / new.name)


@contextmanager
def _mp4(path: Path, rate: float) -> Iterator[Sink]:
    """H.264, which every browser and player shows."""
    _ffmpeg()
    import imageio.v2 as imageio

    writer = imageio.get_writer(
        path, format="FFMPEG", fps=rate, codec="libx264", quality=8, macro_block_size=2, ffmpeg_log_level="error"
    )
    with ExitStack() as stack:
        stack.callback(writer.close)
        yield lambda shown, radiance: writer.append_data(shown)


@contextmanager
def _gif(out: Path, rate: float) -> Iterator[Sink]:
    """Pillow wants all frames in one call; they wait on the disk."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as aside:
        paths: list[Path] = []

        def take(shown: UInt8[np.ndarray, "h w 3"], radiance: Float32[np.ndarray, "h w 4"]) -> None:
            paths.append(Path(aside) / f"{len(paths)}.png")
            write_picture(shown, paths[-1])

        yield take
        with atomic(out) as temporary, Image.open(paths[0]) as first:
            rest: Any = (Image.open(path) for path in paths[1:])
            first.save(temporary, save_all=True, append_images=rest, duration=round(1000 / rate), loop=0)


def write_exr(picture: Float32[np.ndarray, "h w 4"], path: Path) -> None:
    """Linear radiance and alpha, 32 bits, whole or not at all."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with atomic(path) as temporary, OpenEXR.File(header, {"RGBA": np.ascontiguousarray(picture)}) as file:
        file.write(str(temporary))


def shown(picture: Float32[np.ndarray, "h w 4"], gain: float) -> UInt8[np.ndarray, "h w 3"]:
    """Radiance times `gain` as sRGB; what is brighter than white is white."""
    return tone_map(picture[..., :3] * np.float32(gain)).astype(np.uint8)


def _ffmpeg() -> None:
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        raise ReconError("an .mp4 needs imageio-ffmpeg: pip install -e '.[video]' in recon's checkout") from None

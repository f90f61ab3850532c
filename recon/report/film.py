"""A turning reconstruction in the page: the GIF of a validation as a small animated WebP."""

import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence

from recon.errors import ReconError
from recon.report.payload import Payload

LARGEST = 240
"""Pixels of a side."""

QUALITY = 70
"""Of WebP: some thousand bytes a frame."""

MOST_FRAMES = 200


def film(payload: Payload, path: Path) -> dict[str, Any]:
    """The key of the film in the page, and its size.

    Raises:
        ReconError: it cannot be read.
    """
    try:
        with Image.open(path, formats=["GIF"]) as gif:
            shown = gif.info.get("duration", 100)
            frames = [_frame(each) for each, _ in zip(ImageSequence.Iterator(gif), range(MOST_FRAMES), strict=False)]
    except (OSError, ValueError, SyntaxError) as error:
        raise ReconError(f"{path}: not a readable film: {' '.join(str(error).split())}") from error
    encoded = io.BytesIO()
    frames[0].save(
        encoded, "WEBP", save_all=True, append_images=frames[1:], duration=shown, loop=0, quality=QUALITY, method=4
    )
    width, height = frames[0].size
    return {"key": payload.picture(encoded.getvalue()), "width": width, "height": height}


def _frame(image: Image.Image) -> Image.Image:
    frame = image.convert("RGB")
    frame.thumbnail((LARGEST, LARGEST))
    return frame

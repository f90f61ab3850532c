"""Pictures of a run's object from any camera in any light."""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from recon.camera import Cameras
from recon.errors import ReconError
from recon.model.file import finite_mesh, load_model
from recon.model.model import Model
from recon.relighting.exposure import metered_gain
from recon.relighting.film import check_out, frames_to, shown
from recon.relighting.lights import CAMERA, Point, create_light
from recon.relighting.paths import cameras_along
from recon.relighting.picture import Studio
from recon.run_folder import MODEL, RunFolder
from recon.training.progress_line import ProgressLine, clock

BAR = 24
"""Characters of the progress bar."""

Backdrop = Literal["black", "environment", "run"]


@dataclass(frozen=True)
class Options:
    """How pictures are made.

    Attributes:
        size: width and height in pixels; None: those of the path.
        level: of the icosphere; None: the run's finest.
        frames: see `cameras_along`.
        samples: directions drawn from an environment.
        intensity: of the light, see `create_light`.
        stops: by which radiance is brightened, in powers of two, where 0 is as trained; None: as metered.
        backdrop: what is behind the object: black, the environment that lights it, or what the run learned.
        linear: also write the radiance, as EXR, in the source's unit.
        rate: frames a second of a film.
        quiet: no progress line.
    """

    size: tuple[int, int] | None = None
    level: int | None = None
    frames: int | None = None
    samples: int = 256
    intensity: float = 1.0
    stops: float | None = None
    backdrop: Backdrop = "black"
    linear: bool = False
    rate: float = 24.0
    quiet: bool = False


def relight(run: Path, path: str | Path, light: str | Point | Path, out: Path, options: Options) -> None:
    """Render the object of `run` along a path of cameras in a light, and write the frames to `out`.

    Args:
        path: `TURNTABLE`, or a viewpoint set or keyframes (see `cameras_along`).
        light: from `parse_light`.
        out: a folder of pictures (0000.png …), or a film, by its suffix.

    Raises:
        ReconError: run, path or environment cannot be read; a light or a camera is inside the object; the backdrop is
            not there; `out` cannot be written.
    """
    model = load_model(run).to("cuda" if torch.cuda.is_available() else "cpu")
    _check_backdrop(options.backdrop, light, model, run)
    mesh = finite_mesh(model, run, model.export_level if options.level is None else options.level)
    cameras = cameras_along(path, model, mesh, options.size, options.frames)
    check_out(out, (cameras.width, cameras.height), options.linear)
    studio = Studio(model, mesh, create_light(light, model, mesh, options.intensity, options.samples), options.backdrop)
    gain = metered_gain(studio, cameras) if options.stops is None else 2.0**options.stops
    with closing(ProgressLine(quiet=options.quiet)) as line:
        _shoot(studio, cameras, out, gain, model.radiance_scale, options, line)


def _shoot(
    studio: Studio,
    cameras: Cameras,
    out: Path,
    gain: float,
    radiance_scale: float,
    options: Options,
    line: ProgressLine,
) -> None:
    """Frames one by one, each gone before the next."""
    started, count = time.monotonic(), len(cameras)
    with frames_to(out, options.rate, options.linear) as take:
        for i in range(count):
            picture = studio.picture(cameras[[i]])
            in_source = np.concatenate([picture[..., :3] * np.float32(radiance_scale), picture[..., 3:]], axis=2)
            take(shown(picture, gain), in_source)
            left = (time.monotonic() - started) / (i + 1) * (count - i - 1)
            line.show((i + 1) / count, f"{_bar((i + 1) / count)}  frame {i + 1} of {count}  {clock(left)} left")


def _bar(fraction: float) -> str:
    done = round(BAR * fraction)
    return "█" * done + "░" * (BAR - done)


def _check_backdrop(backdrop: Backdrop, light: str | Point | Path, model: Model, run: Path) -> None:
    if backdrop == "environment" and not isinstance(light, Path):
        raise ReconError("--backdrop environment: the light is none; expected --light ENVIRONMENT")
    if backdrop != "run":
        return
    if not isinstance(light, str):
        raise ReconError(f"--backdrop run: is lit by the flash; expected --light {CAMERA}")
    if model.config.background not in ("constant", "field"):
        file = RunFolder(run).file(MODEL)
        raise ReconError(f"--backdrop run: {file} has learned none (background: {model.config.background})")

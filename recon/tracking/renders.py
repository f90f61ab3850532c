"""Renders at checkpoints: PNG files in the run's folder, and from there in MLflow's image browser."""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as imageio
import numpy as np
from jaxtyping import UInt8

from recon.files import atomic

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = Path("checkpoints") / "renders"


class Renders:
    """What the store has not got of the renders of the run in the folder `out`."""

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._stored: set[tuple[str, int]] = set()
        self._unsure = False

    def keep(self, name: str, image: UInt8[np.ndarray, "h w 3"], step: int) -> Path:
        """Write the picture, whole or not at all.

        Raises:
            ReconError: the folder cannot be written.
        """
        path = self._folder / name.replace("/", "~") / f"{step:07d}.png"
        with atomic(path) as temporary:
            imageio.imwrite(temporary, image, extension=".png")
        return path

    def kept(self, last_step: int | None = None) -> list[Path]:
        """The pictures of the folder in their order, up to the iteration `last_step` or all."""
        files = [path for path in self._folder.glob("*/*.png") if path.stem.isdecimal()]
        chosen = [path for path in files if last_step is None or int(path.stem) <= last_step]
        return sorted(chosen, key=lambda path: (int(path.stem), path))

    def learn(self, client: "MlflowClient", run_id: str) -> None:
        """Ask the store which pictures it has whole: the small copy of each is sent last."""
        names = [Path(file.path).name for file in client.list_artifacts(run_id, "images")]
        self._stored |= {found for name in names if "compressed" in name and (found := _key_and_step(name))}

    def send(self, client: "MlflowClient", run_id: str, path: Path) -> int:
        """Send a picture that the store has not got; returns how many were sent."""
        name, step = path.parent.name.replace("~", "/"), int(path.stem)
        if self._unsure:  # the store may have taken the last one, and only its answer been lost
            self.learn(client, run_id)
            self._unsure = False
        if (name, step) in self._stored or not path.exists():
            return 0
        image, time = imageio.imread(path), round(1000 * path.stat().st_mtime)
        self._unsure = True
        client.log_image(run_id, image, key=name, step=step, timestamp=time, synchronous=True)
        self._stored.add((name, step))
        self._unsure = False
        return 1


def forget_renders(out: Path) -> None:
    """Remove the pictures of an earlier training in the folder `out`."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def _key_and_step(file: str) -> tuple[str, int] | None:
    """Of the name that MLflow gives the file of an image, in any of its versions."""
    parts = re.split("[+%]", file)
    if len(parts) < 3 or parts[1] != "step" or not parts[2].isdecimal():
        return None
    return re.sub("[~#]", "/", parts[0]), int(parts[2])

"""What is kept of a run while it goes: the two tables, renders, the live line, weights."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn.functional import interpolate

from recon.background.visual_hull import shrunk as looked_at
from recon.camera import Cameras
from recon.errors import ReconError
from recon.images.gains import fitted_gains
from recon.images.metrics import image_metrics
from recon.images.pictures import tone_map
from recon.model.file import save_model
from recon.model.model import Model
from recon.model.snapshot import write_snapshot
from recon.run_folder import CHECKS, HISTORY, RunFile, RunFolder
from recon.tracking.record import now
from recon.training.history import History
from recon.training.loop import Step
from recon.training.progress_line import ProgressLine
from recon.training.schedule import Progress
from recon.views import Views

CHECKPOINT_VIEWS = 8
"""Views of each set that a checkpoint renders, evenly spread; `recon validate` measures all of them."""

PICTURE_VIEWS = 4


class Recorder:
    """Records a run in its folder, from the beginning or from where `state_dict` was called.

    Attributes:
        line: what a person sees of it meanwhile.
        latest: error of each viewpoint set at the last checkpoint.
    """

    def __init__(
        self,
        model: Model,
        sets: Mapping[str, Views],
        progress: Progress,
        out: Path,
        line: ProgressLine,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        state = state or {"history_rows": 0, "validation_rows": 0, "checkpoints": 0, "latest": {}}
        self.latest: dict[str, float] = dict(state["latest"])
        self._done: int = state["checkpoints"]
        self._model = model
        self._sets = sets
        self._progress = progress
        self._run = run = RunFolder(out)
        self._history = _table(run, HISTORY, state["history_rows"])
        self._validation = _table(run, CHECKS, state["validation_rows"])
        self.line = line

    @property
    def checkpoint_due(self) -> bool:
        """Whether it is time to measure the viewpoint sets."""
        return int(self._progress.fraction * self._model.config.train.checkpoints) > self._done

    def step(self, step: Step) -> None:
        """Record an iteration."""
        self._history.append(
            {
                "iteration": step.iteration,
                "time": now(),
                "seconds": f"{step.seconds:.3f}",
                "level": step.level,
                "learning_rate": f"{step.learning_rate:.9g}",
                **{name: f"{value:.9g}" for name, value in {"loss": step.loss, **step.terms}.items()},
            }
        )
        progress = self._progress
        self.line.update(progress.fraction, step.iteration, step.loss, step.level, progress.seconds_left)

    @torch.no_grad()
    def checkpoint(self, between: Callable[[], None]) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        """Validate, and keep weights and shape. `between` is called before each set and may raise there.

        Returns:
            A picture of each viewpoint set.
        """
        iteration = self._progress.iteration
        mesh = self._model.mesh(self._model.export_level)
        found: dict[str, tuple[float, np.ndarray]] = {}
        for name, views in self._sets.items():
            between()
            cameras = self._model.poses.corrected(Cameras.from_views(views).to(self._model.device))
            given = None if views.backgrounds is None else torch.from_numpy(views.backgrounds).to(cameras.centers)
            prediction = self._model.render(mesh, cameras, given).radiance.cpu()
            known = None if views.known is None else torch.from_numpy(views.known) > 0
            if self._model.config.light.strength:
                gains = fitted_gains(prediction, torch.from_numpy(views.images), known)
                prediction = gains[:, None, None] * prediction
            metrics = image_metrics(prediction, torch.from_numpy(views.images), known)
            found[name] = metrics["mean_absolute_error"].mean().item(), pairs(views, prediction.numpy())
        for name, (error, _) in found.items():
            self.latest[name] = error
            self._validation.append(
                {
                    "iteration": iteration,
                    "time": now(),
                    "seconds": f"{self._progress.seconds:.3f}",
                    "set": name,
                    "mean_absolute_error": f"{error:.9g}",
                }
            )
        save_model(self._model, self._run.checkpoint_model)
        write_snapshot(self._model, self._run.snapshot(iteration), iteration)
        self._done = int(self._progress.fraction * self._model.config.train.checkpoints)
        return {name: picture for name, (_, picture) in found.items()}

    def save(self) -> None:
        """Make the tables durable."""
        self._history.save()
        self._validation.save()

    def state_dict(self) -> dict[str, Any]:
        """How much of the tables belongs to this moment."""
        return {
            "history_rows": self._history.rows,
            "validation_rows": self._validation.rows,
            "checkpoints": self._done,
            "latest": self.latest,
        }

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # What ended the run has to be told; that the tables were left unfinished by it has not.
        with nullcontext() if kind is None else suppress(ReconError):
            self._history.close()
            self._validation.close()


def _table(run: RunFolder, which: RunFile, rows: int) -> History:
    """A table that grows among the side files, and is published in the folder of the run."""
    return History(run.checkpoints / which.name, run.file(which), rows)


def pairs(views: Views, prediction: np.ndarray) -> np.ndarray:
    """Ground truth above prediction for a few views, as an 8-bit picture."""
    chosen = np.linspace(0, len(views) - 1, min(PICTURE_VIEWS, len(views))).round().astype(int)
    rows = [np.concatenate(list(images[chosen]), axis=1) for images in (views.images, prediction)]
    return tone_map(np.concatenate(rows))


def thinned(views: Views) -> Views:
    """At most `CHECKPOINT_VIEWS` of the views, evenly spread."""
    chosen = np.linspace(0, len(views) - 1, min(CHECKPOINT_VIEWS, len(views))).round().astype(int)
    return views.select(chosen)


def shrunk(views: Views) -> Views:
    """The views as small as looks for the object are at them: a field is rendered in every pixel of a checkpoint, of
    views of 512 pixels for a minute."""
    known = None if views.known is None else torch.from_numpy(views.known).float() / 255
    cameras, images, known = looked_at(Cameras.from_views(views, torch.float64), torch.from_numpy(views.images), known)
    size = cameras.height, cameras.width
    if size == (views.height, views.width):
        return views
    masks = None
    if views.masks is not None:
        masks = interpolate(torch.from_numpy(views.masks)[:, None].float(), size=size, mode="area")[:, 0]
    return replace(
        views,
        images=images.numpy(),
        intrinsics=cameras.intrinsics.numpy(),
        masks=None if masks is None else masks.round().byte().numpy(),
        known=None if known is None else (255 * known).byte().numpy(),
        backgrounds=None,
        albedo=None,
        roughness=None,
    )

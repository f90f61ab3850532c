"""One training run, from viewpoint sets to the files and the MLflow run that it leaves."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from recon.camera import Cameras
from recon.config import RunConfig, flatten, save_config
from recon.errors import ReconError
from recon.evaluation.image_metrics import image_metrics
from recon.evaluation.pictures import tone_map
from recon.files import atomic, writable_folder
from recon.render.pytorch3d import require_pytorch3d
from recon.surface.model import Model
from recon.tracking import Tracker, start_run, tracking_uri
from recon.training.checkpoint import save_model
from recon.training.data import TrainingData, before_black
from recon.training.export import write_meshes
from recon.training.history import History
from recon.training.initialise import initial_model
from recon.training.loop import Step, fit
from recon.training.progress_line import ProgressLine, clock, panel
from recon.training.schedule import Progress
from recon.training.snapshot import write_snapshot
from recon.views import Views, load_views

CHECKPOINT_VIEWS = 8
"""Views of each set that a checkpoint renders, evenly spread; `recon validate` measures all of them."""

PICTURE_VIEWS = 4


def train(
    views: Path,
    config: RunConfig,
    out: Path,
    validation: Mapping[str, Path] | None = None,
    max_minutes: float | None = None,
    quiet: bool = False,
    name: str | None = None,
) -> None:
    """Train on the viewpoint set `views` and leave a run folder (DESIGN: stages, files) at `out`.

    `max_minutes` bounds the schedule by wall clock instead of `train.iterations`. Writing the meshes
    comes after it and takes seconds.

    Raises:
        ReconError: an input is bad, `out` or the MLflow store cannot be written, or training
            diverges; the last checkpoint's weights are then kept in `checkpoints/model.pt`.
    """
    progress = Progress(config.train.iterations, None if max_minutes is None else 60 * max_minutes)
    if config.render.backend == "pytorch3d":
        require_pytorch3d()
    training = load_views(views)
    if config.background == "none":
        training = before_black(training)
    check_crop(config, training, views)
    sets = {name: thinned(load_views(path).aligned_to(training)) for name, path in (validation or {}).items()}
    writable_folder(out / "checkpoints")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = initial_model(config, training, device)
    data = TrainingData.from_views(training, device)
    params = describe(config, training, views, device, max_minutes)
    with start_run(name or run_name(out), params) as tracker:
        _write_text(out / "run_id.txt", tracker.run_id)
        save_config(config, out / "train.yaml")
        recorder = Recorder(model, {"train": thinned(training), **sets}, progress, out, tracker, quiet)
        try:
            fit(model, data, progress, recorder.step)
            recorder.checkpoint()
        finally:
            recorder.close()
        write_meshes(model, out)
        save_model(model, out / "model.pt")
        for name in ("mesh.ply", "mesh.glb", "model.pt", "train.yaml", "history.csv", "validation.csv"):
            tracker.log_artifact(out / name)
    if not quiet:
        print(_farewell(out, views, validation or {}, progress, recorder.latest), file=sys.stderr)


class Recorder:
    """What is kept of a run while it goes: the two CSV files, MLflow, the live line, checkpoints."""

    def __init__(
        self, model: Model, sets: Mapping[str, Views], progress: Progress, out: Path, tracker: Tracker, quiet: bool
    ) -> None:
        self.latest: dict[str, float] = {}
        self._model = model
        self._sets = sets
        self._progress = progress
        self._out = out
        self._tracker = tracker
        self._history = History(out / "history.csv")
        self._validation = History(out / "validation.csv")
        self._line = None if quiet else ProgressLine()
        self._done = 0

    def step(self, step: Step) -> None:
        """Record an iteration, and a checkpoint where one is due."""
        row = {"loss": step.loss, **step.terms}
        self._history.append(
            {
                "iteration": step.iteration,
                "seconds": f"{step.seconds:.3f}",
                "level": step.level,
                "learning_rate": f"{step.learning_rate:.6g}",
                **{name: f"{value:.6g}" for name, value in row.items()},
            }
        )
        state = {"level": float(step.level), "learning_rate": step.learning_rate}
        self._tracker.log_metrics({f"train/{k}": v for k, v in {**row, **state}.items()}, step.iteration)
        fraction = self._progress.fraction
        if self._line:
            self._line.update(fraction, step.iteration, step.loss, step.level, self._progress.seconds_left)
        due = int(fraction * self._model.config.train.checkpoints)
        if due > self._done and fraction < 1:
            self._done = due
            self.checkpoint()

    @torch.no_grad()
    def checkpoint(self) -> None:
        """Validate, show renders, and keep the weights."""
        iteration = self._progress.iteration
        mesh = self._model.mesh(self._model.export_level)
        for name, views in self._sets.items():
            cameras = Cameras.from_views(views).to(self._model.device)
            prediction = self._model.render(mesh, cameras).radiance.cpu()
            metrics = image_metrics(prediction, torch.from_numpy(views.images))
            error = metrics["mean_absolute_error"].mean().item()
            self.latest[name] = error
            self._validation.append(
                {
                    "iteration": iteration,
                    "seconds": f"{self._progress.seconds:.3f}",
                    "set": name,
                    "mean_absolute_error": f"{error:.6g}",
                }
            )
            self._tracker.log_metrics({f"val/{name}/mean_absolute_error": error}, iteration)
            self._tracker.log_image(f"renders/{name}", pairs(views, prediction.numpy()), iteration)
        save_model(self._model, self._out / "checkpoints" / "model.pt")
        write_snapshot(self._model, self._out / "checkpoints", iteration)
        self._history.flush()
        self._validation.flush()

    def close(self) -> None:
        self._history.close()
        self._validation.close()
        if self._line:
            self._line.close()


def pairs(views: Views, prediction: np.ndarray) -> np.ndarray:
    """Ground truth above prediction for a few views, as an 8-bit picture."""
    chosen = np.linspace(0, len(views) - 1, min(PICTURE_VIEWS, len(views))).round().astype(int)
    rows = [np.concatenate(list(images[chosen]), axis=1) for images in (views.images, prediction)]
    return tone_map(np.concatenate(rows))


def thinned(views: Views) -> Views:
    """At most `CHECKPOINT_VIEWS` of the views, evenly spread."""
    chosen = np.linspace(0, len(views) - 1, min(CHECKPOINT_VIEWS, len(views))).round().astype(int)
    return views.select(chosen)


def check_crop(config: RunConfig, views: Views, path: Path) -> None:
    """Raise `ReconError` where the window is larger than the images."""
    size = config.train.crop.size
    if size is not None and size > min(views.height, views.width):
        raise ReconError(
            f"key 'train.crop.size': {size} pixels, but the images of {path} are {views.width} x {views.height}"
        )


def describe(
    config: RunConfig, views: Views, path: Path, device: torch.device, max_minutes: float | None
) -> dict[str, object]:
    """The parameters of the run for MLflow: configuration, data, machine."""
    data = {
        "data.path": str(path),
        "data.views": len(views),
        "data.height": views.height,
        "data.width": views.width,
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    budget = {} if max_minutes is None else {"max_minutes": max_minutes}
    return {**flatten(config.model_dump(mode="json")), **data, **budget}


def run_name(out: Path) -> str:
    """The last two parts of the folder."""
    return "/".join(out.resolve().parts[-2:])


def _write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text + "\n")


def _farewell(
    out: Path, views: Path, validation: Mapping[str, Path], progress: Progress, errors: Mapping[str, float]
) -> str:
    sets = " ".join(f"{name}={path}" for name, path in {"train": views, **validation}.items())
    rows = [
        ("trained", f"{progress.iteration} iterations in {clock(progress.seconds)}"),
        ("error", "  ".join(f"{name} {error:.4f}" for name, error in errors.items())),
        ("mesh", f"{out / 'mesh.ply'}  {out / 'mesh.glb'}"),
        ("model", str(out / "model.pt")),
        ("history", f"{out / 'history.csv'}  {out / 'validation.csv'}"),
        ("MLflow", tracking_uri()),
        ("", ""),
        ("measure", f"recon validate --run {out} --views {sets} --out {out / 'validation'}"),
        ("look", f"recon view {out}"),
    ]
    return panel("recon", rows)

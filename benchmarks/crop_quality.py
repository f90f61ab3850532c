"""Whole views against windows at equal time: errors of all four viewpoint sets of the bunny's head.

    python -m benchmarks.crop_quality [MINUTES]        (default 4)

Trains with whole views and in windows of 50 and 80 of 100 pixels, side by side, one thread each. The
clock counts the processor's time of each training: on an idle machine that is wall clock, and on a
busy one it leaves all three the same work. Prints errors over all views, and their ratios.
"""

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from recon.camera import Cameras
from recon.config import load_config
from recon.evaluation.image_metrics import image_metrics
from recon.scenes.extract import extract
from recon.surface.model import Model
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.schedule import Progress
from recon.views import load_views

FOLDER = Path("results/studies/crops")
SCENE = Path("config/scenes/bunny_head.yaml")
SETS = ("front", "full", "above", "below")
RUNS = {"whole views": [], "windows of 50": ["train.crop.size=50"], "windows of 80": ["train.crop.size=80"]}


class ProcessorTime(Progress):
    """Progress by the processor's time of this process."""

    @property
    def seconds(self) -> float:
        return self.spent + time.process_time()


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    extract_sets()
    # Processes that start afresh: each has one thread, and its clock begins at zero.
    with ProcessPoolExecutor(len(RUNS), mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = {name: pool.submit(trained, overrides, minutes) for name, overrides in RUNS.items()}
        results = {name: job.result() for name, job in jobs.items()}
    print(f"| {minutes:g} minutes of one core | iterations | {' | '.join(SETS)} |")
    print("| --- | --- | --- | --- | --- | --- |")
    _, whole = results["whole views"]
    for name, (iterations, errors) in results.items():
        cells = [f"{errors[key]:.5f} ({errors[key] / whole[key]:.2f})" for key in SETS]
        print(f"| {name} | {iterations} | {' | '.join(cells)} |", flush=True)


def extract_sets() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        path, like = FOLDER / f"{name}.npz", None if name == "front" else FOLDER / "front.npz"
        if not path.exists():
            extract(SCENE, path, set_name=name, like=like)


def trained(overrides: list[str], minutes: float) -> tuple[int, dict[str, float]]:
    """Iterations that a training takes in its time, and its mean absolute error in every set."""
    torch.set_num_threads(1)
    config, views, device = load_config(None, overrides), load_views(FOLDER / "front.npz"), torch.device("cpu")
    model = initial_model(config, views, device)
    progress = ProcessorTime(config.train.iterations, 60 * minutes, spent=-time.process_time())
    fit(Optimisation(model, TrainingData.from_views(views, device), progress), lambda step: None)
    return progress.iteration, {name: error(model, FOLDER / f"{name}.npz") for name in SETS}


@torch.no_grad()
def error(model: Model, path: Path) -> float:
    views = load_views(path)
    prediction = model.render(model.mesh(model.export_level), Cameras.from_views(views)).radiance
    return image_metrics(prediction, torch.from_numpy(views.images))["mean_absolute_error"].mean().item()


if __name__ == "__main__":
    main()

"""Whole views against crops at equal time: errors of all four viewpoint sets of the bunny's head.

    python -m benchmarks.crop_quality [--minutes 4] [--seeds 3] [--jobs 3]

Trains with whole views and in crops of 50 and 80 of 100 pixels, `--jobs` side by side, one thread each. The
clock counts the processor's time of each training: on an idle machine that is wall clock, and on a
busy one it leaves all three the same work. Prints errors over all views, averaged over the seeds, and
their ratios to those of whole views; of single seeds the ratios differ by a tenth and more.
"""

import argparse
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from benchmarks.bunny_head import SETS, fitted, viewpoint_sets
from recon.camera import Cameras
from recon.config import load_config
from recon.images.metrics import image_metrics
from recon.model.model import Model
from recon.training.schedule import Progress
from recon.views import Views

NETWORK = "surface.representation=mlp"
"""Of which the figures in docs/crops.md are."""

RUNS = {
    "whole views": [NETWORK],
    "crops of 50": [NETWORK, "train.crop.size=50"],
    "crops of 80": [NETWORK, "train.crop.size=80"],
}


Results = Mapping[tuple[str, int], Mapping[str, float]]
"""Iterations and errors by kind of training and seed."""


class ProcessorTime(Progress):
    """Progress by the processor's time of this process."""

    @property
    def seconds(self) -> float:
        return self.spent + time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4.0, help="processor time of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--jobs", type=int, default=len(RUNS), help="trainings at once")
    options = parser.parse_args()
    viewpoint_sets()  # extracted once, before trainings side by side look for them
    # Processes that start afresh, for each training: it has one thread, and its clock begins at zero.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
        jobs = {
            (name, seed): pool.submit(trained, [*overrides, f"train.seed={seed}"], options.minutes)
            for seed in range(options.seeds)
            for name, overrides in RUNS.items()
        }
        results = {key: job.result() for key, job in jobs.items()}
    seeds = range(options.seeds)
    print_table(results, f"{options.minutes:g} minutes of one core, mean of {len(seeds)}", seeds)
    for seed in seeds:
        print()
        print_table(results, f"seed {seed}", [seed])


def print_table(results: Results, title: str, seeds: Sequence[int]) -> None:
    """Mean iterations and errors of some seeds, and the errors' ratios to those of whole views."""
    print(f"| {title} | iterations | {' | '.join(SETS)} |")
    print("| --- | --- | --- | --- | --- | --- |")
    mean = {name: np.mean([[*results[name, seed].values()] for seed in seeds], axis=0) for name in RUNS}
    _, *whole = mean["whole views"]
    for name, (iterations, *errors) in mean.items():
        cells = [f"{error:.5f} ({error / reference:.2f})" for error, reference in zip(errors, whole, strict=True)]
        print(f"| {name} | {iterations:.0f} | {' | '.join(cells)} |", flush=True)


def trained(overrides: list[str], minutes: float) -> dict[str, float]:
    """Iterations that a training takes in its time, and its mean absolute error in every set."""
    torch.set_num_threads(1)
    config, sets = load_config(None, ["reflectance=constant", *overrides]), viewpoint_sets()
    progress = ProcessorTime(config.train.iterations, 60 * minutes, spent=-time.process_time())
    model = fitted(config, sets["front"], progress)
    return {"iterations": progress.iteration, **{name: error(model, views) for name, views in sets.items()}}


@torch.no_grad()
def error(model: Model, views: Views) -> float:
    prediction = model.render(model.mesh(model.export_level), Cameras.from_views(views)).radiance
    return image_metrics(prediction, torch.from_numpy(views.images))["mean_absolute_error"].mean().item()


if __name__ == "__main__":
    main()

"""Why crops failed in the reference work: its choices, one by one, against ours.

    python -m benchmarks.crop_study [--seeds 4] [--jobs 2]        (an hour of one core)

Trains every row of `RUNS` on the bunny's head for the reference's 1,000 iterations, once a seed, prints a table
of means with their standard errors, and writes the figures of docs/crops.md. Trainings whose images lie under
results/studies/crops are not repeated.
"""

import argparse
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt

from benchmarks.bunny_head import FOLDER, fitted, viewpoint_sets
from recon.camera import Cameras
from recon.config import load_config
from recon.images.colour_maps import DIFFERENCE
from recon.images.pictures import absolute_difference, tone_map
from recon.training.crop import inclusion_probability, offset_probability
from recon.training.schedule import Progress
from recon.views import Views

PICTURES = Path("docs/images")

# Besides the reference's: what makes an iteration cheap, for all rows alike.
COMMON = [
    "surface.representation=mlp",
    "train.iterations=1000",
    "train.learning_rate=1e-3",
    "train.schedule=constant",
    "train.levels=[4]",
    "train.views_per_iteration=4",
    "surface.integrator=euler",
    "render.samples=1",
    "loss.velocity_points=64",
]
HARD, SMALL, INSIDE = "render.antialias=false", "train.crop.size=50", "train.crop.mode=inside"
OURS = ["train.learning_rate=4e-3", "train.schedule=cosine"]
RUNS = {
    "whole views": [],
    "whole views, hard outlines": [HARD],
    "crops inside, hard outlines": [HARD, SMALL, INSIDE],
    "weighted crops, hard outlines": [HARD, SMALL],
    "crops inside": [SMALL, INSIDE],
    "weighted crops": [SMALL],
    "crops inside, hard outlines, rate 5e-4": [HARD, SMALL, INSIDE, "train.learning_rate=5e-4"],
    "weighted crops, our schedule": [SMALL, *OURS],
    "crops inside, our schedule": [SMALL, INSIDE, *OURS],
    "sixteen crops inside, our schedule": [SMALL, INSIDE, *OURS, "train.views_per_iteration=16"],
    "sixteen weighted crops, our schedule": [SMALL, *OURS, "train.views_per_iteration=16"],
    "whole views, our schedule": OURS,
}
DRAWN = {
    "whole views": "whole views",
    "whole views, hard outlines": "whole views,\nhard outlines",
    "crops inside, hard outlines": "crops inside,\nhard outlines",
    "crops inside": "crops inside",
    "weighted crops": "weighted crops",
    "sixteen weighted crops, our schedule": "16 weighted crops,\nour schedule",
}

RIM = 3
"""Pixels from the outline that count as rim."""
CENTRE = 8
"""Pixels from the outline from which on a pixel counts as centre."""
SHOWN = 14
"""The view in the picture, from the front."""


Images = Mapping[str, np.ndarray]
"""Those of one model, by viewpoint set."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="trainings of each row")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, one thread each")
    options = parser.parse_args()
    sets = viewpoint_sets()
    write_samples(sets["front"])
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = {name: [pool.submit(images, name, seed) for seed in range(options.seeds)] for name in RUNS}
        print("| run | front | its rim | its centre | full | above | below |")
        print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for name, of_name in jobs.items():
            print_row(name, sets, [job.result() for job in of_name])
    write_picture(sets["front"], {name: of_name[0].result()["front"] for name, of_name in jobs.items()})


def print_row(name: str, sets: Mapping[str, Views], trainings: list[Images]) -> None:
    """Mean absolute errors, averaged over the trainings of a row, and the standard error of that average."""
    rim, centre = regions(sets["front"])
    rows = []
    for predicted in trainings:
        front, *others = (absolute_difference(views.images, predicted[key]) for key, views in sets.items())
        rows.append([cell.mean() for cell in (front, front[rim], front[centre], *others)])
    spread = np.std(rows, axis=0, ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else np.full(len(rows[0]), np.nan)
    cells = [f"{mean:.4f} ± {error:.4f}" for mean, error in zip(np.mean(rows, axis=0), spread, strict=True)]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def images(name: str, seed: int) -> Images:
    """The images of one training in every set; it is trained if they are not there."""
    path = FOLDER / "study" / f"{name.replace(' ', '-').replace(',', '')}-{seed}.npz"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **trained([*COMMON, *RUNS[name], f"train.seed={seed}"]))
    with np.load(path) as stored:
        return dict(stored)


def trained(overrides: list[str]) -> Images:
    torch.set_num_threads(1)
    config, sets = load_config(None, ["reflectance=constant", *overrides]), viewpoint_sets()
    model = fitted(config, sets["front"], Progress(config.train.iterations))
    # However a run was trained, its surface is shown in the same way.
    shown = config.render.model_copy(update={"antialias": True})
    model.config = config.model_copy(update={"render": shown})
    with torch.no_grad():
        mesh = model.mesh(4)
        return {key: model.render(mesh, Cameras.from_views(views)).radiance.numpy() for key, views in sets.items()}


def regions(views: Views) -> tuple[np.ndarray, np.ndarray]:
    """Pixels along the object's outline, and those well within it."""
    assert views.masks is not None
    inside = np.stack([distance_transform_edt(mask > 127) for mask in views.masks])
    outside = np.stack([distance_transform_edt(mask <= 127) for mask in views.masks])
    return (inside + outside <= RIM), inside > CENTRE


def write_picture(views: Views, predictions: dict[str, np.ndarray]) -> None:
    """One view of every run that `DRAWN` names, and its error."""
    columns = {"ground truth": views.images, **{title: predictions[name] for name, title in DRAWN.items()}}
    figure = Figure(figsize=(1.5 * len(columns), 3.6), dpi=160, layout="constrained")
    axes = figure.subplots(2, len(columns))
    for column, (title, images) in zip(axes.T, columns.items(), strict=True):
        column[0].imshow(tone_map(images[SHOWN]))
        column[0].set_title(title, fontsize=8)
        error = absolute_difference(views.images, images)[SHOWN]
        heat = column[1].imshow(error, cmap=DIFFERENCE, vmin=0, vmax=0.1)
    axes[1, 0].set_visible(False)
    figure.colorbar(heat, ax=list(axes[1]), fraction=0.03, extend="max", label="absolute error")
    save(figure, "crops.png")


def write_samples(views: Views, size: int = 50) -> None:
    """How often a pixel lies in a crop, for the reference's crops and for ours."""
    _, height, width = views.images.shape[:3]
    anywhere = torch.ones(1, height, width, dtype=torch.bool)
    maps = {
        "crops inside": torch.full((1, height - size + 1, width - size + 1), 1 / (height - size + 1) ** 2),
        "weighted crops": offset_probability(anywhere, size),
    }
    figure = Figure(figsize=(7, 2.5), dpi=160, layout="constrained")
    axes = figure.subplots(1, 3)
    axes[0].imshow(tone_map(views.images[SHOWN]))
    axes[0].set_title("ground truth", fontsize=8)
    for axis, (title, offsets) in zip(axes[1:], maps.items(), strict=True):
        shares = inclusion_probability(offsets, size)[0]
        heat = axis.imshow(shares, cmap="viridis", vmin=0, vmax=1)
        axis.set_title(f"{title}: {shares.min():.4f} to {shares.max():.2f}", fontsize=8)
        axis.contour(views.images[SHOWN].max(axis=2), levels=[0.02], colors="white", linewidths=0.6)
    figure.colorbar(heat, ax=list(axes), shrink=0.8, label="share of crops")
    save(figure, "crops-samples.png")


def save(figure: Figure, name: str) -> None:
    for axis in figure.axes[:-1]:  # the last is the colour bar's
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    PICTURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURES / name)


if __name__ == "__main__":
    main()

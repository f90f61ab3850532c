"""Why windows failed in the reference work: its choices, one by one, against ours.

    python -m benchmarks.crop_study        (about 20 minutes on one core)

Trains every row of `RUNS` on the bunny's head for the reference's 1,000 iterations, prints a table
and writes docs/images/crops.png. Runs that exist under results/studies/crops are not repeated.
"""

import os
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt

from recon.camera import Cameras
from recon.config import load_config
from recon.evaluation.colour_maps import DIFFERENCE
from recon.evaluation.pictures import absolute_difference, tone_map
from recon.scenes.extract import extract
from recon.training.checkpoint import load_model
from recon.training.run import train
from recon.views import Views, load_views

FOLDER = Path("results/studies/crops")
SCENE = Path("config/scenes/bunny_head.yaml")
PICTURE = Path("docs/images/crops.png")

COMMON = ["train.iterations=1000", "train.learning_rate=1e-3", "train.schedule=constant", "train.levels=[4]"]
HARD, SMALL, INSIDE = "render.antialias=false", "train.crop.size=50", "train.crop.mode=inside"
RUNS = {
    "whole views": [],
    "whole views,\nhard outlines": [HARD],
    "windows inside,\nhard outlines": [HARD, SMALL, INSIDE],
    "weighted windows,\nhard outlines": [HARD, SMALL],
    "windows inside": [SMALL, INSIDE],
    "weighted windows": [SMALL],
    "weighted windows,\nour schedule": [SMALL, "train.learning_rate=4e-3", "train.schedule=cosine"],
}

RIM = 3
"""Pixels from the outline that count as rim."""
CENTRE = 8
"""Pixels from the outline from which on a pixel counts as centre."""
SHOWN = 14
"""The view in the picture, from the front."""


def main() -> None:
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{FOLDER}/mlflow.db")
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "front.npz"
    if not path.exists():
        extract(SCENE, path, set_name="front")
    views = load_views(path)
    predictions = {name: predicted(name, overrides, path, views) for name, overrides in RUNS.items()}
    rim, centre = regions(views)
    print("| run | all | rim | centre |\n| --- | --- | --- | --- |")
    for name, images in predictions.items():
        error = absolute_difference(views.images, images)
        print(f"| {one_line(name)} | {error.mean():.4f} | {error[rim].mean():.4f} | {error[centre].mean():.4f} |")
    write_picture(views, predictions)


def predicted(name: str, overrides: list[str], path: Path, views: Views) -> np.ndarray:
    """The images of one run, trained if it is not there."""
    out = FOLDER / one_line(name).replace(" ", "-").replace(",", "")
    if not (out / "model.pt").exists():
        print(f"training {one_line(name)}", flush=True)
        train(path, load_config(None, [*COMMON, *overrides]), out, quiet=True)
    model = load_model(out)
    # However a run was trained, its surface is shown in the same way.
    shown = model.config.render.model_copy(update={"antialias": True})
    model.config = model.config.model_copy(update={"render": shown})
    with torch.no_grad():
        return model.render(model.mesh(4), Cameras.from_views(views)).radiance.numpy()


def regions(views: Views) -> tuple[np.ndarray, np.ndarray]:
    """Pixels along the object's outline, and those well within it."""
    assert views.masks is not None
    inside = np.stack([distance_transform_edt(mask > 127) for mask in views.masks])
    outside = np.stack([distance_transform_edt(mask <= 127) for mask in views.masks])
    return (inside + outside <= RIM), inside > CENTRE


def one_line(name: str) -> str:
    return name.replace("\n", " ")


def write_picture(views: Views, predictions: dict[str, np.ndarray]) -> None:
    columns = {"ground truth": views.images, **predictions}
    figure = Figure(figsize=(1.5 * len(columns), 3.6), dpi=160, layout="constrained")
    axes = figure.subplots(2, len(columns))
    for column, (name, images) in zip(axes.T, columns.items(), strict=True):
        column[0].imshow(tone_map(images[SHOWN]))
        column[0].set_title(name, fontsize=8)
        error = absolute_difference(views.images, images)[SHOWN]
        heat = column[1].imshow(error, cmap=DIFFERENCE, vmin=0, vmax=0.1)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[1, 0].set_visible(False)
    figure.colorbar(heat, ax=list(axes[1]), fraction=0.03, extend="max", label="absolute error")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()

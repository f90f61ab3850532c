"""Objects with paint and gloss: shape, albedo and roughness against the truth, from photographs all around.

    python -m benchmarks.materials [--iterations 2000] [--jobs 2] [ROW …]

Trains `ROWS` (all, or those named) on 36 views of 100x100, one thread each, and measures 12 views that were held back
and the true mesh. What is in results/studies/materials already is not repeated. Prints a table, and draws the albedo
beside the truth.
"""

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure

from benchmarks.shapes import SHAPES
from recon.capture.extract import extract, write_reference
from recon.config import load_config
from recon.evaluation.match import match
from recon.evaluation.validate import validate
from recon.images.pictures import tone_map
from recon.model.file import load_model
from recon.training.run import Options, train
from recon.views import load_views

FOLDER = Path("results/studies/materials")
PICTURE = Path("docs/images/materials.png")
SETS = {
    "train": {"path": "sphere", "count": 36},
    "test": {"path": "arc", "count": 12, "azimuth": [0, 360], "elevation": [-40, 50]},
}
GREY = [0.5, 0.5, 0.5]
CHECKER: dict[str, Any] = {"pattern": "checker"}
STRIPES: dict[str, Any] = {"pattern": "stripes", "size": 0.15, "colors": [[0.8, 0.3, 0.3], [0.2, 0.5, 0.8]]}
HALF: dict[str, Any] = {"pattern": "half", "axis": "x", "colors": [[0.8, 0.8, 0.8], [0.12, 0.12, 0.12]]}


class Row(NamedTuple):
    """An object of `recon.capture.scene`, and the reflectance that is learned."""

    shape: str
    albedo: Any
    gloss: dict[str, float]
    reflectance: str


ROWS = {
    "head, one albedo": Row("bunny_head", GREY, {}, "constant"),
    "head, one albedo, varying": Row("bunny_head", GREY, {}, "varying"),
    "head, checker": Row("bunny_head", CHECKER, {}, "varying"),
    "head, dark on one side": Row("bunny_head", HALF, {}, "varying"),
    "head, shiny": Row("bunny_head", GREY, {"roughness": 0.5}, "microfacet"),
    "head, shiny checker": Row("bunny_head", CHECKER, {"roughness": 0.5}, "microfacet"),
    "star, one albedo": Row("star", GREY, {}, "constant"),
    "star, stripes": Row("star", STRIPES, {}, "varying"),
    "star, shiny stripes": Row("star", STRIPES, {"roughness": 0.5}, "microfacet"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="of the table")
    parser.add_argument("--iterations", type=int, default=2000, help="of each training")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no row '{unknown.pop()}'; there are: {', '.join(ROWS)}")
    chosen = options.rows or list(ROWS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{FOLDER}/mlflow.db")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=spawn) as pool:
        cells = list(pool.map(measured, chosen, [options.iterations] * len(chosen)))
    print("| object | learned | held-out PSNR | albedo error | roughness error | chamfer | processor seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, row in zip(chosen, cells, strict=True):
        print(f"| {name} | {ROWS[name].reflectance} | {' | '.join(row)} |")
    draw([name for name in chosen if ROWS[name].reflectance != "constant"])


def measured(name: str, iterations: int) -> list[str]:
    """What a row's training gives, as the cells of the table."""
    torch.set_num_threads(1)
    row, folder = ROWS[name], FOLDER / name.replace(", ", "-").replace(" ", "_")
    prepare(row, folder)
    out, seconds = folder / "run", folder / "seconds.txt"
    if not seconds.exists():
        start = time.process_time()
        config = load_config(None, [f"reflectance={row.reflectance}", f"train.iterations={iterations}"])
        train(folder / "train.npz", config, out, options=Options(quiet=True))
        seconds.write_text(f"{time.process_time() - start:.0f}")
    found = out / "validation"
    if not (found / "geometry.json").exists():
        validate(out, {"test": folder / "test.npz"}, found, reference=folder / "truth.ply")
    mean = json.loads((found / "test.json").read_text())["mean"]
    chamfer = json.loads((found / "geometry.json").read_text())["chamfer"]
    errors = (f"{mean[key]:.4f}" if key in mean else "–" for key in ("albedo_error", "roughness_error"))
    return [f"{mean['psnr']:.1f} dB", *errors, f"{chamfer:.5f}", seconds.read_text()]


def prepare(row: Row, folder: Path) -> None:
    """Scene, viewpoint sets and true mesh of a row, made if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    declared: dict[str, Any] = {"shape": row.shape}
    if row.shape in SHAPES:
        SHAPES[row.shape]().export(folder / "mesh.ply")
        declared = {"mesh": "mesh.ply"}
    scene = folder / "scene.yaml"
    objects = [{**declared, "radius": 0.95, "albedo": row.albedo, **row.gloss}]
    scene.write_text(yaml.safe_dump({"objects": objects, "training_set": "train", "sets": SETS}))
    if not (folder / "truth.ply").exists():
        write_reference(scene, folder / "truth.ply")
    for name, like in (("train", None), ("test", folder / "train.npz")):
        if not (folder / f"{name}.npz").exists():
            extract(scene, folder / f"{name}.npz", set_name=name, like=like)


def draw(names: list[str]) -> None:
    """A held-out view of each: photograph and prediction, true and learned albedo."""
    if not names:
        return
    figure = Figure(figsize=(6.4, 1.6 * len(names) + 0.2), dpi=160, layout="constrained")
    axes = figure.subplots(len(names), 4, squeeze=False)
    for panels, name in zip(axes, names, strict=True):
        folder = FOLDER / name.replace(", ", "-").replace(" ", "_")
        views, model = load_views(folder / "test.npz").select(np.array([3])), load_model(folder / "run")
        found = match(model, model.mesh(model.export_level), views.aligned_to(model))
        assert found.albedo is not None
        true = np.where(views.images > 0, 0.5, 0) if views.albedo is None else views.albedo
        scale = float((found.albedo * true).sum() / (found.albedo**2).sum())
        for panel, picture in zip(panels, (views.images, found.prediction, true, scale * found.albedo), strict=True):
            panel.imshow(tone_map(picture[0]))
            panel.set_xticks([])
            panel.set_yticks([])
        panels[0].set_ylabel(name, fontsize=7)
    for panel, title in zip(axes[0], ("photograph", "reconstruction", "true albedo", "learned albedo"), strict=True):
        panel.set_title(title, fontsize=8)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()

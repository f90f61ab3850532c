"""Objects in front of something: the reference work's comparison, without masks, in as many iterations.

    python -m benchmarks.background [--iterations 2000] [--out results/studies/background] [ROW …]

Trains the rows of `ROWS` (all, or those named), prints a table, and draws the runs with a field. Rows that
exist are not repeated. A row with a field takes some four minutes of two cores.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from recon.capture.extract import extract, write_reference
from recon.config import load_config
from recon.evaluation.match import match
from recon.evaluation.validate import validate
from recon.images.colour_maps import DEPTH, DIFFERENCE
from recon.images.pictures import absolute_difference, tone_map
from recon.model.file import load_model
from recon.training.run import Options, train
from recon.views import load_views, save_views

PICTURES = Path("docs/images")
SHOWN = 12
"""The view in the picture."""


class Row(NamedTuple):
    """A scene of `config/scenes`, its training set, and the background's model."""

    scene: str
    training: str
    background: str


ROWS = {
    "black": Row("bunny_head", "front", "none"),
    "black-field": Row("bunny_head", "front", "field"),
    "white-cubes": Row("bunny_head_white_cubes", "front", "none"),
    "white-cubes-given": Row("bunny_head_white_cubes", "front", "given"),
    "white-cubes-field": Row("bunny_head_white_cubes", "front", "field"),
    "coloured-cubes": Row("bunny_head_coloured_cubes", "front", "none"),
    "coloured-cubes-field": Row("bunny_head_coloured_cubes", "front", "field"),
    "rotation-black": Row("bunny_head", "full", "none"),
    "rotation": Row("bunny_head_rotation", "full", "none"),
    "rotation-field": Row("bunny_head_rotation", "full", "field"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--iterations", type=int, default=2000, help="of each training")
    parser.add_argument("--out", type=Path, default=Path("results/studies/background"))
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no row '{unknown.pop()}'; there are: {', '.join(ROWS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{options.out}/mlflow.db")
    chosen = options.rows or list(ROWS)
    lines = [
        "| run | background | training views | above | mask IoU | chamfer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in chosen:
        measured = measure(name, ROWS[name], options.out, options.iterations)
        lines.append(f"| {name} | {ROWS[name].background} | {' | '.join(measured)} |")
        print(lines[-1], flush=True)
    print("\n".join(lines))
    draw([name for name in chosen if ROWS[name].background == "field"], options.out)


def measure(name: str, row: Row, folder: Path, iterations: int) -> list[str]:
    """Errors, mask IoU on the training views, and chamfer distance to the true mesh of one run."""
    out = folder / name
    paths = viewpoint_sets(row, folder)
    if not (out / "model.pt").exists():
        config = load_config(
            None, ["reflectance=constant", f"background={row.background}", f"train.iterations={iterations}"]
        )
        train(paths["unmasked"], config, out, options=Options(quiet=True))
    found = out / "validation"
    if not (found / "geometry.json").exists():
        sets = {"training": paths["training"], "above": paths["above"]}
        validate(out, sets, found, reference=paths["truth"])
    training, above, geometry = (
        json.loads((found / f"{key}.json").read_text()) for key in ("training", "above", "geometry")
    )
    errors = (views["mean"]["mean_absolute_error"] for views in (training, above))
    return [*(f"{error:.4f}" for error in errors), f"{training['mean']['mask_iou']:.4f}", f"{geometry['chamfer']:.5f}"]


def viewpoint_sets(row: Row, folder: Path) -> dict[str, Path]:
    """The training set, the same without masks, `above`, and the true mesh."""
    source, base = Path(f"config/scenes/{row.scene}.yaml"), folder / "views" / row.scene
    base.mkdir(parents=True, exist_ok=True)
    training = base / f"{row.training}.npz"
    paths = {"training": training, "unmasked": base / f"{row.training}_unmasked.npz"}
    paths |= {"above": base / f"above_{row.training}.npz", "truth": base / "truth.ply"}
    if not paths["truth"].exists():
        write_reference(source, paths["truth"])
    if not training.exists():
        extract(source, training, set_name=row.training)
    if not paths["unmasked"].exists():
        save_views(replace(load_views(training), masks=None), paths["unmasked"])
    if not paths["above"].exists():
        extract(source, paths["above"], set_name="above", like=training)
    return paths


def draw(names: list[str], folder: Path) -> None:
    """A view of each run: photograph, composite, error, object alone, background alone, depth."""
    if not names:
        return
    figure = Figure(figsize=(9, 1.55 * len(names) + 0.2), dpi=160, layout="constrained")
    axes = figure.subplots(len(names), 6, squeeze=False)
    for panels, name in zip(axes, names, strict=True):
        views = load_views(viewpoint_sets(ROWS[name], folder)["training"]).select(np.array([SHOWN]))
        model = load_model(folder / name)
        found = match(model, model.mesh(model.export_level), views.aligned_to(model))
        assert found.object is not None and found.background is not None
        pictures = [views.images, found.prediction, None, found.object, found.background, None]
        for panel, picture in zip(panels, pictures, strict=True):
            if picture is not None:
                panel.imshow(tone_map(picture[0]))
        panels[2].imshow(absolute_difference(views.images, found.prediction)[0], cmap=DIFFERENCE, vmin=0, vmax=0.1)
        depth = np.where(found.alpha[0] > 0.5, found.depth[0], np.nan)
        panels[5].imshow(depth, cmap=DEPTH)
        panels[0].set_ylabel(name, fontsize=8)
    for panel, title in zip(
        axes[0], ("photograph", "composite", "error", "object", "background", "depth"), strict=True
    ):
        panel.set_title(title, fontsize=8)
    for panel in axes.flat:
        panel.set_xticks([])
        panel.set_yticks([])
    PICTURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURES / "background.png")


if __name__ == "__main__":
    main()

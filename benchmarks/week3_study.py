"""The reference work's training with its own renderer, PyTorch3D, and with recon's: the table in docs/crops.md.

    .venv/pytorch3d/bin/python -m benchmarks.week3_study [--iterations 1000] [--level 5] [--samples 2]

trains config/presets/week3.yaml on the bunny's head with each renderer of `RENDERERS`, everything else alike, on a GPU
where there is one, and prints errors of whole images in the four viewpoint sets, all rendered by recon. The defaults
are those of the preset, for a GPU.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.bunny_head import viewpoint_sets
from recon.camera import Cameras
from recon.config import load_config
from recon.model.model import Model
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.schedule import Progress

PRESET = Path("config/presets/week3.yaml")
RENDERERS = {
    "before training": ["train.iterations=1"],
    "PyTorch3D, hard": ["render.backend=pytorch3d"],
    "PyTorch3D, soft": ["render.backend=pytorch3d", "render.antialias=true"],
    "recon, hard": [],
    "recon, antialiased": ["render.antialias=true"],
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--level", type=int, default=5, help="of the icosphere")
    parser.add_argument("--samples", type=int, default=2, help="along each side of a pixel")
    options = parser.parse_args()
    settings = [
        f"train.iterations={options.iterations}",
        f"train.levels=[{options.level}]",
        f"render.samples={options.samples}",
    ]
    sets = viewpoint_sets()
    print(f"| rendered by | processor seconds an iteration | {' | '.join(sets)} |")
    print("| --- | --- |" + " --- |" * len(sets))
    for name, changed in RENDERERS.items():
        print(row(name, [*settings, *changed]), flush=True)


def row(name: str, overrides: list[str]) -> str:
    """One training: its time, and its errors in every set."""
    config, sets = load_config(PRESET, overrides), viewpoint_sets()
    model = initial_model(config, sets["front"], DEVICE)
    optimisation = Optimisation(
        model, TrainingData.from_views(sets["front"], DEVICE), Progress(config.train.iterations)
    )
    start = time.process_time()
    fit(optimisation, lambda step: None)
    seconds = (time.process_time() - start) / config.train.iterations
    return f"| {name} | {seconds:.2f} | {' | '.join(f'{error:.4f}' for error in errors(model))} |"


@torch.no_grad()
def errors(model: Model) -> list[float]:
    """Mean absolute errors of all views of each set, whoever rendered in training shown by recon, antialiased."""
    shown = model.config.render.model_copy(update={"backend": "torch", "antialias": True, "samples": 2})
    model.config = model.config.model_copy(update={"render": shown})
    mesh, found = model.mesh(model.export_level), []
    for views in viewpoint_sets().values():
        image = model.render(mesh, Cameras.from_views(views).to(DEVICE)).radiance.cpu().numpy()
        found.append(float(np.abs(image - views.images).mean()))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""What the settings of the velocity grid are worth: one changed at a time, on several shapes and kinds of view sets.

    python -m benchmarks.surface_study [--iterations 400] [--jobs 2] [--minutes M] [ROW …]

Trains `ROWS` (all, or those named) on each of `CASES`, `--jobs` side by side with one thread each, on a GPU where
there is one; what is in results/studies/surface already is not repeated. With --minutes no new training starts after
that time. Prints a table: the geometric mean over the cases of each measure, relative to the default's mean over its
seeds, and the pairs of triangles that cross, added up.
"""

import argparse
import json
import multiprocessing
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import trimesh
import yaml

from benchmarks.shapes import SHAPES
from recon.camera import Cameras
from recon.capture.extract import extract, write_reference
from recon.config import load_config
from recon.evaluation.certificate import certify
from recon.geometry.meshes import load_mesh
from recon.geometry.metrics import geometry_metrics
from recon.model.model import Model
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.schedule import Progress
from recon.views import Views, load_views

FOLDER = Path("results/studies/surface")
SETS = {
    "front": {"path": "arc", "count": 30, "azimuth": [-60, 60], "elevation": [-15, 25]},
    "full": {"path": "arc", "count": 30, "azimuth": [0, 360], "elevation": [10, 10]},
    "sphere": {"path": "sphere", "count": 36},
}
CASES = [("bunny_head", "front"), ("cup", "sphere"), ("bracket", "full"), ("star", "front"), ("bunny_head", "full")]
SEEDS = 3
NETWORK = ["surface.representation=mlp"]
ROWS: dict[str, list[str]] = {
    "default": [],
    "linear B-splines": ["surface.degree=1"],
    "cubic B-splines": ["surface.degree=3"],
    "grids up to 16 cells": ["surface.cells=[4,8,16]"],
    "grids up to 64 cells": ["surface.cells=[4,8,16,32,64]"],
    "grids from 8 cells": ["surface.cells=[8,16,32]"],
    "one grid of 32 cells": ["surface.cells=[32]", "train.learning_rate=0.002"],
    "falloff 0.5": ["surface.falloff=0.5"],
    "falloff 1.5": ["surface.falloff=1.5"],
    "rate 0.01": ["train.learning_rate=0.01"],
    "rate 0.04": ["train.learning_rate=0.04"],
    "constant rate 0.005": ["train.schedule=constant", "train.learning_rate=0.005"],
    "velocity 1e-4": ["loss.velocity=1e-4"],
    "velocity 1e-2": ["loss.velocity=1e-2"],
    "alpha 0": ["loss.velocity_alpha=0"],
    "no distortion term": ["loss.distortion=0"],
    "nor crossing term": ["loss.distortion=0", "loss.crossing=0"],
    "no crossing term": ["loss.crossing=0"],
    "5 Euler steps": ["surface.integrator=euler"],
    "10 Euler steps": ["surface.integrator=euler", "surface.steps=10"],
    "3 midpoint steps": ["surface.steps=3"],
    "levels 4, 4, 5, 5": ["train.levels=[4,4,5,5]"],
    "network": NETWORK,
    "network, 1,800 iterations": [*NETWORK, "train.iterations=1800"],
}

Measured = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="of the table")
    parser.add_argument("--iterations", type=int, default=400, help="of each training that does not say otherwise")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no training starts")
    options = parser.parse_args()
    chosen = options.rows or list(ROWS)
    for shape in {shape for shape, _ in CASES}:
        prepare(shape)
    jobs = [
        (row, shape, on, seed)
        for row in chosen
        for seed in range(SEEDS if row == "default" else 1)
        for shape, on in CASES
    ]
    deadline = time.time() + 60 * options.minutes
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=spawn) as pool:
        results = list(pool.map(measured, jobs, [options.iterations] * len(jobs), [deadline] * len(jobs)))
    print_table({job: result for job, result in zip(jobs, results, strict=True) if result is not None})


def prepare(shape: str) -> None:
    """Scene, viewpoint sets and true mesh of a shape, made if they are not there."""
    folder = FOLDER / shape
    folder.mkdir(parents=True, exist_ok=True)
    declared: dict[str, object] = {"shape": shape, "radius": 0.95}
    if shape in SHAPES:
        SHAPES[shape]().export(folder / "mesh.ply")
        declared = {"mesh": "mesh.ply"}
    scene = folder / "scene.yaml"
    scene.write_text(yaml.safe_dump({"objects": [declared], "training_set": "front", "sets": SETS}))
    if not (folder / "truth.ply").exists():
        write_reference(scene, folder / "truth.ply")
    for name in SETS:
        if not (folder / f"{name}.npz").exists():
            extract(
                scene, folder / f"{name}.npz", set_name=name, like=None if name == "front" else folder / "front.npz"
            )


def measured(job: tuple[str, str, str, int], iterations: int, deadline: float) -> Measured | None:
    """What one training gives, from its file where that is there; None where time is over."""
    row, shape, on, seed = job
    path = FOLDER / "runs" / f"{iterations}-{row}-{shape}-{on}-{seed}.json".replace(" ", "_")
    if path.exists():
        return json.loads(path.read_text())
    if time.time() > deadline:
        return None
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    views = load_views(FOLDER / shape / f"{on}.npz")
    config = load_config(
        None, ["reflectance=constant", f"train.iterations={iterations}", f"train.seed={seed}", *ROWS[row]]
    )
    model = initial_model(config, views, device)
    start = time.process_time()
    fit(Optimisation(model, TrainingData.from_views(views, device), Progress(config.train.iterations)), lambda _: None)
    seconds = time.process_time() - start
    found = {**scored(model, shape, views), "processor seconds": seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return found


@torch.no_grad()
def scored(model: Model, shape: str, views: Views) -> Measured:
    """Errors on the training views and all around, chamfer distance in radii, crossings, smallest determinant."""
    level = model.export_level
    mesh = model.mesh(level)
    vertices, faces = mesh.vertices.cpu().numpy().astype(np.float64), mesh.faces.cpu().numpy()
    truth = load_mesh(FOLDER / shape / "truth.ply")
    truth.apply_transform(np.linalg.inv(views.world_from_unit))
    certificate = certify(vertices, faces, model.jacobian_determinants(level).cpu().numpy())

    def error(measured: Views) -> float:
        prediction = model.render(mesh, Cameras.from_views(measured).to(model.device)).radiance.cpu().numpy()
        return float(np.abs(prediction - measured.images).mean())

    return {
        "training views": error(views),
        "all around": error(load_views(FOLDER / shape / "sphere.npz")),
        "chamfer": geometry_metrics(trimesh.Trimesh(vertices, faces, process=False), truth, samples=30_000).chamfer,
        "crossings": certificate.self_intersections,
        "determinant": certificate.smallest_jacobian_determinant or 0.0,
    }


def print_table(results: dict[tuple[str, str, str, int], Measured]) -> None:
    measures = ("training views", "all around", "chamfer")
    default: dict[tuple[str, str], dict[str, float]] = {}
    for case in CASES:
        runs = [found for (row, *rest), found in results.items() if row == "default" and tuple(rest[:2]) == case]
        if runs:
            default[case] = {name: float(np.mean([run[name] for run in runs])) for name in measures}
            spread = np.std([run["chamfer"] for run in runs]) / default[case]["chamfer"]
            values = "  ".join(f"{name} {value:.5f}" for name, value in default[case].items())
            print(f"default, {' '.join(case)}: {values} (chamfer ± {spread:.0%} over {len(runs)} seeds)")
    rows: dict[str, list[tuple[tuple[str, str], Measured]]] = defaultdict(list)
    for (row, shape, on, _), found in results.items():
        if (shape, on) in default:
            rows[row].append(((shape, on), found))
    print(f"\n| changed | runs | {' | '.join(measures)} | crossing pairs | smallest determinant |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row, runs in rows.items():
        ratios = [np.exp(np.mean([np.log(run[name] / default[case][name]) for case, run in runs])) for name in measures]
        crossings = sum(run["crossings"] for _, run in runs)
        smallest = min(run["determinant"] for _, run in runs)
        cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {row} | {len(runs)} | {cells} | {crossings:.0f} | {smallest:.2g} |", flush=True)


if __name__ == "__main__":
    main()

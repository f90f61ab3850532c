"""An object from real photographs, without masks: how far points of structure from motion are from its mesh.

    python -m benchmarks.photographs FOLDER [--points POINTS.ply] [--size 192] [--iterations 600] [--set KEY=VALUE …]

FOLDER is whatever `recon extract` takes that brings points of structure from motion. Every eighth photograph is held
back. The points are those that three views or more see, or those of a file, in the source's frame. Distances are shares
of the diagonal of the points' box. What is in the output folder already is not repeated.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float64

from recon.capture.extract import extract, held_out_path
from recon.config import load_config
from recon.evaluation.validate import validate
from recon.geometry.meshes import load_mesh
from recon.geometry.metrics import closest_faces
from recon.run_folder import MESH_PLY, RunFolder
from recon.training.run import train
from recon.views import Views, load_views

HOLD_OUT = 8
PRESET = Path("config/presets/photographs.yaml")
FEWEST_VIEWS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--points", type=Path, help="points in the source's frame (default: those of FOLDER)")
    parser.add_argument("--size", type=int, default=192, help="pixels along each side of the views")
    parser.add_argument("--iterations", type=int, default=600, help="of the training")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help=f"in place of keys of {PRESET}")
    parser.add_argument("--out", type=Path, default=Path("results/studies/photographs"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{options.out}/mlflow.db")
    views, run = options.out / "train.npz", options.out / f"run-{options.iterations}"
    if not views.exists():
        extract(options.folder, views, size=options.size, hold_out=HOLD_OUT)
    if not RunFolder(run).is_trained:
        start, processor = time.time(), time.process_time()
        config = load_config(PRESET, [f"train.iterations={options.iterations}", *options.set])
        train(views, config, run)
        print(f"training: {time.time() - start:.0f} s, {time.process_time() - processor:.0f} s of processor time")
    held_out = held_out_path(views)
    validate(run, {"held_out": held_out}, run / "validation")
    mean = json.loads((run / "validation" / "held_out.json").read_text())["mean"]
    points = seen_points(load_views(views)) if options.points is None else vertices(options.points)
    distance = closest_faces(points, load_mesh(RunFolder(run).file(MESH_PLY)), np.random.default_rng(0))[0]
    share = 100 * distance / np.linalg.norm(np.ptp(points, axis=0))
    print("| points | median | mean | 90% | held-out PSNR |")
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| {len(points):,} | {np.median(share):.2f}% | {share.mean():.2f}% | {np.percentile(share, 90):.2f}% "
        f"| {mean['psnr']:.1f} dB |"
    )


def seen_points(views: Views) -> Float64[np.ndarray, "p 3"]:
    """The points that enough views see and that lie in the unit sphere, in the source's frame."""
    if views.points is None or views.observations is None:
        raise SystemExit("benchmarks.photographs: no points of structure from motion; give --points")
    seen = np.bincount(views.observations[:, 0], minlength=len(views.points)) >= FEWEST_VIEWS
    inside = np.linalg.norm(views.points, axis=1) < 1
    return trimesh.transform_points(views.points[seen & inside].astype(np.float64), views.world_from_unit)


def vertices(path: Path) -> Float64[np.ndarray, "p 3"]:
    """The points of a file."""
    return np.asarray(trimesh.load(path, process=False).vertices, np.float64)


if __name__ == "__main__":
    main()

"""recon beside other renderers and mesh optimisers, each in an environment of its own.

    python -m benchmarks.peers [--levels 3 4 5] [--sizes 100 200] [--scenes star cup …] [--iterations 300] [--out FILE]

`make peers` installs PyTorch3D and Mitsuba 3; nvdiffrast is measured on a GPU where this Python has it, and never
installed. Mitsuba needs LLVM 17 or later: DRJIT_LIBLLVM_PATH says where. A peer that is absent is said to be.

One thread each, one process a measurement. Times are the processor's, the least of several, for a machine that does
other things too slows wall clocks more. Prints tables, and writes all numbers to results/studies/peers.json.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from benchmarks.surface_study import CASES, FOLDER, prepare
from recon.camera import Cameras
from recon.environment import pytorch3d_command
from recon.files import atomic
from recon.geometry.meshes import load_mesh
from recon.geometry.metrics import geometry_metrics
from recon.render.renderer import render
from recon.views import Views, load_views

OUT = Path("results/studies/peers.json")
SET = "sphere"
SCENES = list(dict.fromkeys(shape for shape, _ in CASES))
LIMIT = 900
"""Seconds of wall clock after which a measurement is given up."""

Measured = dict[str, Any]


def pythons() -> dict[str, str | None]:
    """The Python that has each peer; None for one that is absent."""
    pytorch3d = pytorch3d_command()
    of_pytorch3d = None if pytorch3d is None else str(Path(pytorch3d).parent / "python")
    mitsuba = Path(sys.prefix) / "mitsuba"
    of_nvdiffrast = sys.executable if torch.cuda.is_available() and importlib.util.find_spec("nvdiffrast") else None
    return {
        "recon": sys.executable,
        "PyTorch3D, hard": of_pytorch3d,
        "PyTorch3D, soft": of_pytorch3d,
        "Mitsuba 3": str(mitsuba / "bin" / "python") if (mitsuba / "installed").is_file() else None,
        "nvdiffrast": of_nvdiffrast,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=int, nargs="*", default=[3, 4, 5], help="of the icosphere, for single views")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 200], help="pixels along a side")
    parser.add_argument("--scenes", nargs="*", default=SCENES, choices=SCENES, help="to fit meshes to")
    parser.add_argument("--iterations", type=int, default=300, help="of recon; others have as much of the processor")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    present = {peer: python for peer, python in pythons().items() if python is not None}
    for peer in [name for name in pythons() if name not in present]:
        print(f"{peer}: not here, left out")
    views = views_table(present, options.levels, options.sizes) if options.levels else []
    steps = iterations_table(present, options.levels) if options.levels else []
    fits = fits_table(present, options.scenes, options.iterations) if options.scenes else []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(options.out) as temporary:
        temporary.write_text(json.dumps({"views": views, "iterations": steps, "fits": fits}, indent=1))


def measured(python: str, **request: Any) -> Measured:
    """What a process of `benchmarks.peer` measures; where it fails, its last words."""
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    command = [python, "-m", "benchmarks.peer", json.dumps(request)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {**request, "failed": f"not done within {LIMIT} s"}
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if "rror" in line] or [f"exit code {done.returncode}"]
        return {**request, "failed": words[0][:200]}
    return {**request, **json.loads(done.stdout.splitlines()[-1])}


def cell(found: Measured) -> str:
    if "failed" in found:
        return f"failed: {found['failed']}"
    return f"{found['processor_ms']:.0f} ms, {found['megabytes']:.0f} MB"


def views_table(present: dict[str, str], levels: list[int], sizes: list[int]) -> list[Measured]:
    """One view forward and backward, over faces and pixels."""
    columns = [(level, size) for level in levels for size in sizes]
    print("| one view | " + " | ".join(f"{20 * 4**level:,} faces, {size}²" for level, size in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    results = []
    for peer, python in present.items():
        row = [measured(python, peer=peer, task="view", level=level, size=size) for level, size in columns]
        print(f"| {peer} | {' | '.join(map(cell, row))} |", flush=True)
        results += row
    return results


def iterations_table(present: dict[str, str], levels: list[int]) -> list[Measured]:
    """An iteration of recon's training with each renderer that it has."""
    prepare("star")
    print("\n| an iteration of recon with | " + " | ".join(f"{20 * 4**level:,} faces" for level in levels) + " |")
    print("| --- |" + " --- |" * len(levels))
    results = []
    for peer in ("recon", "PyTorch3D, hard", "PyTorch3D, soft"):
        if peer in present:
            path = str((FOLDER / "star" / f"{SET}.npz").resolve())
            row = [measured(present[peer], peer=peer, task="iteration", level=level, views=path) for level in levels]
            print(f"| {peer} | {' | '.join(map(cell, row))} |", flush=True)
            results += row
    return results


def fit_scene(present: dict[str, str], scene: str, iterations: int) -> list[Measured]:
    """Error and distance over time on one scene, of those that fit meshes from the same icosphere and photographs."""
    prepare(scene)
    path, results = FOLDER / scene / f"{SET}.npz", []
    seconds = None
    for peer in ("recon", "Mitsuba 3"):
        if peer in present:
            out = FOLDER / scene / f"peer-{peer.split()[0]}.npz"
            files = {"views": str(path.resolve()), "out": str(out.resolve())}
            found = measured(present[peer], peer=peer, task="fit", seconds=seconds, iterations=iterations, **files)
            seconds = seconds or found.get("seconds")
            curve = [] if "failed" in found else scored(out, scene, load_views(path))
            results.append({"scene": scene, "peer": peer, "failed": found.get("failed"), "curve": curve})
    return results


@torch.no_grad()
def scored(snapshots: Path, scene: str, views: Views) -> list[Measured]:
    """Of each snapshot: the error of all training views, rendered by recon whoever made the mesh, and the distance from
    the truth in the unit frame."""
    truth = load_mesh(FOLDER / scene / "truth.ply")
    truth.apply_transform(np.linalg.inv(views.world_from_unit))
    cameras, curve = Cameras.from_views(views), []
    with np.load(snapshots) as stored:
        faces = stored["faces"]
        for seconds, vertices, albedo in zip(stored["seconds"], stored["vertices"], stored["albedo"], strict=True):
            points, colour = torch.from_numpy(vertices).float(), torch.from_numpy(albedo).float()
            image = render(points, torch.from_numpy(faces), cameras, albedo=colour.expand(len(points), 3), samples=2)
            mesh = trimesh.Trimesh(vertices, faces, process=False)
            error = float(np.abs(image.radiance.numpy() - views.images).mean())
            chamfer = geometry_metrics(mesh, truth, samples=10_000).chamfer if seconds > 1 else None
            curve.append({"seconds": float(seconds), "error": error, "chamfer": chamfer})
    return curve


def fits_table(present: dict[str, str], scenes: list[str], iterations: int) -> list[Measured]:
    """The last three snapshots of each fit; all of them are in the file."""
    print("\n| scene | | processor seconds | error of the training views | chamfer, of the unit sphere's radius |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    results = []
    for scene in scenes:
        for found in fit_scene(present, scene, iterations):
            print("\n".join(fit_rows(found)), flush=True)
            results.append(found)
    return results


def fit_rows(found: Measured) -> list[str]:
    if found["failed"]:
        return [f"| {found['scene']} | {found['peer']} | failed: {found['failed']} | | |"]
    rows = []
    for point in found["curve"][-3:]:
        distance = "" if point["chamfer"] is None else f"{point['chamfer']:.4f}"
        name = f"| {found['scene']} | {found['peer']} | {point['seconds']:.1f} | {point['error']:.4f}"
        rows.append(f"{name} | {distance} |")
    return rows


if __name__ == "__main__":
    main()

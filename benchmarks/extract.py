"""Extraction of the embedded scene as the workflow runs it: the training set, then the others two at a time."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CORES = 2
SCENE = "objects: [{shape: bunny}]\ncamera: {width: 100, height: 100}\n"
OTHERS = ("full", "above", "below")


def extraction() -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scene.yaml").write_text(SCENE)
        before, start = os.times(), time.perf_counter()
        _extract(Path(folder), "front")
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(lambda name: _extract(Path(folder), name, "--like", "front.npz"), OTHERS))
        seconds, after = time.perf_counter() - start, os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return (
        f"extract: 4 x 30 views of 100x100 of the bunny in {seconds:.1f} s on {CORES} cores, "
        f"of which each was busy for {busy / CORES:.1f} s"
    )


def _extract(folder: Path, name: str, *options: str) -> None:
    command = [sys.executable, "-m", "recon", "extract", "scene.yaml", "--set-name", name, "--out", f"{name}.npz"]
    subprocess.run([*command, *options], cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)

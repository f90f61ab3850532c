"""A project so small that Snakemake goes through it in half a minute, and Snakemake as a person runs it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

SCENE = """
objects: [{shape: sphere, radius: 0.6}]
camera: {width: 32, height: 32, samples: 2}
sets:
  front: {count: 4}
  around: {path: sphere, count: 3}
"""

CONFIG = {
    "scenes": ["ball"],
    "source": "scenes/{scene}.yaml",
    "training": "front",
    "validation": ["front", "around"],
    "experiments": "experiments.tsv",
    "max_minutes": None,
    "threads": 2,
    "tone": "scale",
}

EXPERIMENTS = (
    "experiment\tthreads\ttrain.iterations\ttrain.levels\ttrain.crop.size\tsurface.cells\ttrain.checkpoints\n"
    "# two rows, so that an empty cell is seen\n"
    "whole\t\t6\t[2]\t\t[4, 8]\t2\n"
    "crops\t1\t6\t[2]\t16\t[4, 8]\t2\n"
)


def write_project(folder: Path, experiments: str = EXPERIMENTS, **config: Any) -> Path:
    """The tiny scene, its configuration with `config` changed, and the table of `experiments`."""
    for name, text in {
        "scenes/ball.yaml": SCENE,
        "config/config.yaml": yaml.safe_dump(CONFIG | config),
        "experiments.tsv": experiments,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def environment(**more: str) -> dict[str, str]:
    """This process's, without the store of the session's other tests."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | more


def snakemake(
    folder: Path, *arguments: str, cores: int = 2, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Snakemake from this checkout in `folder`, with its output in one."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return subprocess.run(
        [*command, "--cores", str(cores), *arguments],
        env=environment() if env is None else env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )

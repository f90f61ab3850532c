"""Snakemake, as a person runs it, on a scene so small that a minute is enough."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
import trimesh
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
    "experiment\ttrain.iterations\ttrain.levels\ttrain.crop.size\tsurface.width\ttrain.checkpoints\n"
    "# two rows, so that an empty cell is seen\n"
    "whole\t6\t[2]\t\t16\t2\n"
    "crops\t6\t[2]\t16\t16\t2\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workflow")
    for name, text in {
        "scenes/ball.yaml": SCENE,
        "config/config.yaml": yaml.safe_dump(CONFIG),
        "experiments.tsv": EXPERIMENTS,
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Snakemake from this checkout in `folder`, with its output in one."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return subprocess.run(
        [*command, "--cores", "2", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout
    return folder


def test_every_stage_leaves_its_files(finished: Path) -> None:
    results = finished / "results"
    expected = ["report/index.html", "mlflow.db", "ball/views/front.npz", "ball/views/around.npz", "ball/reference.ply"]
    for run in ("whole", "crops"):
        names = ["mesh.ply", "mesh.glb", "model.pt", "train.yaml", "history.csv", "run_id.txt"]
        validation = ["front.json", "front.png", "around.json", "around.png", "certificate.json", "geometry.json"]
        expected += [f"ball/{run}/{name}" for name in [*names, *(f"validation/{name}" for name in validation)]]
    assert [name for name in expected if not (results / name).is_file()] == []


def test_every_job_leaves_its_log_and_benchmark(finished: Path) -> None:
    jobs = {"tracking_store", "report", "ball/reference", "ball/views/front", "ball/views/around"}
    jobs |= {f"ball/{run}/{stage}" for run in ("whole", "crops") for stage in ("train", "validate")}
    results = finished / "results"
    for folder, suffix in (("logs", ".log"), ("benchmarks", ".tsv")):
        files = (results / folder).rglob(f"*{suffix}")
        assert {str(path.relative_to(results / folder).with_suffix("")) for path in files} == jobs


def test_rows_of_the_table_reach_training(finished: Path) -> None:
    trees = {
        run: yaml.safe_load((finished / f"results/ball/{run}/train.yaml").read_text()) for run in ("whole", "crops")
    }
    assert [trees[run]["train"]["crop"]["size"] for run in ("whole", "crops")] == [None, 16]
    assert trees["whole"]["train"]["levels"] == [2]
    assert len(pd.read_csv(finished / "results/ball/whole/history.csv")) == 6


def test_mesh_is_closed_and_weights_load(finished: Path) -> None:
    run = finished / "results/ball/whole"
    assert trimesh.load_mesh(run / "mesh.ply").is_watertight
    torch.load(run / "model.pt", weights_only=True)


def test_runs_are_in_mlflow(finished: Path) -> None:
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{finished}/results/mlflow.db")
    for run in ("whole", "crops"):
        run_id = (finished / f"results/ball/{run}/run_id.txt").read_text().strip()
        stored = client.get_run(run_id)
        assert stored.info.status == "FINISHED"
        assert stored.data.params["train.iterations"] == "6"
        assert {"rule": "train", "scene": "ball", "experiment": run}.items() <= stored.data.tags.items()
        steps = {metric.step for metric in client.get_metric_history(run_id, "train/image")}
        assert steps == set(range(1, 7))
        for name in ("front", "around"):
            assert len(client.get_metric_history(run_id, f"val/{name}/mean_absolute_error")) >= 2
            assert f"final/{name}/mean_absolute_error" in stored.data.metrics
        assert "mesh/chamfer" in stored.data.metrics
        assert stored.data.metrics["mesh/watertight"] == 1
        artifacts = {file.path for file in client.list_artifacts(run_id)}
        assert artifacts >= {"mesh.ply", "mesh.glb", "images", "validation"}


def test_second_run_does_nothing(finished: Path) -> None:
    before = (finished / "results/ball/whole/model.pt").stat().st_mtime_ns
    done = snakemake(finished)
    assert done.returncode == 0, done.stdout
    assert "Nothing to be done" in done.stdout
    assert (finished / "results/ball/whole/model.pt").stat().st_mtime_ns == before


def test_changed_row_repeats_its_own_training_only(finished: Path) -> None:
    table = finished / "experiments.tsv"
    table.write_text(EXPERIMENTS.replace("crops\t6", "crops\t7"))
    done = snakemake(finished, "--dry-run")
    table.write_text(EXPERIMENTS)
    assert done.returncode == 0, done.stdout
    assert "Training crops on ball" in done.stdout
    assert "Training whole on ball" not in done.stdout
    assert "Extracting" not in done.stdout


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("experiment\ttrain.sed\na\t1\n", "train.sed"),
        ("experiment\ttrain.iterations\na\t0\n", "0 is less than the minimum of 1"),
        ("experiment\na\na\n", "the names in the column 'experiment' must differ"),
    ],
)
def test_bad_table_stops_before_anything_starts(folder: Path, tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "bad.tsv").write_text(table)
    done = snakemake(folder, "--dry-run", "--config", f"experiments={tmp_path / 'bad.tsv'}")
    assert done.returncode != 0
    assert message in done.stdout

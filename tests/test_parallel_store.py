"""Trainings side by side on one SQLite store."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import mlflow
from shapes import sphere_views

from recon.views import save_views

TRAININGS = 8
SCRIPT = """
import multiprocessing
import sys
from pathlib import Path

import mlflow
import recon.report.viewer
import torch

from recon.config import load_config
from recon.training.run import Options, train

TINY = ["surface.cells=[4]", "surface.steps=2", "train.levels=[2]", "render.samples=1", "train.checkpoints=2",
        "train.iterations=8", "train.views_per_iteration=1", "train.save_every=0.2"]


def one(number, ready):
    torch.set_num_threads(1)
    config = load_config(None, [*TINY, f"train.seed={number}"])
    ready.wait()
    options = Options(quiet=True, name=f"run{number}", make_pages=recon.report.viewer.write_run_viewer)
    train(Path("views.npz"), config, Path(f"run{number}"), options=options)


# Forked, because importing torch and MLflow takes longer than these trainings.
context = multiprocessing.get_context("fork")
ready = context.Barrier(int(sys.argv[1]))
processes = [context.Process(target=one, args=(number, ready)) for number in range(int(sys.argv[1]))]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit(sum(process.exitcode != 0 for process in processes))
"""


def test_eight_trainings_at_once_on_a_store_that_does_not_exist_yet(tmp_path: Path) -> None:
    save_views(sphere_views(2, 24), tmp_path / "views.npz")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = kept | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", SCRIPT, str(TRAININGS)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    # Trainings as short as these get nowhere, and say so; the store gives no cause for a warning.
    warnings = [line for line in done.stderr.splitlines() if "recon: warning" in line]
    assert all("the training got nowhere" in line for line in warnings), done.stderr

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/results/mlflow.db")
    experiment = client.get_experiment_by_name("recon")
    assert experiment is not None
    stored = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(stored) == [f"run{number}" for number in range(TRAININGS)]
    for name, run in stored.items():
        assert run.info.status == "FINISHED"
        assert run.data.params["train.seed"] == name.removeprefix("run")
        assert [each.dataset.name for each in run.inputs.dataset_inputs] == ["train"]
        keys = [key for key in run.data.metrics if key.startswith(("train/", "val/"))]
        found = [
            (key, m.step, m.timestamp, m.value) for key in keys for m in client.get_metric_history(run.info.run_id, key)
        ]
        assert sorted(found) == sorted(rows(tmp_path / name))
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert files >= {"mesh.ply", "mesh.glb", "model.pt", "viewer.html", "train.yaml", "history.csv", "images"}


def rows(run: Path) -> list[tuple[str, int, int, float]]:
    """Every value of the tables, as MLflow is to have it."""
    values = []
    for table in ("history.csv", "validation.csv"):
        with open(run / table, newline="") as file:
            for row in csv.DictReader(file):
                prefix = f"val/{row['set']}" if "set" in row else "train"
                values += [
                    (f"{prefix}/{name}", int(row["iteration"]), int(row["time"]), float(text))
                    for name, text in row.items()
                    if name not in ("iteration", "time", "seconds", "set") and text
                ]
    return values

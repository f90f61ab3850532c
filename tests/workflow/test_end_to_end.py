"""Snakemake, as a person runs it, on a scene so small that a minute is enough."""

import os
import re
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
import trimesh
import yaml
from project import EXPERIMENTS, snakemake, write_project

from recon.tracking.record import read_record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("workflow"))


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
    results = finished / "results"
    runs = [f"ball/runs/{path.name}" for path in (results / "ball/runs").iterdir()]
    jobs |= {f"{run}/{stage}" for run in runs for stage in ("train", "validate")}
    jobs |= {"ball/whole/name", "ball/crops/name"}
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


def test_the_report_knows_how_trainings_ended(finished: Path) -> None:
    """What training says at its end stands in its record, which naming a run does not leave behind."""
    page = (finished / "results/report/index.html").read_text()
    assert "Albedo, light and cameras" in page
    record = read_record(finished / "results/ball/whole")
    assert record is not None
    assert record.tags["recon.albedo"] in page
    assert "the training got nowhere" in page  # in six iterations


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
        assert stored.info.run_name == f"ball/{run}"
        assert stored.data.params["train.iterations"] == "6"
        # The rule gives "whole" two threads; views as small as these take one.
        assert stored.data.tags["threads"] == "1"
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


@pytest.mark.parametrize(
    ("before", "after", "trained", "named"),
    [
        ("crops\t1\t6", "crops\t1\t7", ["crops"], ["crops"]),
        ("crops\t1\t6", "windows\t1\t6", [], ["windows"]),
        ("crops\t1\t6", "crops\t2\t6", [], []),
        ("train.checkpoints\n", "train.checkpoints\ttrain.seed\n", [], []),
        ("16\t[4, 8]\t2\n", "16\t[4, 8]\t2\ntwin\t\t6\t[2]\t16\t[4, 8]\t2\n", [], ["twin"]),
        ("whole\t\t6", "whole\t\t6.0", [], []),
    ],
    ids=["iterations", "renamed", "threads", "new column", "same twice", "other spelling"],
)
def test_only_what_changes_the_result_trains_again(
    finished: Path, before: str, after: str, trained: list[str], named: list[str]
) -> None:
    table = finished / "experiments.tsv"
    assert before in EXPERIMENTS
    table.write_text(EXPERIMENTS.replace(before, after))
    done = snakemake(finished, "--dry-run")
    table.write_text(EXPERIMENTS)
    assert done.returncode == 0, done.stdout
    for job, expected in (("Training", trained), ("Validating", trained), ("Naming", named)):
        assert re.findall(rf"{job} (\w+) on ball", done.stdout) == expected
    assert "Extracting" not in done.stdout


def test_changed_views_train_again(finished: Path) -> None:
    views = finished / "results/ball/views/front.npz"
    content, times = views.read_bytes(), (views.stat().st_atime_ns, views.stat().st_mtime_ns)
    views.write_bytes(content + b"changed")
    done = snakemake(finished, "--dry-run")
    views.write_bytes(content)
    os.utime(views, ns=times)
    assert "Training whole on ball" in done.stdout


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("experiment\ttrain.sed\na\t1\n", "unknown column 'train.sed'; the nearest known key is 'train.seed'"),
        ("experiment\ttrain.iterations\na\t0\n", "line 2 (experiment 'a'), column 'train.iterations': input should"),
        ("experiment\na\na\n", "line 3 (experiment 'a'), column 'experiment': the name is already that of line 2"),
        ("experiment\n../../a\n", "line 2 (experiment '../../a'), column 'experiment': string should match"),
        ("experiment\ttrain.early_stopping.set\na\tful\n", "experiment 'a', column 'train.early_stopping.set': no "),
    ],
)
def test_bad_table_stops_before_anything_starts(folder: Path, tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "bad.tsv").write_text(table)
    done = snakemake(folder, "--dry-run", "--config", f"experiments={tmp_path / 'bad.tsv'}")
    assert done.returncode != 0
    assert f"bad.tsv: {message}" in done.stdout
    assert "Traceback" not in done.stdout


def test_rows_run_on_the_scenes_that_they_name(tmp_path: Path) -> None:
    rows = "experiment\tscene\ttrain.seed\nplain\t\t\nwide\tball\t1\nfar\tcube\t2\nwide\tcube\t3\n"
    project = write_project(tmp_path, rows, scenes=["ball"])
    (project / "scenes/cube.yaml").write_text((project / "scenes/ball.yaml").read_text())
    runs = {
        target: set(re.findall(r"Training (\w+) on (\w+)", snakemake(project, "--dry-run", target).stdout))
        for target in ("all", "experiments")
    }
    assert runs["all"] == {("plain", "ball"), ("wide", "ball")}
    assert runs["experiments"] == runs["all"] | {("plain", "cube"), ("far", "cube"), ("wide", "cube")}


@pytest.mark.parametrize(("configured", "fitted", "other"), [(None, "around", "front"), ("front", "front", "around")])
def test_training_fits_the_set_that_the_scene_names(
    tmp_path: Path, configured: str | None, fitted: str, other: str
) -> None:
    project = write_project(tmp_path, training=configured)
    with (project / "scenes/ball.yaml").open("a") as scene:
        scene.write("training_set: around\n")
    plan = snakemake(project, "--dry-run", "--printshellcmds").stdout
    assert f"--views results/ball/views/{fitted}.npz" in plan
    assert f"--set-name {other} --like results/ball/views/{fitted}.npz" in plan
    assert f"--set-name {fitted} --like" not in plan

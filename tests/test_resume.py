"""A training that is stopped goes on, and ends as if it had not been."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from mlflow import MlflowClient
from shapes import sphere_views

import recon.training.loop as loop
from recon.config import RunConfig, load_config
from recon.errors import ReconError
from recon.model.file import load_model
from recon.training.data import TrainingData
from recon.training.history import History
from recon.training.initialise import initial_model
from recon.training.run import Options, train
from recon.training.schedule import Progress
from recon.views import Views, save_views

SMALL = [
    "texture.sizes=[4,8]",
    "surface.cells=[2,4]",
    "surface.steps=2",
    "train.levels=[1]",
    "train.views_per_iteration=2",
    "render.samples=1",
    "loss.velocity_points=16",
]
FIELD = ["background=field", "field.resolution=8", "field.samples=4", "field.rays=40", "field.warm_up=0.4"]
ITERATIONS = 8
OUTPUTS = ("mesh.ply", "mesh.glb", "model.pt", "train.yaml", "history.csv", "validation.csv", "run_id.txt")
CPU = torch.device("cpu")


def small(*overrides: str) -> RunConfig:
    return load_config(None, [*SMALL, f"train.iterations={ITERATIONS}", "train.checkpoints=4", *overrides])


@pytest.fixture(scope="module")
def views() -> Views:
    """A ball before a dim wall: before black there would be no field."""
    ball = sphere_views(4, 20)
    return replace(ball, images=np.maximum(ball.images, np.float32(0.05)))


@pytest.fixture(scope="module")
def views_file(views: Views, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("views") / "front.npz"
    save_views(views, path)
    return path


@pytest.fixture(scope="module")
def whole(views_file: Path, tmp_path_factory: pytest.TempPathFactory, store_uri: str) -> Path:
    """The run that nothing stopped."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store_uri)
        train(views_file, small(), out, {"front": views_file}, options=Options(quiet=True))
    return out


def table(path: Path) -> list[dict[str, str]]:
    """Rows but for what a clock says."""
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("time", "seconds")} for row in csv.DictReader(file)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "model.pt", weights_only=True)["weights"]


def assert_same_run(run: Path, whole: Path) -> None:
    ours, theirs = weights(run), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("history.csv", "validation.csv"):
        assert table(run / name) == table(whole / name)
    assert (trimesh.load_mesh(run / "mesh.ply").vertices == trimesh.load_mesh(whole / "mesh.ply").vertices).all()
    assert not list(run.glob(".*")) and not list((run / "checkpoints").glob(".*"))


def assert_complete_in_mlflow(run: Path, store_uri: str) -> None:
    """FINISHED, and every value of the tables once, with its time."""
    client = MlflowClient(tracking_uri=store_uri)
    run_id = (run / "run_id.txt").read_text().strip()
    assert client.get_run(run_id).info.status == "FINISHED"
    with open(run / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for key in ("loss", "image"):
        stored = client.get_metric_history(run_id, f"train/{key}")
        expected = [(int(row["iteration"]), float(row[key])) for row in rows]
        assert sorted((metric.step, metric.value) for metric in stored) == expected
    # A picture is there once its small copy is, which comes last; a kill may have come in between.
    files = [file.path for file in client.list_artifacts(run_id, "images") if "+compressed" in file.path]
    whole = [path.partition("+timestamp")[0] for path in files]
    checks = table(run / "validation.csv")
    assert sorted(whole) == sorted(f"images/renders~{row['set']}+step+{row['iteration']}" for row in checks)


def remove_outputs(run: Path) -> None:
    """As Snakemake does with those of a job that failed."""
    for name in OUTPUTS:
        (run / name).unlink(missing_ok=True)


def at_iteration(monkeypatch: pytest.MonkeyPatch, count: int, action: Callable[[], None]) -> None:
    """Do `action` while the iteration after `count` others is computed."""
    evaluate, calls = loop.evaluate, iter(range(1000))

    def acting(*arguments: Any) -> dict[str, torch.Tensor]:
        if next(calls) == count:
            action()
        return evaluate(*arguments)

    monkeypatch.setattr(loop, "evaluate", acting)


def test_twenty_kills_change_nothing(views_file: Path, tmp_path: Path, store_uri: str) -> None:
    """`kill -9` at random moments: same weights, same tables, and each value once in MLflow."""
    settings = [*SMALL, *FIELD, "train.crop.size=12", f"train.iterations={ITERATIONS}", "train.checkpoints=8"]
    command = ["train", "--views", str(views_file), "--validation", f"front={views_file}", "--set", *settings]
    driver = [sys.executable, str(Path(__file__).with_name("kills.py")), str(tmp_path), "20", *command]
    environment = os.environ | {"MLFLOW_TRACKING_URI": store_uri, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(driver, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert sum(counts.values()) >= 20
    assert {"image", "field_opacity", "fold", "pseudo_mask"} < set(table(tmp_path / "whole" / "history.csv")[0])
    for name in counts:
        assert_same_run(tmp_path / name, tmp_path / "whole")
        assert_complete_in_mlflow(tmp_path / name, store_uri)


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.crop={size: 12}", "reflectance=varying", "background=constant"],
        ["train.crop={size: 12, mode: uniform}", "reflectance=microfacet", "train.random_rotation=false"],
        [*FIELD, "train.crop.size=12"],
        [*FIELD, "field.representation=mlp"],
    ],
)
@pytest.mark.parametrize("stop", [1, 4])
def test_every_random_choice_is_part_of_the_state(
    views: Views, overrides: list[str], stop: int, tmp_path: Path
) -> None:
    """A state halfway through gives the same steps as none, whatever was drawn elsewhere meanwhile."""

    def fresh() -> loop.Optimisation:
        model = initial_model(small(*overrides), views, CPU)
        return loop.Optimisation(model, TrainingData.from_views(views, CPU), Progress(ITERATIONS))

    straight = fresh()
    steps = [straight.step() for _ in range(ITERATIONS)]
    first = fresh()
    found = [first.step() for _ in range(stop)]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = fresh()
    torch.rand(7)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    found += [second.step() for _ in range(ITERATIONS - stop)]
    assert [(step.iteration, step.loss, step.terms) for step in found] == [
        (step.iteration, step.loss, step.terms) for step in steps
    ]
    ours, theirs = second.model.state_dict(), straight.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_a_state_and_marks_the_run(
    number: signal.Signals,
    code: int,
    views_file: Path,
    whole: Path,
    tmp_path: Path,
    store_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)  # a background job ignores Ctrl-C
    with monkeypatch.context() as patch:
        at_iteration(patch, 2, lambda: os.kill(os.getpid(), number))
        with pytest.raises(SystemExit if code == 143 else KeyboardInterrupt) as caught:
            train(views_file, small(), tmp_path, {"front": views_file}, options=Options(quiet=True))
    assert code == 130 or caught.value.code == code  # type: ignore[attr-defined]
    assert f"{number.name} at iteration 3; the same command goes on" in capsys.readouterr().err
    client = MlflowClient(tracking_uri=store_uri)
    run_id = (tmp_path / "run_id.txt").read_text().strip()
    stopped = client.get_run(run_id)
    assert stopped.info.status == "KILLED"
    assert stopped.data.tags["recon.interrupted"] == number.name
    assert len(client.get_metric_history(run_id, "train/loss")) == 3

    remove_outputs(tmp_path)
    train(views_file, small(), tmp_path, {"front": views_file}, options=Options(quiet=True))
    assert (tmp_path / "run_id.txt").read_text().strip() == run_id
    assert_same_run(tmp_path, whole)
    assert_complete_in_mlflow(tmp_path, store_uri)


def test_a_finished_run_writes_its_files_again(
    views_file: Path, whole: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {name: (whole / name).read_bytes() for name in OUTPUTS}
    remove_outputs(whole)
    at_iteration(monkeypatch, 0, lambda: pytest.fail("it trained again"))
    train(views_file, small(), whole, {"front": views_file}, options=Options(quiet=True))
    for name in ("mesh.ply", "train.yaml", "history.csv", "validation.csv", "run_id.txt"):
        assert (whole / name).read_bytes() == kept[name]
    assert load_model(whole).config == small()
    assert_complete_in_mlflow(whole, store_uri)
    assert not (whole / "checkpoints" / "state.previous.pt").exists()


def stopped_run(
    views_file: Path, out: Path, monkeypatch: pytest.MonkeyPatch, config: RunConfig | None = None, **more: Any
) -> None:
    with monkeypatch.context() as patch:
        at_iteration(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            train(views_file, config or small(), out, options=Options(quiet=True, **more))


def test_a_state_of_another_training_is_refused_by_name(
    views_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    stopped_run(views_file, out, monkeypatch)
    other = tmp_path / "other.npz"
    save_views(sphere_views(3, 20), other)
    state = (out / "checkpoints" / "state.pt").read_bytes()
    with pytest.raises(ReconError, match=r"state.pt: belongs to another training: train.learning_rate is 0.02 there "):
        train(views_file, small("train.learning_rate=0.1"), out, options=Options(quiet=True))
    with pytest.raises(ReconError, match="--max-minutes is None there and 1.0 here; choose another folder"):
        train(views_file, small(), out, options=Options(max_minutes=1.0, quiet=True))
    with pytest.raises(ReconError, match="digest of --views is .*--restart"):
        train(other, small(), out, options=Options(quiet=True))
    assert (out / "checkpoints" / "state.pt").read_bytes() == state
    run_id = (out / "run_id.txt").read_text()

    train(other, small(), out, options=Options(quiet=True, restart="changed"))
    assert "training anew: digest of --views" in capsys.readouterr().err
    assert len(table(out / "history.csv")) == ITERATIONS
    assert (out / "run_id.txt").read_text() != run_id


def test_what_changes_no_result_may_change(views_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_run(views_file, tmp_path, monkeypatch)
    train(
        views_file,
        small("train.save_every=5"),
        tmp_path,
        options=Options(quiet=True, name="renamed", restart="changed"),
    )
    assert len(table(tmp_path / "history.csv")) == ITERATIONS


def test_the_budget_is_that_of_all_attempts(views_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_run(views_file, tmp_path, monkeypatch, max_minutes=1e6)
    path = tmp_path / "checkpoints" / "state.pt"
    state = torch.load(path, weights_only=True)
    assert 0 < state["optimisation"]["seconds"] < 6e7
    state["optimisation"]["seconds"] = 6e7 + 1
    torch.save(state, path)
    train(views_file, small(), tmp_path, options=Options(max_minutes=1e6, quiet=True))
    assert len(table(tmp_path / "history.csv")) == 6


def test_a_damaged_state_falls_back_to_the_previous(
    views_file: Path,
    whole: Path,
    tmp_path: Path,
    store_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        at_iteration(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            train(views_file, small(), tmp_path, {"front": views_file}, options=Options(quiet=True))
    path = tmp_path / "checkpoints" / "state.pt"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    train(views_file, small(), tmp_path, {"front": views_file}, options=Options(quiet=True))
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    # A training as short as this gets nowhere, and says so too.
    (line,) = [line for line in warnings if "the training got nowhere" not in line]
    assert "state.pt: not a readable state of a training" in line
    assert line.endswith("; going on from state.previous.pt")
    assert_same_run(tmp_path, whole)
    assert_complete_in_mlflow(tmp_path, store_uri)

    path.write_bytes(b"")
    with pytest.raises(ReconError, match="state.pt: not a readable .*; there is no other to go on from: --restart"):
        train(views_file, small(), tmp_path, {"front": views_file}, options=Options(quiet=True))


def test_a_table_grows_by_columns_and_is_cut_to_its_state(tmp_path: Path) -> None:
    path, published = tmp_path / "side.csv", tmp_path / "top.csv"
    history = History(path, published)
    history.append({"a": 1, "b": 2})
    history.append({"a": 3, "c": 4})
    history.save()
    assert published.read_text() == "a,b,c\n1,2,\n3,,4\n"
    assert published.samefile(path)
    history.append({"a": 5})
    history.close()

    published.unlink()
    history = History(path, published, rows=1)
    history.append({"a": 3, "c": 4})
    history.save()
    history.close()
    assert published.read_text() == "a,b,c\n1,2,\n3,,4\n"
    with pytest.raises(ReconError, match="side.csv: has 2 rows, and the state beside it belongs to 3"):
        History(path, published, rows=3)


def test_a_table_without_hard_links_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*paths: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", link)
    history = History(tmp_path / "side.csv", tmp_path / "top.csv")
    for i in range(2):
        history.append({"a": i})
        history.save()
    history.close()
    assert (tmp_path / "top.csv").read_text() == "a\n0\n1\n"

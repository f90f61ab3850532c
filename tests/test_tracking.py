import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest

from recon import tracking
from recon.cli import main
from recon.errors import ReconError


@pytest.fixture
def client(store: str) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=store)


def history(client: mlflow.MlflowClient, run_id: str, key: str) -> dict[int, float]:
    return {metric.step: metric.value for metric in client.get_metric_history(run_id, key)}


def artifacts(client: mlflow.MlflowClient, run_id: str, folder: str | None = None) -> set[str]:
    return {file.path for file in client.list_artifacts(run_id, folder)}


def begin(run: Path, params: dict[str, object] | None = None):
    return tracking.start_run("bunny/default", params or {}, out=run)


def identifier(run: Path) -> str:
    return (run / "run_id.txt").read_text().strip()


def write_history(run: Path, losses: dict[int, float]) -> None:
    rows = [f"{step},{1_700_000_000_000 + step},{step},{loss}" for step, loss in losses.items()]
    (run / "history.csv").write_text("\n".join(["iteration,time,seconds,loss", *rows]) + "\n")


def test_run_keeps_params_metrics_images_and_artifacts(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "mesh.ply").write_text("ply")
    losses = {step: 1 / step for step in range(1, 2501)}  # more values than one request to the store may hold
    with begin(tmp_path, {"train.iterations": 7, "train.levels": [3, 4], "note": "a"}) as run:
        write_history(tmp_path, losses)
        run.log_image("renders/front", np.full((4, 6, 3), 255, np.uint8), step=5)
        (tmp_path / "validation.csv").write_text("iteration,time,seconds,set,mean_absolute_error\n5,5,5,front,0.5\n")
        run.release()
    stored = client.get_run(identifier(tmp_path))
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "bunny/default"
    assert stored.data.params == {"train.iterations": "7", "train.levels": "[3, 4]", "note": "a"}
    assert history(client, identifier(tmp_path), "train/loss") == losses
    assert history(client, identifier(tmp_path), "val/front/mean_absolute_error") == {5: 0.5}
    assert artifacts(client, identifier(tmp_path)) >= {"mesh.ply", "images", "history.csv", "validation.csv"}


def test_what_no_state_holds_is_not_sent(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    """A run that goes on from its last state comes to those rows again."""
    with pytest.raises(ReconError), begin(tmp_path) as run:
        write_history(tmp_path, {1: 0.5})
        run.release()
        write_history(tmp_path, {1: 0.5, 2: 0.25})
        run.log_image("renders/front", np.zeros((4, 6, 3), np.uint8), step=2)
        raise ReconError("diverged")
    assert history(client, identifier(tmp_path), "train/loss") == {1: 0.5}
    assert "images" not in artifacts(client, identifier(tmp_path))


def test_more_parameters_than_one_request_may_hold(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    with begin(tmp_path, {f"key{i}": i for i in range(130)}):
        pass
    assert len(client.get_run(identifier(tmp_path)).data.params) == 130


@pytest.mark.parametrize(
    ("error", "status"), [(ReconError("diverged"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(), "KILLED")]
)
def test_status_tells_how_a_run_ended(
    client: mlflow.MlflowClient, error: BaseException, status: str, tmp_path: Path
) -> None:
    with pytest.raises(type(error)), begin(tmp_path) as run:
        write_history(tmp_path, {1: 0.5})
        run.release()
        raise error
    assert client.get_run(identifier(tmp_path)).info.status == status
    assert history(client, identifier(tmp_path), "train/loss") == {1: 0.5}


def test_load_of_the_machine_where_it_is_asked_for(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with begin(tmp_path):
        for _ in range(600):
            stored = client.get_run(identifier(tmp_path)).data.metrics if identifier(tmp_path) else {}
            if any(key.startswith("system/") for key in stored):
                break
            time.sleep(0.1)
    assert "system/cpu_utilization_percentage" in client.get_run(identifier(tmp_path)).data.metrics


def test_experiment_and_tags_come_from_the_environment(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "teapots")
    monkeypatch.setenv("RECON_TAGS", "rule=train,scene=bunny")
    with begin(tmp_path):
        pass
    stored = client.get_run(identifier(tmp_path))
    assert client.get_experiment(stored.info.experiment_id).name == "teapots"
    assert {"rule": "train", "scene": "bunny"}.items() <= stored.data.tags.items()


def test_commit_of_the_sources_is_a_tag(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    here = Path(tracking.__file__).parent
    git = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True)
    if git.returncode:
        pytest.skip("not a git checkout")
    with begin(tmp_path):
        pass
    tags = client.get_run(identifier(tmp_path)).data.tags
    assert tags["mlflow.source.git.commit"] == git.stdout.strip()
    assert tags["git.dirty"] in ("true", "false")


def test_validation_is_added_to_the_run_that_trained(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    with begin(tmp_path):
        pass
    mean = {"mean_absolute_error": 0.003, "ssim": None}
    (tmp_path / "front.json").write_text(json.dumps({"set": "front", "mean": mean}))
    (tmp_path / "front.png").write_bytes(b"png")
    (tmp_path / "certificate.json").write_text(json.dumps({"watertight": True, "genus": 0, "run": "x"}))
    tracking.log_validation(tmp_path, tmp_path, ["front"])
    stored = client.get_run(identifier(tmp_path))
    assert stored.data.metrics == {"final/front/mean_absolute_error": 0.003, "mesh/watertight": 1, "mesh/genus": 0}
    assert stored.info.status == "FINISHED"
    expected = {"validation/front.json", "validation/front.png", "validation/certificate.json"}
    assert artifacts(client, identifier(tmp_path), "validation") == expected


def test_a_file_of_the_same_size_is_replaced_by_another_validation(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    with begin(tmp_path):
        pass
    for genus in (0, 1):
        (tmp_path / "certificate.json").write_text(json.dumps({"genus": genus}))
        tracking.log_validation(tmp_path, tmp_path, [])
    assert history(client, identifier(tmp_path), "mesh/genus") == {0: 1}
    local = client.download_artifacts(identifier(tmp_path), "validation/certificate.json", str(tmp_path))
    assert json.loads(Path(local).read_text()) == {"genus": 1}


def test_validating_a_run_from_elsewhere_creates_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/mlflow.db")
    (tmp_path / "run_id.txt").write_text("0123")
    tracking.log_validation(tmp_path, tmp_path, ["front"])
    assert not (tmp_path / "none").exists()


def test_a_run_that_the_store_does_not_have_costs_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking.initialise_store()
    (tmp_path / "run_id.txt").write_text("0123456789")
    tracking.log_validation(tmp_path, tmp_path, [])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("recon: warning: MLflow did not take everything: the store has no run 0123456789: ")


def test_unwritable_store_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(ReconError, match="file: cannot be written as a folder"), begin(tmp_path / "run"):
        pass


def test_address_of_no_store_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://host")
    with pytest.raises(ReconError, match="MLFLOW_TRACKING_URI htp://host: .* no store 'htp:'"), begin(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_store_that_is_no_database_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ReconError, match="cannot be used: .*file is not a database") as caught:
        tracking.initialise_store()
    assert "\n" not in str(caught.value)


def test_password_of_a_store_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://user:secret@host/db")
    with pytest.raises(ReconError, match=r"MLFLOW_TRACKING_URI nonsense://\*\*\*@host/db: ") as caught:
        tracking.initialise_store()
    assert "secret" not in str(caught.value)


def test_default_store_lies_in_results(tmp_path: Path) -> None:
    """In a fresh process, because MLflow remembers stores: one line of nothing on either stream."""
    code = "from recon import tracking; tracking.initialise_store(); tracking.initialise_store()"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "results" / "mlflow.db").is_file()
    assert not (tmp_path / "mlruns").exists()


def recon(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a fresh process, because MLflow remembers stores and their artifacts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-m", "recon", *arguments]
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=300)


def write_training(run: Path) -> None:
    run.mkdir(exist_ok=True)
    (run / "train.yaml").write_text("train: {iterations: 1}")
    write_history(run, {1: 0.5})


@pytest.mark.parametrize("move", [Path.rename, shutil.copytree])
def test_artifacts_lie_beside_the_store_wherever_that_is_now(
    tmp_path: Path, move: Callable[[Path, Path], object]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    write_training(old / "a")
    assert recon(old, "sync", "a").returncode == 0
    before = sorted(old.rglob("*"))
    move(old, new)
    write_training(new / "b")
    assert recon(new, "sync", "a").stdout == "a: nothing new delivered to sqlite:///results/mlflow.db\n"
    shutil.rmtree(new / "results" / "mlruns")
    done = recon(new, "sync", "a", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert old.exists() == (move is shutil.copytree)
    assert sorted(old.rglob("*")) == (before if old.exists() else [])
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{new}/results/mlflow.db")
    for run in ("a", "b"):
        assert artifacts(client, identifier(new / run)) == {"history.csv", "train.yaml"}
        assert client.get_run(identifier(new / run)).info.artifact_uri.startswith((new / "results" / "mlruns").as_uri())


def test_artifacts_that_were_put_elsewhere_stay_there(tmp_path: Path) -> None:
    assert recon(tmp_path, "store").returncode == 0
    uri = f"sqlite:///{tmp_path}/results/mlflow.db"
    client = mlflow.MlflowClient(tracking_uri=uri)
    elsewhere = (tmp_path / "large disk").as_uri()
    chosen = client.create_experiment("chosen", elsewhere)
    assert recon(tmp_path, "store").returncode == 0
    assert client.get_experiment(chosen).artifact_location == elsewhere


@pytest.fixture
def deleted(client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An experiment with the run of the folder "first", deleted; its identifier."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"deleted {tmp_path.name}")
    with begin(tmp_path / "first"):
        write_training(tmp_path / "first")
    experiment = client.get_run(identifier(tmp_path / "first")).info.experiment_id
    client.delete_experiment(experiment)
    return experiment


def test_a_deleted_experiment_is_named_and_how_to_go_on(
    deleted: str, tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    restore = f"MLFLOW_TRACKING_URI={store} mlflow experiments restore --experiment-id {deleted}"
    said = f"MLflow's experiment 'deleted {tmp_path.name}' was deleted: `{restore}` brings it back"
    for command in (["store"], ["sync", str(tmp_path / "first")]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"recon: error: {said}")
        assert error.count("\n") == 1
    tracking.log_validation(tmp_path / "first", tmp_path / "first" / "validation", [])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"recon: warning: MLflow did not take everything: {said}")


def test_training_goes_on_without_its_experiment_and_is_delivered_once_it_is_back(
    deleted: str, client: mlflow.MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with begin(tmp_path / "second"):
        write_training(tmp_path / "second")
    lines = capsys.readouterr().err.splitlines()
    assert all(f"experiment 'deleted {tmp_path.name}' was deleted" in line for line in lines)
    assert lines[-1].endswith(f"; `recon sync {tmp_path / 'second'}` delivers the rest")
    assert identifier(tmp_path / "second") == ""
    tracking.log_validation(tmp_path / "second", tmp_path / "second" / "validation", [])  # nothing to add to yet
    assert capsys.readouterr().err == ""
    client.restore_experiment(deleted)
    assert main(["sync", str(tmp_path / "second")]) == 0
    stored = client.get_run(identifier(tmp_path / "second"))
    assert (stored.info.status, stored.info.experiment_id) == ("FINISHED", deleted)
    assert history(client, identifier(tmp_path / "second"), "train/loss") == {1: 0.5}


def test_another_experiment_takes_the_run_of_a_deleted_one(
    deleted: str, client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identifier(tmp_path / "first")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"another {tmp_path.name}")
    assert main(["sync", str(tmp_path / "first")]) == 0
    stored = client.get_run(identifier(tmp_path / "first"))
    assert stored.info.run_id != before
    assert client.get_experiment(stored.info.experiment_id).name == f"another {tmp_path.name}"


def test_a_deleted_run_says_how_to_go_on(
    client: mlflow.MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with begin(tmp_path):
        write_training(tmp_path)
    client.delete_run(identifier(tmp_path))
    assert main(["sync", str(tmp_path)]) == 2
    assert f"mlflow runs restore --run-id {identifier(tmp_path)}`" in capsys.readouterr().err

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest

from recon import tracking
from recon.errors import ReconError


@pytest.fixture
def client(store: str) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=store)


def history(client: mlflow.MlflowClient, run_id: str, key: str) -> dict[int, float]:
    return {metric.step: metric.value for metric in client.get_metric_history(run_id, key)}


def artifacts(client: mlflow.MlflowClient, run_id: str, folder: str | None = None) -> set[str]:
    return {file.path for file in client.list_artifacts(run_id, folder)}


def test_run_keeps_params_metrics_images_and_artifacts(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "mesh.ply").write_text("ply")
    with tracking.start_run("bunny/default", {"train.iterations": 7, "train.levels": [3, 4], "note": "a"}) as run:
        for step in range(1, 2501):  # more values than one request to the store may hold
            run.log_metrics({"train/loss": 1 / step}, step)
        run.log_image("renders/front", np.full((4, 6, 3), 255, np.uint8), step=5)
        run.log_artifact(tmp_path / "mesh.ply")
    stored = client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "bunny/default"
    assert stored.data.params == {"train.iterations": "7", "train.levels": "[3, 4]", "note": "a"}
    assert history(client, run.run_id, "train/loss") == {step: 1 / step for step in range(1, 2501)}
    assert artifacts(client, run.run_id) >= {"mesh.ply", "images"}


def test_more_parameters_than_one_request_may_hold(client: mlflow.MlflowClient) -> None:
    params = {f"key{i}": i for i in range(130)}
    with tracking.start_run("wide", params) as run:
        pass
    assert len(client.get_run(run.run_id).data.params) == 130


@pytest.mark.parametrize(
    ("error", "status"), [(ReconError("diverged"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(), "KILLED")]
)
def test_status_tells_how_a_run_ended(client: mlflow.MlflowClient, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), tracking.start_run("ends", {}) as run:
        run.log_metrics({"train/loss": 0.5}, 1)
        raise error
    assert client.get_run(run.run_id).info.status == status
    assert history(client, run.run_id, "train/loss") == {1: 0.5}


def test_experiment_and_tags_come_from_the_environment(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "teapots")
    monkeypatch.setenv("RECON_TAGS", "rule=train,scene=bunny")
    with tracking.start_run("tagged", {}) as run:
        pass
    stored = client.get_run(run.run_id)
    assert client.get_experiment(stored.info.experiment_id).name == "teapots"
    assert {"rule": "train", "scene": "bunny"}.items() <= stored.data.tags.items()


def test_commit_of_the_sources_is_a_tag(client: mlflow.MlflowClient) -> None:
    here = Path(tracking.__file__).parent
    git = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True)
    if git.returncode:
        pytest.skip("not a git checkout")
    with tracking.start_run("commit", {}) as run:
        pass
    tags = client.get_run(run.run_id).data.tags
    assert tags["mlflow.source.git.commit"] == git.stdout.strip()
    assert tags["git.dirty"] in ("true", "false")


def test_later_stages_add_to_a_finished_run(client: mlflow.MlflowClient) -> None:
    with tracking.start_run("first", {}) as run:
        pass
    with tracking.attach(run.run_id) as later:
        later.log_metrics({"val/front/mean_absolute_error": 0.004}, 10)
    stored = client.get_run(run.run_id)
    assert stored.data.metrics == {"val/front/mean_absolute_error": 0.004}
    assert stored.info.status == "FINISHED"


def test_validation_is_added_to_the_run_that_trained(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    with tracking.start_run("validated", {}) as run:
        pass
    (tmp_path / "run_id.txt").write_text(run.run_id + "\n")
    mean = {"mean_absolute_error": 0.003, "ssim": None}
    (tmp_path / "front.json").write_text(json.dumps({"set": "front", "mean": mean}))
    (tmp_path / "front.png").write_bytes(b"png")
    (tmp_path / "certificate.json").write_text(json.dumps({"watertight": True, "genus": 0, "run": "x"}))
    tracking.log_validation(tmp_path, tmp_path, ["front"])
    metrics = client.get_run(run.run_id).data.metrics
    assert metrics == {"final/front/mean_absolute_error": 0.003, "mesh/watertight": 1, "mesh/genus": 0}
    expected = {"validation/front.json", "validation/front.png", "validation/certificate.json"}
    assert artifacts(client, run.run_id, "validation") == expected


def test_validating_a_run_from_elsewhere_creates_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/mlflow.db")
    (tmp_path / "run_id.txt").write_text("0123")
    tracking.log_validation(tmp_path, tmp_path, ["front"])
    assert not (tmp_path / "none").exists()


def test_store_that_fails_later_costs_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    tracking.initialise_store()
    with tracking.attach("0123456789") as run:
        run.log_metrics({"a": 1.0}, 0)
        run.log_artifact("nowhere.ply")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("recon: warning: MLflow did not take everything: ")


def test_unwritable_store_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(ReconError, match="file: cannot be written as a folder"), tracking.start_run("a", {}):
        pass


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

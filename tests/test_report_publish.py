from pathlib import Path

import mlflow
import pytest
from runs import write_run

from recon import tracking
from recon.report.publish import publish


def test_pages_are_artifacts_of_the_runs_that_they_describe(tmp_path: Path, store: str) -> None:
    client = mlflow.MlflowClient(tracking_uri=store)
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        with tracking.start_run(run.name, {}, out=run):
            pass
    publish(runs, tmp_path / "out")
    for run in runs:
        run_id = (run / "run_id.txt").read_text().strip()
        assert {file.path for file in client.list_artifacts(run_id)} >= {"environment", "report.html", "viewer.html"}
        local = Path(client.download_artifacts(run_id, "report.html", str(tmp_path)))
        assert local.read_text() == (tmp_path / "out" / "index.html").read_text()
        alone = Path(client.download_artifacts(run_id, "viewer.html", str(tmp_path))).read_text()
        assert f"Reconstruction of {run.name}" in alone
        (run / "viewer.html").write_text("the training's page, which has no validation")
        tracking.sync(run)
        after = Path(client.download_artifacts(run_id, "viewer.html", str(tmp_path))).read_text()
        assert after == alone  # a delivery takes no better page back


def test_a_report_on_runs_from_elsewhere_creates_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/mlflow.db")
    run = write_run(tmp_path / "run")
    (run / "run_id.txt").write_text("0123")
    publish([run], tmp_path / "out")
    assert (tmp_path / "out" / "index.html").is_file()
    assert not (tmp_path / "none").exists()

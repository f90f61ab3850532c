"""Runs before a real MLflow server that fails, and what `recon sync` delivers afterwards."""

import csv
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import numpy as np
import pytest
from store_server import Proxy, mlflow_server

from recon import tracking
from recon.cli import main
from recon.tracking import live
from recon.tracking.store import DEFAULTS

IMAGE = np.full((4, 6, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def server(store_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with mlflow_server(store_uri, tmp_path_factory.mktemp("server")) as port:
        yield port


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the server, with little patience on this side."""
    proxy = Proxy(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "served")  # whose artifacts the server keeps
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(live, "PAUSE", 0.1)
    yield proxy
    proxy.close()


@pytest.fixture
def client(server: int) -> mlflow.MlflowClient:
    """A way to the server without the proxy."""
    return mlflow.MlflowClient(tracking_uri=f"http://127.0.0.1:{server}")


class Training:
    """What a training does with its folder, without the training."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.iteration = 0
        self.views = out.parent / "views.npz"
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.views.write_bytes(b"views")

    @property
    def run_id(self) -> str:
        return (self.out / "run_id.txt").read_text().strip()

    def start(self):
        """Begin, or go on with what the folder holds."""
        datasets = [tracking.Dataset("front", self.views, "training", "0f" * 32)]
        return tracking.start_run("bunny/default", {"train.iterations": 9}, out=self.out, datasets=datasets)

    def iterate(self, tracker: tracking.Exporter, count: int, time: int = 1_700_000_000_000) -> None:
        """Rows of `count` iterations, a validation and a render, then the release of a checkpoint."""
        rows = range(self.iteration + 1, self.iteration + count + 1)
        self._append(
            "history.csv", "iteration,time,seconds,level,loss", [f"{i},{time + i},{i / 9},3,{1 / i}" for i in rows]
        )
        self.iteration += count
        tracker.log_image("renders/front", IMAGE, self.iteration)
        self._append(
            "validation.csv",
            "iteration,time,seconds,set,mean_absolute_error",
            [f"{self.iteration},{time},1,front,0.25"],
        )
        tracker.release()

    def finish(self) -> None:
        for name in ("mesh.ply", "mesh.glb", "model.pt", "train.yaml"):
            (self.out / name).write_text(name)

    def cut(self, iteration: int) -> None:
        """Go back, as to an older checkpoint."""
        for name in ("history.csv", "validation.csv"):
            path = self.out / "checkpoints" / name
            header, *rows = path.read_text().splitlines()
            rows = [row for row in rows if int(row.partition(",")[0]) <= iteration]
            path.write_text("\n".join([header, *rows]) + "\n")
        self.iteration = iteration

    def _append(self, name: str, header: str, rows: list[str]) -> None:
        path = self.out / "checkpoints" / name
        with open(path, "a") as file:
            file.write("\n".join(([] if path.exists() and path.stat().st_size else [header]) + rows) + "\n")


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path / "run")


def table(out: Path) -> dict[str, Counter]:
    """Every metric of the CSV files: how often each step with its value is to be in the store."""
    expected: dict[str, Counter] = {}
    for name, prefix in (("history.csv", "train"), ("validation.csv", "val/front")):
        with open(out / "checkpoints" / name, newline="") as file:
            for row in csv.DictReader(file):
                for column in row.keys() - {"iteration", "time", "seconds", "set"}:
                    values = expected.setdefault(f"{prefix}/{column}", Counter())
                    values[int(row["iteration"]), float(row[column])] += 1
    return expected


def stored(client: mlflow.MlflowClient, run_id: str) -> dict[str, Counter]:
    keys = client.get_run(run_id).data.metrics
    histories = {key: client.get_metric_history(run_id, key) for key in keys if not key.startswith(("final/", "mesh/"))}
    return {key: Counter((metric.step, metric.value) for metric in found) for key, found in histories.items()}


def render_steps(client: mlflow.MlflowClient, run_id: str) -> list[int]:
    names = [Path(file.path).name for file in client.list_artifacts(run_id, "images")]
    return sorted(int(re.split("[+%]", name)[2]) for name in names if name.endswith(".png"))


def assert_complete(client: mlflow.MlflowClient, training: Training, run_id: str, renders: list[int]) -> None:
    assert stored(client, run_id) == table(training.out)
    assert render_steps(client, run_id) == renders
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.iterations": "9"}
    assert [each.dataset.name for each in run.inputs.dataset_inputs] == ["front"]
    assert {file.path for file in client.list_artifacts(run_id)} >= {"mesh.ply", "mesh.glb", "model.pt", "train.yaml"}


def test_run_on_a_server(proxy: Proxy, client: mlflow.MlflowClient, training: Training) -> None:
    with training.start() as run:
        training.iterate(run, 400)
        training.iterate(run, 400)
        training.finish()
    assert_complete(client, training, training.run_id, [400, 800])
    assert "torch==" in mlflow.artifacts.load_text(f"mlflow-artifacts:/{artifact_path(client, training.run_id)}")


def artifact_path(client: mlflow.MlflowClient, run_id: str) -> str:
    return client.get_run(run_id).info.artifact_uri.partition(":/")[2] + "/environment/packages.txt"


@pytest.mark.parametrize("outage", ["down", "mute"])
def test_outage_that_ends_in_time_loses_nothing_and_doubles_nothing(
    outage: str, proxy: Proxy, client: mlflow.MlflowClient, training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    with training.start() as run:
        training.iterate(run, 20)
        seen = proxy.requests
        proxy.set(outage)
        training.iterate(run, 600)
        if outage == "mute":
            wait_for(lambda: proxy.requests > seen + 2)  # something has arrived whose answer was lost
        training.iterate(run, 5)
        proxy.set("up")
        training.finish()
    assert_complete(client, training, training.run_id, [20, 620, 625])
    assert "recon sync" not in capsys.readouterr().err


@pytest.mark.parametrize("call", ["create_run", "log_batch", "set_terminated"])
def test_what_the_store_took_without_an_answer_is_not_sent_twice(
    call: str, proxy: Proxy, client: mlflow.MlflowClient, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the patience that recon itself asks of MLflow's client."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", DEFAULTS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"without an answer to {call}")
    client.create_experiment(f"without an answer to {call}")
    original, lost = getattr(mlflow.MlflowClient, call), list[str]()

    def losing(self: mlflow.MlflowClient, *arguments: Any, **more: Any) -> Any:
        if lost or (call == "log_batch" and not more.get("metrics")):
            return original(self, *arguments, **more)
        lost.append(call)
        proxy.set("mute")
        try:
            return original(self, *arguments, **more)
        finally:
            proxy.set("up")

    monkeypatch.setattr(mlflow.MlflowClient, call, losing)
    with training.start() as run:
        training.iterate(run, 600)
        training.finish()
    assert lost == [call]
    assert_complete(client, training, training.run_id, [600])
    experiment = client.get_run(training.run_id).info.experiment_id
    assert len(client.search_runs([experiment])) == 1


def test_load_of_the_machine_goes_on_after_an_outage(
    proxy: Proxy, client: mlflow.MlflowClient, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")

    def steps() -> list[int]:
        load = client.get_metric_history(training.run_id, "system/cpu_utilization_percentage")
        return [metric.step for metric in load]

    with training.start() as run:
        training.iterate(run, 5)
        wait_for(lambda: training.run_id and steps())
        proxy.set("down")
        training.iterate(run, 5)
        time.sleep(1)  # the monitor asks several times
        before = len(steps())
        proxy.set("up")
        wait_for(lambda: len(steps()) > before + 1)
    assert len(set(steps())) == len(steps())


def wait_for(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.mark.parametrize("outage", ["down", "hang"])
def test_what_a_store_missed_is_delivered_later(
    outage: str,
    proxy: Proxy,
    client: mlflow.MlflowClient,
    training: Training,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The training ends all the same; then two deliveries, of which the second finds nothing to do."""
    monkeypatch.setattr(live, "PATIENCE", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with training.start() as run:
        training.iterate(run, 20)
        wait_for(lambda: training.run_id and render_steps(client, training.run_id) == [20])
        proxy.set(outage)
        for _ in range(3):
            training.iterate(run, 10)
        training.finish()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) in (1, 2)
    assert lines[-1].endswith(f"; `recon sync {training.out}` delivers the rest")
    assert client.get_run(training.run_id).info.status == "RUNNING"
    assert stored(client, training.run_id) != table(training.out)

    proxy.set("up")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    for said in (r": 63 metrics, 3 renders, 4 files delivered to http", r": nothing new delivered to http"):
        assert main(["sync", str(training.out)]) == 0
        assert re.search(said, capsys.readouterr().out)
        assert_complete(client, training, training.run_id, [20, 30, 40, 50])


def test_resumed_run_goes_on_without_a_gap_or_a_repetition(
    proxy: Proxy, client: mlflow.MlflowClient, training: Training
) -> None:
    with pytest.raises(SystemExit), training.start() as run:
        training.iterate(run, 20)
        raise SystemExit(143)
    killed = client.get_run(training.run_id)
    assert killed.info.status == "KILLED"
    assert killed.data.tags["recon.interrupted"] == "SIGTERM"

    training.cut(15)  # an older checkpoint, because the last was damaged: rows that the store has come again
    run_id = training.run_id
    with training.start() as again:
        training.iterate(again, 5, time=1_700_000_999_000)
        training.iterate(again, 20, time=1_700_000_999_000)
        training.finish()
    assert training.run_id == run_id
    assert_complete(client, training, run_id, [20, 40])
    tags = client.get_run(run_id).data.tags
    assert tags["recon.resumed"] == "1"
    assert "recon.interrupted" not in tags


def test_resumed_run_starts_while_the_store_is_down(
    proxy: Proxy, client: mlflow.MlflowClient, training: Training
) -> None:
    with pytest.raises(KeyboardInterrupt), training.start() as run:
        training.iterate(run, 20)
        raise KeyboardInterrupt
    assert client.get_run(training.run_id).data.tags["recon.interrupted"] == "SIGINT"
    proxy.set("down")
    run_id = training.run_id
    with training.start() as again:
        training.iterate(again, 20)
        proxy.set("up")
        training.finish()
    assert training.run_id == run_id
    assert_complete(client, training, run_id, [20, 40])


@pytest.mark.parametrize("outage", ["down", "mute", "hang"])
def test_new_run_starts_at_once_while_the_store_does_not_answer(
    outage: str, proxy: Proxy, client: mlflow.MlflowClient, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets one run in the store, once that answers."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"outage {outage}")
    client.create_experiment(f"outage {outage}")
    proxy.set(outage)
    before = time.monotonic()
    with training.start() as run:
        training.iterate(run, 20)
        assert time.monotonic() - before < 10
        assert training.run_id == ""
        time.sleep(2)
        proxy.set("up")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        training.iterate(run, 20)
        training.finish()
    assert_complete(client, training, training.run_id, [20, 40])
    experiment = client.get_run(training.run_id).info.experiment_id
    assert len(client.search_runs([experiment])) == 1


def test_new_run_that_never_reaches_the_store_is_delivered_later(
    proxy: Proxy,
    client: mlflow.MlflowClient,
    training: Training,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(live, "PATIENCE", 1.0)
    proxy.set("down")
    with training.start() as run:
        training.iterate(run, 20)
        training.finish()
    assert (training.out / "run_id.txt").read_text() == ""  # an output of the training all the same
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"; `recon sync {training.out}` delivers the rest")
    proxy.set("up")
    assert main(["sync", str(training.out)]) == 0
    assert " in a new run delivered to " in capsys.readouterr().out
    assert_complete(client, training, training.run_id, [20])


def test_resumed_run_that_the_store_does_not_have_begins_there(
    proxy: Proxy, client: mlflow.MlflowClient, training: Training
) -> None:
    with training.start() as run:
        training.iterate(run, 10)
    before = training.run_id
    client.delete_run(before)
    of_a_lost_store(training.out)
    with training.start() as again:
        training.iterate(again, 10)
        training.finish()
    assert training.run_id not in (before, "0" * 32)
    assert_complete(client, training, training.run_id, [10, 20])


def of_a_lost_store(out: Path, **changes: object) -> None:
    """The record of a run that this store does not have."""
    record = out / "checkpoints" / "tracking.json"
    lost = {"run_id": "0" * 32, "key": uuid4().hex}
    record.write_text(json.dumps(json.loads(record.read_text()) | lost | changes))


def test_run_cut_off_is_delivered_to_a_store_that_never_had_it(
    proxy: Proxy, client: mlflow.MlflowClient, training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `kill -9` and the loss of the store, and with what validation wrote."""
    with training.start() as run:
        training.iterate(run, 10)
    before = training.run_id
    of_a_lost_store(training.out, status="RUNNING", ended=None)
    (training.out / "validation").mkdir()
    (training.out / "validation" / "front.json").write_text('{"mean": {"psnr": 31.5, "ssim": NaN}}')
    for ending in (" in a new run delivered to", "nothing new delivered to"):
        assert main(["sync", str(training.out)]) == 0
        assert ending in capsys.readouterr().out
    run_id = (training.out / "run_id.txt").read_text().strip()
    assert run_id not in (before, "0" * 32)
    delivered = client.get_run(run_id)
    assert delivered.info.status == "KILLED"
    assert delivered.data.metrics["final/front/psnr"] == 31.5
    assert len(client.get_metric_history(run_id, "final/front/ssim")) == 1
    assert stored(client, run_id) == table(training.out)
    assert render_steps(client, run_id) == [10]


def test_copy_without_checkpoints_is_delivered(
    proxy: Proxy, client: mlflow.MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "copy"
    run.mkdir()
    (run / "train.yaml").write_text("train: {iterations: 2}")
    (run / "history.csv").write_text("iteration,seconds,loss\n1,0.5,0.25\n2,1.0,nan\n3,1.5,0.1")
    assert main(["sync", str(run)]) == 0
    stored_run = client.get_run((run / "run_id.txt").read_text().strip())
    assert stored_run.data.params == {"train.iterations": "2"}
    history = client.get_metric_history(stored_run.info.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 2]  # the third line is not whole


def test_folder_without_a_training_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", str(tmp_path)]) == 2
    expected = f"recon: error: {tmp_path}: holds no training: train.yaml and history.csv were expected\n"
    assert capsys.readouterr().err == expected


def test_damaged_record_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "tracking.json").write_text("[")
    assert main(["sync", str(tmp_path)]) == 2
    assert "tracking.json: not the record of a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("history.csv", "iteration,loss\nx,1\n", "history.csv: line 2: no row of a training's table"),
        ("validation/front.json", "{", "front.json: not readable JSON"),
        ("validation/front.json", '{"mean": 1}', "front.json: not what `recon validate` writes"),
    ],
)
def test_damaged_file_is_one_line(
    file: str, content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "validation").mkdir()
    (tmp_path / "train.yaml").write_text("train: {iterations: 2}")
    (tmp_path / "history.csv").write_text("iteration,time,loss\n1,5,0.25\n")
    (tmp_path / file).write_text(content)
    assert main(["sync", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_store_that_is_down_is_one_line(proxy: Proxy, training: Training, capsys: pytest.CaptureFixture[str]) -> None:
    with training.start() as run:
        training.iterate(run, 3)
    proxy.set("down")
    assert main(["sync", str(training.out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"recon: error: MLFLOW_TRACKING_URI {proxy.uri}: cannot be used: ")
    assert error.count("\n") == 1

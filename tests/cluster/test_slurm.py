"""`snakemake --profile profiles/slurm` on a real Slurm: the tiny scene, with a training that is stopped twice.

One story that the tests look back on: two trainings start as jobs; the time limit of one passes, and
Snakemake submits it again; then everything is interrupted, and the same command brings it to its end.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from project import ROOT, environment, write_project
from slurm import Cluster, cluster, missing

from recon.experiments import Experiment, read_experiments

EXPERIMENTS = (
    "experiment\tthreads\tmem_mb\truntime\ttrain.iterations\ttrain.levels\tsurface.cells\ttrain.checkpoints"
    "\ttrain.save_every\n"
    "short\t3\t1500\t\t4\t[2]\t[4, 8]\t1\t\n"
    "long\t1\t1000\t40\t300\t[2]\t[4, 8]\t2\t0.2\n"
)

PROFILE = (
    *("--profile", str(ROOT / "profiles/slurm")),
    *("--slurm-status-command", "squeue"),  # sacct needs accounting
    *("--slurm-init-seconds-before-status-checks", "5"),
)

PATIENCE = 900
"""Seconds for what takes ten on a machine that has nothing else to do."""


@dataclass
class Story:
    """What was seen.

    Attributes:
        run: folder of the long training.
        plain: folder of the same training without a stop.
        stops: when the long training had been stopped, and how many iterations it had done.
        records: status and tags of its MLflow run after the second stop, and at the end.
        jobs: of Slurm.
    """

    folder: Path
    run: Path
    plain: Path
    stops: list[tuple[float, int]] = field(default_factory=list)
    records: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    jobs: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    absent = missing()
    if absent:
        # A machine of a person may lack it; continuous integration installs it, and must not pass without.
        reason = f"no {absent[0]} here: apt-get install slurm-wlm munge"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    # Not in pytest's folder, whose path may be too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        # Threads that wait in a loop would take the processors from the other jobs.
        with cluster(folder, environment(OMP_WAIT_POLICY="PASSIVE")) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def story(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = write_project(tmp_path_factory.mktemp("cluster"), EXPERIMENTS)
    long = read_experiments(folder / "experiments.tsv")[1]
    told = Story(folder, folder / "results/ball/runs" / long.identity(None), folder / "plain")

    with _snakemake(slurm, folder) as first:
        _halt(told.run, 0, first)
        job = _trainings(slurm.jobs(), told.run)[0]["JobId"]
        slurm.ask("scontrol", "update", f"JobId={job}", "EndTime=now")
        with _uninterrupted(told, long):
            _until(lambda: _trainings(slurm.jobs(), told.run)[0]["JobState"] == "TIMEOUT", first)
            told.stops.append((time.time(), _iterations(told.run)))

            _halt(told.run, told.stops[0][1], first)
            first.send_signal(signal.SIGINT)
            assert first.wait(PATIENCE) != 0
            _until(lambda: not slurm.ask("squeue", "--noheader"))
            told.stops.append((time.time(), _iterations(told.run)))
            told.records.append(_record(told))

    with _snakemake(slurm, folder) as second:
        assert second.wait(PATIENCE) == 0, (folder / "snakemake.log").read_text()
    told.records.append(_record(told))
    told.jobs += slurm.jobs()
    return told


def test_every_stage_leaves_its_files(story: Story) -> None:
    results = story.folder / "results"
    expected = [f"ball/{run}/{name}" for run in ("short", "long") for name in ("mesh.ply", "validation/around.json")]
    assert [name for name in ["report/index.html", *expected] if not (results / name).is_file()] == []


def test_jobs_ask_for_what_rules_and_rows_say(story: Story) -> None:
    asked = {
        (job["Comment"].split("_")[1], job["Partition"], job["NodeList"], job["NumCPUs"], job["MinMemoryNode"])
        for job in story.jobs
    }
    assert asked >= {
        # More than this machine may have: what it has bounds no job.
        ("train", "gpu", "node2", "3", "1500M"),
        ("train", "gpu", "node2", "1", "1000M"),
        ("page", "cpu", "node1", "1", "1500M"),
    }
    # What nobody says follows from the views, which are tiny.
    validations = [memory for rule, partition, _, _, memory in asked if (rule, partition) == ("validate", "cpu")]
    assert validations and all(700 < int(memory.removesuffix("M")) < 1200 for memory in validations)
    long = _trainings(story.jobs, story.run)
    assert {job["TimeLimit"] for job in long[1:]} == {"00:40:00"}
    assert {job["TresPerJob"] for job in long} == {"gres:gpu:1"}
    # A failed attempt asks for more memory.
    assert [job["MinMemoryNode"] for job in long] == ["1000M", "2000M", "1000M"]


def test_small_jobs_are_grouped(story: Story) -> None:
    scenes = [job for job in story.jobs if job["Comment"].startswith("rule_scene")]
    assert [job["JobState"] for job in scenes] == ["COMPLETED"]
    assert {job["Comment"].split("_")[1] for job in story.jobs} == {"scene", "train", "validate", "page"}


def test_torch_takes_the_threads_of_the_job(story: Story) -> None:
    assert story.records[1][1]["threads"] == "1"


def test_time_limit_submits_the_training_again(story: Story) -> None:
    assert [job["JobState"] for job in _trainings(story.jobs, story.run)] == ["TIMEOUT", "CANCELLED", "COMPLETED"]


def test_cancelled_training_is_marked(story: Story) -> None:
    status, tags = story.records[0]
    assert status == "KILLED"
    assert tags["recon.interrupted"] == "SIGTERM"


def test_stopped_training_goes_on_where_it_was(story: Story) -> None:
    history = pd.read_csv(story.run / "history.csv")
    for when, iterations in story.stops:
        assert (history["time"] < when * 1000).sum() == iterations
    assert 0 < story.stops[0][1] < story.stops[1][1] < len(history)


def test_result_is_that_of_a_training_without_a_stop(story: Story) -> None:
    weights, expected = (torch.load(run / "model.pt", weights_only=True)["weights"] for run in (story.run, story.plain))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in weights)
    assert (story.run / "mesh.ply").read_bytes() == (story.plain / "mesh.ply").read_bytes()
    histories = [pd.read_csv(run / "history.csv").drop(columns=["time", "seconds"]) for run in (story.run, story.plain)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)


def test_mlflow_has_one_run_with_every_step_once(story: Story) -> None:
    status, tags = story.records[1]
    assert status == "FINISHED"
    assert tags["recon.resumed"] == "2"
    assert "recon.interrupted" not in tags
    assert tags["slurm.job_id"] == _trainings(story.jobs, story.run)[-1]["JobId"]
    metrics = _client(story).get_metric_history(_run_id(story), "train/image")
    assert sorted(metric.step for metric in metrics) == list(range(1, 301))


@contextmanager
def _snakemake(slurm: Cluster, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    with (folder / "snakemake.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, *PROFILE],
            env=slurm.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Also where the tests run in the background, where Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _until(done: Callable[[], bool], process: "subprocess.Popen[bytes] | None" = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert process is None or process.poll() is None, "Snakemake has ended; see snakemake.log"
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)


@contextmanager
def _uninterrupted(told: Story, experiment: Experiment) -> Iterator[None]:
    """The same training in `told.plain` at the same time."""
    views = {name: f"results/ball/views/{name}.npz" for name in ("front", "around")}
    command = ["train", "--views", views["front"], "--validation", *(f"{name}={path}" for name, path in views.items())]
    with (told.folder / "plain.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("recon")),
                *command,
                "--set",
                *experiment.overrides(),
                "--out",
                "plain",
            ],
            cwd=told.folder,
            env=environment(OMP_NUM_THREADS="1"),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
        assert process.wait(PATIENCE) == 0, (told.folder / "plain.log").read_text()
    finally:
        process.kill()
        process.wait()


def _iterations(run: Path) -> int:
    """Those of the state from which the training in `run` would go on."""
    history = run / "checkpoints/history.csv"
    return max(history.read_text().count("\n") - 1, 0) if history.exists() else 0


def _halt(run: Path, iterations: int, snakemake: "subprocess.Popen[bytes]") -> None:
    """Let the training in `run` stand still once it has done more than `iterations`.

    Slurm looks for jobs past their limit twice a minute. So the training is still in its middle then, however
    fast the machine; and Slurm lets it go on before it tells it to end.
    """
    _until(lambda: _iterations(run) > iterations, snakemake)
    os.kill(json.loads((run / "checkpoints/lock").read_text())["pid"], signal.SIGSTOP)


def _trainings(jobs: list[dict[str, str]], run: Path) -> list[dict[str, str]]:
    """The jobs that trained `run`, in their order."""
    found = [job for job in jobs if job["Comment"] == f"rule_train_wildcards_ball_{run.name}"]
    return sorted(found, key=lambda job: int(job["JobId"]))


def _client(told: Story) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{told.folder}/results/mlflow.db")


def _run_id(told: Story) -> str:
    return (told.folder / "results/ball/long/run_id.txt").read_text().strip()


def _record(told: Story) -> tuple[str, dict[str, str]]:
    """Status and tags of the MLflow run of the long training."""
    runs = _client(told).search_runs(["1"], filter_string="attributes.run_name = 'ball/long'")
    (run,) = runs
    return run.info.status, run.data.tags

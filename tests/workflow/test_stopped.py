"""A workflow that is stopped in the middle of a training goes on with it."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from project import ROOT, environment, snakemake, write_project

ROW = "experiment\tthreads\ttrain.iterations\ttrain.levels\ttrain.checkpoints\tsurface.cells\tsurface.steps\n"
ROW += "long\t1\t60\t[1]\t20\t[4]\t2\n"


def test_a_stopped_workflow_goes_on_with_its_training(tmp_path: Path) -> None:
    stopped, whole = (write_project(tmp_path / name, ROW) for name in ("stopped", "whole"))
    target = f"results/ball/runs/{identity(stopped)}/model.pt"
    terminate_within_training(stopped, target)
    assert not (stopped / target).exists()
    assert not (stopped / target).with_name("history.csv").exists()  # Snakemake removes what the failed job declares
    done = snakemake(stopped, target)
    assert done.returncode == 0, done.stdout
    assert "training anew" not in done.stdout

    assert snakemake(whole, target).returncode == 0
    ours, theirs = (torch.load(folder / target, weights_only=True)["weights"] for folder in (stopped, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    times = [int(row["time"]) for row in rows((stopped / target).with_name("history.csv"))]
    assert len(times) == 60 and times == sorted(times)


def identity(project: Path) -> str:
    from recon.experiments import read_experiments

    (row,) = read_experiments(project / "experiments.tsv")
    return row.identity(None)


def terminate_within_training(project: Path, target: str) -> None:
    """Start Snakemake and end all of its processes, as a scheduler does, once the training is under way."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(project)]
    with open(project / "log", "w") as log:
        process = subprocess.Popen(
            [*command, "--cores", "2", target], env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    table = (project / target).with_name("checkpoints") / "history.csv"
    while not table.exists() or len(rows(table)) < 3:
        assert process.poll() is None, (project / "log").read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=300) != 0
    assert "SIGTERM at iteration" in (project / "log").read_text()


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))

"""A training that is killed at random moments, again and again: `python kills.py FOLDER KILLS ARGUMENT …`.

The arguments are those of `recon train` without `--out`. FOLDER/whole is trained without a kill, and
FOLDER/0, FOLDER/1, … with as many as it takes to come to KILLS. A child is forked for each attempt, so
that imports are paid once; the parent computes nothing, because threads do not outlast a fork. Prints
the number of kills of each folder as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import mlflow.tracking  # noqa: F401
import torch
import torch._dynamo  # noqa: F401

import recon.report.viewer  # noqa: F401
import recon.training.run  # noqa: F401
from recon import cli


def main() -> None:
    folder, kills, arguments = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    moments = random.Random(0)
    start = time.monotonic()
    assert attempt(folder / "whole", arguments, None), "the whole run failed"
    duration = time.monotonic() - start
    print(f"{duration:.1f} s without a kill", file=sys.stderr)
    counts: dict[str, int] = {}
    while sum(counts.values()) < kills:
        name = str(len(counts))
        counts[name] = 0
        while not attempt(folder / name, arguments, moments.uniform(0, 0.9) * duration):
            counts[name] += 1
        if sum(counts.values()) > 3 * kills:
            sys.exit(f"no end after {counts}")
    print(json.dumps(counts))


def attempt(run: Path, arguments: list[str], seconds: float | None) -> bool:
    """Whether a training came to its end before it was killed after `seconds`; what a workflow removes is removed."""
    for name in ("mesh.ply", "mesh.glb", "model.pt", "train.yaml", "history.csv", "validation.csv", "run_id.txt"):
        (run / name).unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        code = 1
        try:
            code = cli.main([*arguments, "--quiet", "--out", str(run)])
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"{run}: exit code {os.WEXITSTATUS(status)}")
    return os.WIFEXITED(status)


main()

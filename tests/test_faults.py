"""What goes wrong around a training: one clear line, and no work lost."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_resume import assert_same_run, at_iteration, remove_outputs, small, table, views, views_file, whole

import recon.training.loop as loop
from recon.errors import ReconError
from recon.evaluation.validate import validate
from recon.files import atomic, remove_leftovers
from recon.model.model import Model
from recon.run_folder import RunFolder
from recon.training.data import TrainingData
from recon.training.device import training_device
from recon.training.initialise import initial_model
from recon.training.lock import locked
from recon.training.run import Options, train
from recon.training.schedule import Progress
from recon.training.state import StateFile
from recon.views import Views

__all__ = ["views", "views_file", "whole"]  # fixtures

HOLD = """
import sys
from pathlib import Path
from recon.training.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB: a run with its page takes less than half."""
    folder = tmp_path / "disk"
    folder.mkdir()
    yield from mounted(folder, "-t", "tmpfs", "-o", "size=4m", "tmpfs")


def mounted(folder: Path, *options: str) -> Iterator[Path]:
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_training_which_goes_on_once_there_is_room(
    views_file: Path, whole: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rest = small_disk / "run", small_disk / "rest"

    def fill() -> None:
        with open(rest, "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    with monkeypatch.context() as patch:
        at_iteration(patch, 3, lambda: pytest.raises(OSError, fill))
        with pytest.raises(ReconError, match=f"^{out}/checkpoints/.*: cannot be written: No space left on device$"):
            train(views_file, small(), out, {"front": views_file}, Options(quiet=True))
    assert not (out / "mesh.ply").exists()
    rest.unlink()
    train(views_file, small(), out, {"front": views_file}, Options(quiet=True))
    assert_same_run(out, whole)


def test_a_state_that_cannot_be_written_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = StateFile(RunFolder(tmp_path), {"a": 1})
    states.save({"iteration": 1})

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ReconError, match="state.pt: cannot be written: No space left on device"):
            states.save({"iteration": 2})
    state = states.load()
    assert state is not None and state["iteration"] == 1
    assert [path.name for path in states.path.parent.iterdir()] == ["state.pt"]


def test_a_read_only_folder_is_one_line(views_file: Path, tmp_path: Path) -> None:
    for folder in mounted(tmp_path, "-t", "tmpfs", "-o", "ro", "tmpfs"):
        with pytest.raises(ReconError, match=f"^{folder}/run/checkpoints: .*: Read-only file system$"):
            train(views_file, small(), folder / "run", options=Options(quiet=True))


def test_two_trainings_on_one_folder(views_file: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        message = f"{tmp_path}: another training is writing there: process {other.pid} on {socket.gethostname()}, since"
        with pytest.raises(ReconError, match=message):
            train(views_file, small(), tmp_path, options=Options(quiet=True))
        assert not (tmp_path / "train.yaml").exists()
        other.kill()
    with locked(tmp_path):  # what a killed process held is free
        holder = json.loads((tmp_path / "checkpoints" / "lock").read_text())
        assert holder["pid"] == os.getpid()


def test_a_file_system_without_locks_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "checkpoints").mkdir()
    with locked(tmp_path):
        pass
    assert capsys.readouterr().err.endswith("checkpoints/lock: cannot be locked: No locks available\n")


def poisoned(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """From iteration `count` on, a loss that is finite and whose gradient is not."""
    evaluate, calls = loop.evaluate, iter(range(1000))

    def evaluate_then(model: Model, *arguments: Any) -> dict[str, torch.Tensor]:
        terms = evaluate(model, *arguments)
        if next(calls) >= count:
            # The slope of a square root at 0 is infinite, and infinite times 0 is not a number.
            terms["fold"] = terms["fold"] + torch.sqrt(0 * model.velocity.grids[0].sum())
        return terms

    monkeypatch.setattr(loop, "evaluate", evaluate_then)


def test_a_gradient_that_is_not_finite_is_named_and_changes_nothing(
    views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = initial_model(small(), views, torch.device("cpu"))
    optimisation = loop.Optimisation(model, TrainingData.from_views(views, torch.device("cpu")), Progress(8))
    poisoned(monkeypatch, 2)
    optimisation.step(), optimisation.step()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = {name: value.clone() for name, value in optimisation.state_dict()["random"].items()}
    message = "diverged at iteration 2: the gradient of loss term 'fold' by the flow's parameters is not finite"
    with pytest.raises(ReconError, match=message):
        optimisation.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(random[name], value) for name, value in optimisation.state_dict()["random"].items())


def test_divergence_keeps_the_state_before_it(
    views_file: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        poisoned(patch, 5)
        with pytest.raises(ReconError, match="diverged at iteration 5"):
            train(views_file, small(), tmp_path, {"front": views_file}, Options(quiet=True))
    assert len(table(tmp_path / "history.csv")) == 5
    remove_outputs(tmp_path)
    # What made it diverge is gone: it goes on as if it had never been.
    train(views_file, small(), tmp_path, {"front": views_file}, Options(quiet=True))
    assert_same_run(tmp_path, whole)


def test_a_killed_validation_leaves_whole_files_and_can_be_repeated(
    views_file: Path, whole: Path, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "recon", "validate", "--run", str(whole)),
        *("--views", f"front={views_file}", "--out", str(tmp_path)),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not any(tmp_path.rglob("[0-9]*.png")):  # it is in the middle of writing
            assert process.poll() is None
        process.kill()
    validate(whole, {"front": views_file}, tmp_path)
    assert json.loads((tmp_path / "front.json").read_text())["views"] == 4
    with np.load(tmp_path / "surface.npz") as surface:
        assert "vertices" in surface


def test_a_terminated_validation_leaves_nothing_temporary(
    views_file: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit), atomic(tmp_path / "front.json") as temporary:
        temporary.write_text("{")
        raise SystemExit(143)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    for name in (".state.recon-partial-0123456789abcdef.pt", "state.pt", ".gitignore", "history.csv"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitignore", "history.csv", "state.pt"]


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"gpu-{index}"))
    monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext())
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))


def test_each_training_takes_a_free_gpu(two_gpus: None) -> None:
    with training_device() as first, training_device() as second:
        assert (first, second) == (torch.device("cuda", 0), torch.device("cuda", 1))
        with training_device() as third, training_device() as fourth:  # no free one is left
            assert (third.index, fourth.index) == (0, 1)
    with training_device() as again:
        assert again == torch.device("cuda", 0)


def test_a_gpu_is_known_by_its_own_name(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that sees the second device alone calls it the first."""
    with training_device():
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="gpu-1"))
        with training_device() as other:
            assert other == torch.device("cuda", 0)


def test_threads_are_those_that_snakemake_gives() -> None:
    code = "import torch, recon.training.run; print(torch.get_num_threads())"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == "1\n", done.stderr

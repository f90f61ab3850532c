import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from recon import cli
from recon.camera import intrinsics_from_fov, look_at
from recon.inspection.doubts import doubts
from recon.report.viewer import write_run_viewer
from recon.training.run import Options
from recon.views import Views, save_views


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def views(tmp_path: Path) -> Path:
    """Three views of a grey square."""
    images = np.zeros((3, 16, 16, 3), np.float32)
    images[:, 5:11, 5:11] = 0.5
    masks = (images[..., 0] > 0).astype(np.uint8) * 255
    eyes = np.array([[2.5, 0, 0], [0, 2.5, 0], [1.7, 1.7, 0.5]])
    poses = look_at(eyes, np.zeros(3), np.array([0, 0, 1.0]))
    intrinsics = np.tile(intrinsics_from_fov(49.0, 16, 16), (3, 1, 1))
    save_views(Views(images, poses, intrinsics, masks), tmp_path / "views.npz")
    return tmp_path / "views.npz"


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error of a command that ends with exit code 2."""
    try:
        code: object = cli.main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    output = capsys.readouterr()
    assert code == 2
    assert output.out == ""
    assert output.err.startswith("recon: error: ")
    assert output.err.count("\n") == 1
    return output.err


def test_help_imports_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys\n"
        "from recon.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in ("extract", "train", "validate", "report", "view"))


@pytest.mark.parametrize(
    "command",
    ["extract", "keyframes", "reference", "inspect", "train", "validate", "render", "report", "view", "store", "sync"],
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    assert f"recon {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip().count(".") >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["melt"], "invalid choice: 'melt'"),
        (["train"], "required: --views, --out"),
        (["train", "--views", "v", "--out", "o", "--epochs", "3"], "unrecognized arguments: --epochs 3"),
        (["train", "--views", "v", "--out", "o", "--max-minutes", "0"], "--max-minutes: '0': must be a positive"),
        (["train", "--views", "v", "--out", "o", "--max-minutes", "nan"], "must be a positive number of minutes"),
        (["train", "--views", "v", "--out", "o", "--max-minutes", "soon"], "must be a positive number of minutes"),
        (["train", "--views", "v", "--out", "o", "--validation", "v.npz"], "'v.npz': must have the form NAME=VIEWS"),
        (["train", "--views", "v", "--out", "o", "--validation", "../a=v.npz"], "'../a': a name has letters"),
        (["train", "--views", "v", "--out", "o", "--validation", "=v.npz"], "'': a name has letters"),
        (["validate", "--run", "r", "--views", "a=v", "--out", "o", "--tone", "wrap"], "invalid choice: 'wrap'"),
        (["view", "mesh.ply", "--port", "70000"], "must be a port from 0 to 65535"),
        (["extract", "scene.yaml", "--out", "v.npz", "--set-name", "a/b"], "'a/b': a name has letters"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in failure(capsys, *arguments)


def test_missing_files_are_named(tmp_path: Path, views: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none, out = tmp_path / "none", tmp_path / "out"
    assert f"{none}: no such file or folder" in failure(capsys, "extract", none, "--out", out / "v.npz")
    assert f"{none}: no such file" in failure(capsys, "extract", views, "--mesh", none, "--out", out / "v.npz")
    assert f"{none}: no such file" in failure(capsys, "train", "--views", none, "--out", out)
    line = failure(capsys, "train", "--views", views, "--validation", f"a={views}", f"b={none}", "--out", out)
    assert f"{none}: no such file" in line
    assert f"{none}: cannot be read" in failure(capsys, "train", "--views", views, "--config", none, "--out", out)
    assert f"{none}: no such folder" in failure(
        capsys, "validate", "--run", none, "--views", f"a={views}", "--out", out
    )
    assert f"{none}: no such folder" in failure(capsys, "report", "--runs", none, "--out", out)
    assert f"{none}: no such file or folder" in failure(capsys, "view", none)
    assert f"{tmp_path}: a folder; expected a file" in failure(capsys, "train", "--views", tmp_path, "--out", out)
    assert f"{views}: a file; expected the folder" in failure(capsys, "report", "--runs", views, "--out", out)
    assert not out.exists()


def test_a_name_given_twice(views: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    line = failure(capsys, "train", "--views", views, "--validation", f"a={views}", f"a={views}", "--out", out)
    assert "--validation: the name 'a' is given twice" in line
    assert not out.exists()


def test_configuration_is_checked_before_training(
    views: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = failure(capsys, "train", "--views", views, "--out", out, "--set", "train.seed=1", "train.iteratons=5")
    assert "unknown key 'train.iteratons'; the nearest known key is 'train.iterations'" in line
    line = failure(capsys, "train", "--views", views, "--out", out, "--set", "train.iterations=0")
    assert "key 'train.iterations'" in line
    assert not out.exists()


def test_bad_views_file_leaves_nothing(tmp_path: Path, views: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, out = tmp_path / "broken.npz", tmp_path / "out"
    broken.write_bytes(views.read_bytes()[:300])
    assert f"{broken}: " in failure(capsys, "train", "--views", broken, "--out", out)
    assert f"{broken}: " in failure(capsys, "train", "--views", views, "--validation", f"a={broken}", "--out", out)
    assert not out.exists()


def test_output_folder_that_cannot_be_written(tmp_path: Path, views: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "file" / "run"
    out.parent.write_text("")
    assert f"{tmp_path / 'file'}" in failure(capsys, "train", "--views", views, "--out", out)


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def initialise_store() -> None:
        raise error

    monkeypatch.setattr("recon.tracking.initialise_store", initialise_store)


def test_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raising(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "results/mesh.ply"))
    assert failure(capsys, "store") == "recon: error: results/mesh.ply: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--debug", "store"], ["store", "--debug"]])
def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    raising(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        cli.main(arguments)


def test_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert cli.main(["store"]) == 130


def test_termination_leaves_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.tracking.initialise_store", lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        cli.main(["store"])
    assert caught.value.code == 143


def test_arguments_reach_the_stages(views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr("recon.training.run.train", lambda *args, **kwargs: calls.append((*args, kwargs)))
    code = cli.main(
        f"train --views {views} --validation a={views} --validation b={views} c={views} --set train.seed=4"
        f" --set loss.image=2 train.levels=[2] --max-minutes 1.5 --quiet --out {tmp_path / 'run'}".split()
    )
    assert code == 0
    (path, config, out, validation, options, keywords) = calls[0]
    assert (path, out, keywords) == (views, tmp_path / "run", {})
    assert options == Options(max_minutes=1.5, quiet=True, doubts=doubts, make_pages=write_run_viewer)
    assert validation == {"a": views, "b": views, "c": views}
    assert (config.train.seed, config.loss.image, config.train.levels) == (4, 2, (2,))


def test_threads_wait_without_spinning_wherever_recon_starts_them() -> None:
    code = "import os, sys, recon; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    without = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        done = subprocess.run([sys.executable, "-c", code], env=without | given, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ..."), "of the GPU"),
        (MemoryError("Unable to allocate 80 GiB"), "of this machine"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."), "of this machine"),
    ],
)
def test_memory_that_runs_out_is_one_line_of_advice(
    error: Exception, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr("recon.evaluation.validate.validate", fail)
    (tmp_path / "views.npz").write_bytes(b"")
    arguments = ["validate", "--run", str(tmp_path), "--views", f"a={tmp_path / 'views.npz'}", "--out", str(tmp_path)]
    assert cli.main(arguments) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and f"out of memory {where}" in line and "train.crop.size" in line
    monkeypatch.setattr("recon.evaluation.validate.validate", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(arguments)

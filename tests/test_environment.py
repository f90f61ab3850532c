"""Where `render.backend: pytorch3d` finds PyTorch3D, and what is said where it is not."""

import importlib.util
import sys
from pathlib import Path

import pytest

from recon.config import load_config
from recon.environment import pytorch3d_command
from recon.errors import ReconError
from recon.training.run import check_backend


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without PyTorch3D, also where this one has it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def test_pytorch3d_that_is_not_installed_is_refused_with_the_way_to_it(absent: Path) -> None:
    with pytest.raises(ReconError, match="key 'render.backend': pytorch3d is not installed; `make pytorch3d`"):
        check_backend(load_config(None, ["render.backend=pytorch3d"]))
    check_backend(load_config(None))


def test_the_environment_within_this_one_counts_once_it_is_whole(absent: Path) -> None:
    assert pytorch3d_command() is None
    (absent / "pytorch3d" / "bin").mkdir(parents=True)
    assert pytorch3d_command() is None
    (absent / "pytorch3d" / "installed").touch()
    assert pytorch3d_command() == str(absent / "pytorch3d" / "bin" / "recon")


def test_an_environment_that_has_it_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert pytorch3d_command() == str(Path(sys.executable).parent / "recon")

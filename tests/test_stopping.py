import csv
import math
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapes import sphere_views

import recon.training.loop as loop
import recon.training.recorder as recorder
from recon.background.background import ConstantBackground
from recon.config import RunConfig, StoppingConfig, load_config
from recon.errors import ReconError
from recon.model.file import load_model
from recon.model.model import Model
from recon.model.snapshot import carried
from recon.tracking import Exporter
from recon.training.initialise import initial_model
from recon.training.run import Options, train
from recon.training.stopping import EarlyStopping, check_watched
from recon.views import save_views

SMALL = ["surface.cells=[4]", "surface.steps=2", "train.levels=[1]", "render.samples=1"]
SCRIPT = [5.0, 3.0, 4.0, 4.5, 3.5, 6.0, 6.0, 6.0]
"""Errors of the checks at iterations 2, 4, 6, …"""


@pytest.fixture
def model() -> Model:
    config = load_config(None, ["train.levels=[1]", "surface.cells=[4]", "background=constant"])
    return initial_model(config, sphere_views(2, 12), torch.device("cpu"))


def mark(model: Model, value: float) -> None:
    with torch.no_grad():
        assert isinstance(model.background, ConstantBackground)
        model.background.color.fill_(value)


def marked(model: Model) -> float:
    assert isinstance(model.background, ConstantBackground)
    return model.background.color[0].item()


def checks(stopping: EarlyStopping, model: Model, errors: list[float], start: int = 0) -> list[bool]:
    """Whether each check ends training; the weights are marked by the number of the check."""
    over = []
    for i, error in enumerate(errors, start):
        mark(model, i)
        stopping.update({"front": float(error), "full": 9.0 + i}, i, model)
        over.append(stopping.over)
    return over


def test_patience_counts_checks_without_gain(model: Model) -> None:
    stopping = EarlyStopping(StoppingConfig(set="front", patience=2))
    assert checks(stopping, model, [5, 4, 4, 3, 3.5, 3]) == [False, False, False, False, False, True]
    assert str(stopping) == "no gain on 'front' in 2 checks; the best weights are those of iteration 3"
    assert stopping.restore(model)
    assert marked(model) == 3
    assert stopping.errors == {"front": 3, "full": 12}


def test_small_changes_do_not_count_but_the_best_is_kept(model: Model) -> None:
    stopping = EarlyStopping(StoppingConfig(set="front", patience=3, min_change=0.5))
    assert checks(stopping, model, [4, 3.9, 3.8, 3.4, 3.3, 3.2, 3.6]) == [False] * 6 + [True]
    assert stopping.restore(model)
    assert (stopping.iteration, marked(model)) == (5, 5)


def test_slow_progress_counts_in_the_end(model: Model) -> None:
    stopping = EarlyStopping(StoppingConfig(set="front", patience=3, min_change=0.25))
    assert not any(checks(stopping, model, [4 - 0.1 * i for i in range(12)]))


def test_what_is_not_a_number_is_no_gain(model: Model) -> None:
    stopping = EarlyStopping(StoppingConfig(set="front", patience=2))
    assert checks(stopping, model, [math.nan, math.nan]) == [False, True]
    assert not stopping.restore(model)
    assert marked(model) == 1


def test_without_a_set_to_watch_training_goes_to_its_end(model: Model) -> None:
    stopping = EarlyStopping(StoppingConfig(patience=1))
    assert not any(checks(stopping, model, [1, 2, 3]))
    assert not stopping.restore(model)


def test_it_goes_on_from_its_state_as_if_uninterrupted(model: Model, tmp_path: Path) -> None:
    config = StoppingConfig(set="front", patience=2, min_change=0.1)
    errors = [3.0, 2.0, 2.05, 1.95, 2.1]
    whole, first, second = (EarlyStopping(config) for _ in range(3))
    expected = checks(whole, model, errors)
    assert checks(first, model, errors[:3]) == expected[:3]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert checks(second, model, errors[3:], start=3) == expected[3:] == [True, True]
    assert second.state_dict().keys() == whole.state_dict().keys()
    assert second.restore(model) and second.errors == whole.errors
    assert (second.iteration, marked(model)) == (3, 3)


def test_the_watched_set_must_be_measured() -> None:
    check_watched(StoppingConfig(), [])
    check_watched(StoppingConfig(set="full"), ["front", "full"])
    with pytest.raises(ReconError, match="no validation set 'ful'; there are: front, full"):
        check_watched(StoppingConfig(set="ful"), ["front", "full"])
    with pytest.raises(ReconError, match="none was given with --validation"):
        check_watched(StoppingConfig(set="full"), [])


def watching(*overrides: str) -> RunConfig:
    options = ["iterations=16", "checkpoints=8", "early_stopping.set=front", *overrides]
    return load_config(None, [*SMALL, *(f"train.{option}" for option in options)])


class Silent(Exporter):
    """A run that no store keeps."""

    def __init__(self) -> None: ...
    def log_image(self, *arguments: Any) -> None: ...
    def mark(self, *arguments: Any) -> None: ...
    def release(self) -> None: ...


@pytest.fixture
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without MLflow, which has no part in this and takes seconds."""

    @contextmanager
    def start_run(*arguments: Any, **more: Any) -> Iterator[Exporter]:
        yield Silent()

    monkeypatch.setattr("recon.training.run.start_run", start_run)


@pytest.fixture
def views_file(tmp_path: Path) -> Path:
    save_views(sphere_views(3, 16), tmp_path / "views.npz")
    return tmp_path / "views.npz"


def follow_script(monkeypatch: pytest.MonkeyPatch, errors: Iterable[float] = SCRIPT) -> None:
    """What checkpoints measure in place of the truth, on the sets train and front alike."""
    values = iter([error for error in errors for _ in ("train", "front")])
    monkeypatch.setattr(
        recorder, "image_metrics", lambda *images: {"mean_absolute_error": torch.full((1,), next(values))}
    )


def column(path: Path, name: str) -> list[int]:
    with open(path, newline="") as file:
        return [int(row[name]) for row in csv.DictReader(file)]


def assert_restored(run: Path, iteration: int) -> None:
    expected = np.load(run / "checkpoints" / f"{iteration:07d}.npz")["vertices"]
    np.testing.assert_array_equal(carried(load_model(run))[-1], expected)


@pytest.mark.parametrize(("patience", "last"), [(2, 8), (9, 16)])
def test_a_run_ends_early_or_not_and_leaves_its_best_weights(
    patience: int,
    last: int,
    views_file: Path,
    tmp_path: Path,
    no_store: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    follow_script(monkeypatch)
    out = tmp_path / "out"
    train(views_file, watching(f"early_stopping.patience={patience}"), out, {"front": views_file})
    assert column(out / "history.csv", "iteration") == list(range(1, last + 1))
    assert column(out / "validation.csv", "iteration")[::2] == list(range(2, last + 1, 2))
    assert_restored(out, 4)
    told = capsys.readouterr().err
    assert "train 3.0000  front 3.0000" in told
    assert ("stopped at iteration 8: no gain on 'front' in 2 checks" in told) == (last == 8)


def test_a_stopped_run_goes_on_with_its_patience_and_its_best_weights(
    views_file: Path, tmp_path: Path, no_store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow_script(monkeypatch)
    out, config = tmp_path / "out", watching("early_stopping.patience=2")
    evaluate, calls = loop.evaluate, iter(range(100))

    def acting(*arguments: Any) -> dict[str, torch.Tensor]:
        if next(calls) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments)

    monkeypatch.setattr(loop, "evaluate", acting)
    with pytest.raises(SystemExit):
        train(views_file, config, out, {"front": views_file}, Options(quiet=True))
    save_views(sphere_views(2, 16), tmp_path / "other.npz")
    with pytest.raises(ReconError, match="another training: digest of --validation front is"):
        train(views_file, config, out, {"front": tmp_path / "other.npz"}, Options(quiet=True))
    train(views_file, config, out, {"front": views_file}, Options(quiet=True))
    assert column(out / "history.csv", "iteration") == list(range(1, 9))
    assert_restored(out, 4)
    # A run that is over writes the same files again.
    train(views_file, config, out, {"front": views_file}, Options(quiet=True))
    assert_restored(out, 4)


def test_a_set_that_is_not_given_is_refused_before_anything_is_written(views_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="no validation set 'front'; there are: full"):
        train(views_file, watching(), tmp_path / "out", {"full": views_file}, Options(quiet=True))
    assert not (tmp_path / "out").exists()

import math
from pathlib import Path

import pytest
import torch
from shapes import sphere_views

from recon.config import StoppingConfig, load_config
from recon.errors import ReconError
from recon.surface.model import Model
from recon.training.initialise import initial_model
from recon.training.stopping import EarlyStopping, check_watched


@pytest.fixture
def model() -> Model:
    config = load_config(None, ["train.levels=[1]", "surface.width=8", "background=constant"])
    return initial_model(config, sphere_views(2, 12), torch.device("cpu"))


def mark(model: Model, value: float) -> None:
    with torch.no_grad():
        assert model.background is not None
        model.background.fill_(value)


def marked(model: Model) -> float:
    assert model.background is not None
    return model.background[0].item()


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

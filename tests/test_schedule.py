import sys

import pytest

from recon.config import TrainConfig, load_config
from recon.errors import ReconError
from recon.training.progress_line import ProgressLine, clock, panel
from recon.training.schedule import Progress, learning_rate, level


def test_levels_share_the_run_equally() -> None:
    config = TrainConfig(levels=(3, 4, 4, 5))
    assert [level(config, f) for f in (0.0, 0.2, 0.25, 0.5, 0.74, 0.75, 1.0)] == [3, 3, 4, 4, 4, 5, 5]


def test_cosine_falls_to_a_hundredth() -> None:
    config = TrainConfig(learning_rate=0.01)
    assert learning_rate(config, 0.0) == pytest.approx(0.01)
    assert learning_rate(config, 0.5) == pytest.approx(0.01 * (0.01 + 0.99 / 2))
    assert learning_rate(config, 1.0) == pytest.approx(0.0001)
    assert learning_rate(TrainConfig(learning_rate=0.01, schedule="constant"), 0.7) == 0.01


def test_steps_fall_by_a_factor_at_each_milestone() -> None:
    config = TrainConfig(learning_rate=0.01, schedule="step", milestones=(0.5, 0.75), gamma=0.1)
    rates = [learning_rate(config, fraction) for fraction in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])
    assert learning_rate(TrainConfig(learning_rate=0.01, schedule="step", gamma=1), 0.9) == 0.01


@pytest.mark.parametrize(
    "override", ["milestones=[]", "milestones=[1.0]", "milestones=[0]", "gamma=0", "schedule=steps"]
)
def test_bad_steps_are_refused(override: str) -> None:
    with pytest.raises(ReconError, match=rf"key 'train\.{override.partition('=')[0]}"):
        load_config(None, [f"train.{override}"])


def test_progress_by_iterations() -> None:
    progress = Progress(iterations=200)
    assert progress.fraction == 0
    progress.iteration = 50
    assert progress.fraction == 0.25
    progress.iteration = 300
    assert progress.fraction == 1


def test_progress_by_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("recon.training.schedule.time.monotonic", lambda: now)
    progress = Progress(iterations=10, budget=60.0, _started=now)
    progress.iteration = 10**6  # iterations do not count with a budget
    now = 115.0
    assert progress.fraction == 0.25
    assert progress.seconds_left == 45
    now = 1000.0
    assert progress.fraction == 1


def test_what_is_left_follows_from_the_pace_and_not_from_what_came_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("recon.training.schedule.time.monotonic", lambda: now)
    progress = Progress(iterations=100, _started=now)
    now, progress.iteration = 130.0, 1  # half a minute to get ready
    assert progress.seconds_left == float("inf")
    now, progress.iteration = 134.0, 3
    assert progress.seconds_left == 2 * 97
    progress.resume(50, 1000.0)
    assert progress.seconds_left == float("inf")
    now, progress.iteration = 144.0, 60
    assert progress.seconds_left == 40


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (725, "12:05"), (3723, "1:02:03"), (float("inf"), "?")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(float(seconds)) == text


def test_panel_lines_are_equally_long() -> None:
    lines = panel("recon", [("mesh", "a"), ("history", "a longer value")]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "a longer value" in lines[2]


def test_a_log_gets_a_line_for_what_is_done_and_one_now_and_then_for_how_far_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ProgressLine()
    line.say("looking at 2 views")
    line.update(0.25, 50, 0.125, 3, 90.0)
    line.update(0.26, 52, 0.125, 3, 89.0)  # a moment later
    line.close()
    shown = capsys.readouterr().err
    assert shown == "recon: looking at 2 views\n 25%  iteration 50  loss 0.12500  level 3  1:30 left\n"


def test_on_a_terminal_how_far_it_is_takes_the_place_of_what_was_and_is_gone_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = ProgressLine()
    line.say("looking at 2 views")
    line.show(0.5, "frame 1 of 2")
    line.close()
    line.close()
    shown = capsys.readouterr().err.split("\r\x1b[K")
    assert shown == ["recon: looking at 2 views\n", " 50%  frame 1 of 2", ""]


def test_what_is_done_now_takes_the_live_line_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = ProgressLine()
    line.show(0.5, "frame 1 of 2")
    line.say("writing")
    print("recon: warning: other lines begin where a line begins", file=sys.stderr)
    clear = "\r\x1b[K"
    assert capsys.readouterr().err == (
        f"{clear} 50%  frame 1 of 2{clear}recon: writing\nrecon: warning: other lines begin where a line begins\n"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_a_quiet_line_shows_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    line = ProgressLine(quiet=True)
    line.say("looking at 2 views")
    line.show(0.5, "frame 1 of 2")
    line.close()
    assert capsys.readouterr().err == ""

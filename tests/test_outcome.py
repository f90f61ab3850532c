"""A training that got nowhere is told of, and one that got somewhere is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from shapes import bumpy, ring, sphere_views

from recon.background.black import before_black
from recon.camera import Cameras
from recon.config import RunConfig, load_config
from recon.render.renderer import render
from recon.report.page import report_page
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.outcome import Fit, advice, got_nowhere, mean_of_others, measured, outcome
from recon.training.run import Options, train
from recon.training.schedule import Progress
from recon.views import Views, save_views

CPU = torch.device("cpu")
TINY = ["surface.cells=[4,8]", "surface.steps=4", "train.levels=[2]", "render.samples=1", "train.checkpoints=2"]
GOOD = Fit(0.4, 0.005, 0.04, 0.02, 0.13, 0.97)


def tiny(iterations: int, *overrides: str) -> RunConfig:
    return load_config(None, [*TINY, f"train.iterations={iterations}", *overrides])


def lit_by_a_lamp(count: int = 8, size: int = 32) -> Views:
    """Photographs of a bumpy object by a lamp that stands still, in which nothing says so."""
    cameras = ring(count, size, size)
    lamp = torch.tensor([[3.0, 2.0, 3.0, 1.0]]).repeat(count, 1)
    vertices, faces = bumpy(4)
    lit = render(vertices, faces, replace(cameras, lights=lamp), albedo=torch.ones_like(vertices), samples=2)
    images = (lit.radiance / lit.radiance.max()).numpy()
    views = sphere_views(count, size)
    masks = (lit.alpha >= 0.5).to(torch.uint8).numpy() * 255
    return replace(views, images=images, masks=masks)


def fit_of(views: Views, config: RunConfig) -> Fit:
    model = initial_model(config, views, CPU)
    fit(Optimisation(model, TrainingData.from_views(views, CPU), Progress(config.train.iterations)), lambda step: None)
    with torch.no_grad():
        shown = model.render(model.mesh(model.export_level), Cameras.from_views(views)).radiance.clamp(0, 1).numpy()
    return measured(model, views, views, float(np.abs(shown - views.images).mean()))


def test_the_mean_of_the_others_leaves_the_view_itself_out() -> None:
    views = sphere_views(3, 16)
    mean, known = mean_of_others(views, views.select(np.array([1])))
    np.testing.assert_allclose(mean[0], (views.images[0] + views.images[2]) / 2, atol=1e-6)
    assert known.all()


def test_pixels_that_nothing_else_shows_do_not_count() -> None:
    views = sphere_views(2, 16)
    shown = np.full((2, 16, 16), 255, np.uint8)
    shown[0, :4] = 0
    shown[1, -4:] = 0
    mean, known = mean_of_others(replace(views, known=shown), replace(views, known=shown))
    assert not known[:, :4].any() and not known[:, -4:].any() and known[:, 4:-4].all()
    np.testing.assert_allclose(mean[0, 4:-4], views.images[1, 4:-4], atol=1e-6)


def test_one_view_has_no_mean_to_compare_with() -> None:
    views = sphere_views(1, 16)
    assert not mean_of_others(views, views)[1].any()
    assert got_nowhere(GOOD._replace(mean_error=np.nan, covered_mean_error=np.nan, overlap=None)) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (GOOD._replace(moved=0.004, overlap=0.8), "still the sphere (its points moved by 0.4% of the radius)"),
        (GOOD._replace(moved=0.004, overlap=None), "still the sphere"),
        (GOOD._replace(error=0.05, overlap=0.8), "its error of 0.050 is worse than 0.040, the mean picture's"),
        (GOOD._replace(error=0.05, overlap=None), "its error of 0.050 is worse than 0.040, the mean picture's"),
        (GOOD._replace(covered_error=0.2, overlap=None), "the surface is, its error of 0.200 is worse than 0.130"),
        (GOOD._replace(overlap=0.6), "its outlines miss the masks (IoU 0.60)"),
        (GOOD._replace(covered_error=np.nan, covered_mean_error=np.nan), "the surface covers no pixel"),
    ],
)
def test_each_sign_is_told(found: Fit, said: str) -> None:
    assert len(got_nowhere(found)) == 1 and said in got_nowhere(found)[0]


@pytest.mark.parametrize(
    "found",
    [
        GOOD,
        GOOD._replace(overlap=None),
        # An object that is the sphere, all of whose views are alike, in noise.
        GOOD._replace(moved=0.001, error=0.021, mean_error=0.02, covered_error=0.021, covered_mean_error=0.02),
        # A plain ball before black, without masks.
        Fit(0.4, 0.006, 0.0, 0.008, 0.0, None),
    ],
)
def test_what_got_somewhere_is_left_in_peace(found: Fit) -> None:
    assert got_nowhere(found) == []
    assert outcome(found, tiny(20), sphere_views(3, 16), 1) is None


@pytest.mark.slow
def test_good_trainings_are_left_in_peace() -> None:
    ball = sphere_views()
    assert got_nowhere(fit_of(ball, tiny(150, "train.learning_rate=5e-3"))) == []
    # Without masks the mean picture of a ball is as good as any.
    assert got_nowhere(fit_of(replace(ball, masks=None), tiny(150, "train.learning_rate=5e-3"))) == []


@pytest.mark.slow
def test_a_lamp_that_stands_still_leads_nowhere_and_is_told() -> None:
    found = fit_of(lit_by_a_lamp(), tiny(100))
    assert found.overlap is not None and found.overlap < 0.7
    assert any("miss the masks" in sign for sign in got_nowhere(found))


def test_the_advice_fits_the_case() -> None:
    views = sphere_views(6, 32)
    assert "3 of 20 iterations" in advice(tiny(20), views, 3)[0] and "recon inspect" in advice(tiny(20), views, 3)[-1]
    assert len(advice(tiny(20), views, 20)) == 1  # before black, with time enough
    room = replace(views, masks=None, images=np.maximum(views.images, np.float32(0.3)))
    assert "background=field" in advice(tiny(20), room, 20)[0]
    assert "background=field" not in " ".join(advice(tiny(20, "background=field"), room, 20))
    masked = replace(views, images=np.maximum(views.images, np.float32(0.3)))
    assert len(advice(tiny(20), before_black(masked), 20)) == 1


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, store_uri: str) -> dict[str, Path]:
    """A training on photographs by a lamp that ends at once, and one that finds its ball."""
    folder, found = tmp_path_factory.mktemp("outcome"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store_uri)
        for name, views, config in (
            ("lost", lit_by_a_lamp(), tiny(2)),
            ("good", sphere_views(), tiny(150, "train.learning_rate=5e-3")),
        ):
            save_views(views, folder / f"{name}.npz")
            found[name] = folder / name
            train(folder / f"{name}.npz", config, folder / name, options=Options(quiet=True))
    return found


def retrained(run: Path, config: RunConfig) -> None:
    train(run.with_suffix(".npz"), config, run, options=Options(quiet=True))


@pytest.mark.slow
def test_the_end_of_a_lost_training_is_one_line(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    retrained(runs["lost"], tiny(2))  # it is over, and writes its files again
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"recon: warning: {runs['lost']}: the training got nowhere: ")
    assert "recon inspect" in lines[0]
    retrained(runs["good"], tiny(150, "train.learning_rate=5e-3"))
    assert "nowhere" not in capsys.readouterr().err


@pytest.mark.slow
def test_the_report_and_mlflow_have_the_mark(runs: dict[str, Path], store_uri: str) -> None:
    client = MlflowClient(tracking_uri=store_uri)
    for name, marked in (("lost", True), ("good", False)):
        assert ("the training got nowhere" in report_page([runs[name]])) == marked
        tags = client.get_run((runs[name] / "run_id.txt").read_text().strip()).data.tags
        assert ("recon.got_nowhere" in tags) == marked


@pytest.mark.slow
def test_a_training_anew_loses_the_mark(runs: dict[str, Path], store_uri: str) -> None:
    run = runs["lost"]
    save_views(sphere_views(), run.with_suffix(".npz"))
    config = tiny(150, "train.learning_rate=5e-3")
    train(run.with_suffix(".npz"), config, run, options=Options(quiet=True, restart="always"))
    assert "the training got nowhere" not in report_page([run])
    tags = MlflowClient(tracking_uri=store_uri).get_run((run / "run_id.txt").read_text().strip()).data.tags
    assert "recon.got_nowhere" not in tags

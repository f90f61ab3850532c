"""Iterations as they are recorded for a CUDA graph; on a CPU, the same steps one by one."""

import pytest
import torch
from shapes import sphere_views

import recon.training.loop as loop
from recon.config import RunConfig, load_config
from recon.errors import ReconError
from recon.training.data import TrainingData
from recon.training.draws import StagedDraws
from recon.training.graph import Recorded, Terms
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, Step, fit
from recon.training.schedule import Progress
from recon.views import Views

CPU = torch.device("cpu")
DEVICES = [pytest.param(CPU, id="cpu"), pytest.param(torch.device("cuda", 0), id="cuda", marks=pytest.mark.cuda)]
on_devices = pytest.mark.parametrize("device", DEVICES)
SMALL = [
    "surface.cells=[2,4]",
    "surface.steps=2",
    "train.levels=[1,2]",
    "train.views_per_iteration=2",
    "render.samples=1",
    "loss.velocity_points=16",
    "train.iterations=8",
]


@pytest.fixture(scope="module")
def views() -> Views:
    return sphere_views(4, 20)


def start(views: Views, config: RunConfig, recorded: bool, device: torch.device = CPU) -> Optimisation:
    data = TrainingData.from_views(views, device)
    return Optimisation(initial_model(config, views, device), data, Progress(config.train.iterations), recorded)


def course(optimisation: Optimisation) -> list[Step]:
    steps: list[Step] = []
    fit(optimisation, steps.append)
    return [step._replace(seconds=0.0) for step in steps]


@on_devices
@pytest.mark.parametrize(
    "options",
    [[], ["train.crop.size=10"], ["train.crop.size=10", "train.crop.mode=inside"], ["reflectance=varying"]],
    ids=["whole", "crops", "inside", "varying"],
)
def test_recorded_iterations_are_those_that_are_not(views: Views, options: list[str], device: torch.device) -> None:
    """The same numbers are drawn, and the same is done with them; only step sizes are in single precision."""
    config = load_config(None, [*SMALL, *options])
    usual, recorded = (start(views, config, each, device) for each in (False, True))
    for mine, theirs in zip(course(recorded), course(usual), strict=True):
        assert mine.terms == pytest.approx(theirs.terms, rel=1e-4)
        assert mine._replace(terms={}, loss=0) == theirs._replace(terms={}, loss=0)
    for name, value in usual.model.state_dict().items():
        torch.testing.assert_close(recorded.model.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    assert torch.equal(recorded.state_dict()["random"]["generator"], usual.state_dict()["random"]["generator"])


@on_devices
def test_what_a_recorded_iteration_did_is_known_one_later(views: Views, device: torch.device) -> None:
    optimisation = start(views, load_config(None, SMALL), recorded=True, device=device)
    assert optimisation.step() is None
    second = optimisation.step()
    assert second is not None and second.iteration == 1
    last = optimisation.settle()
    assert last is not None and last.iteration == 2
    assert optimisation.settle() is None


@on_devices
@pytest.mark.parametrize(
    "options",
    [[], ["surface.representation=mlp", "reflectance=varying", "train.crop.size=10"]],
    ids=["default", "networks"],
)
def test_a_recorded_training_goes_on_bit_for_bit(views: Views, options: list[str], device: torch.device) -> None:
    config = load_config(None, [*SMALL, *options])
    whole = start(views, config, recorded=True, device=device)
    fit(whole, lambda step: None)
    first = start(views, config, recorded=True, device=device)
    for _ in range(3):
        first.step()
    first.settle()
    second = start(views, config, recorded=True, device=device)
    second.load_state_dict(first.state_dict())
    fit(second, lambda step: None)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda value: value * float("inf"), "iteration 3: loss term 'velocity' is inf"),
        (lambda value: (value.detach() - value).sqrt() + 1, "iteration 3: the gradient of loss term 'velocity'"),
    ],
    ids=["loss", "gradient"],
)
def test_an_iteration_that_is_not_finite_changes_nothing(
    views: Views, monkeypatch: pytest.MonkeyPatch, spoil: object, message: str
) -> None:
    config = load_config(None, SMALL)
    optimisation, usual = (start(views, config, recorded) for recorded in (True, False))
    for _ in range(3):
        usual.step()
    evaluate = loop.evaluate

    def failing(model: object, *arguments: object) -> dict[str, torch.Tensor]:
        terms = evaluate(model, *arguments)
        late = optimisation.progress.iteration >= 3
        return terms | {"velocity": spoil(terms["velocity"])} if late else terms

    monkeypatch.setattr(loop, "evaluate", failing)
    with pytest.raises(ReconError, match=message):
        fit(optimisation, lambda step: None)
    assert optimisation.progress.iteration == 3
    before, after = usual.state_dict(), optimisation.state_dict()
    for name, value in before["model"].items():
        assert torch.equal(after["model"][name], value), name
    assert torch.equal(after["random"]["generator"], before["random"]["generator"])
    assert torch.equal(after["random"]["queue"], before["random"]["queue"])
    for index, averages in before["optimizer"]["state"].items():
        assert all(torch.equal(after["optimizer"]["state"][index][key], value) for key, value in averages.items())
    # And it goes on from there, once what was wrong is mended.
    monkeypatch.setattr(loop, "evaluate", evaluate)
    assert [step.iteration for step in course(optimisation)] == [4, 5, 6, 7, 8]


@pytest.mark.cuda
def test_a_training_on_cuda_is_recorded(views: Views) -> None:
    """And stays so: nothing in it could not be."""
    config = load_config(None, SMALL)
    device = torch.device("cuda", 0)
    data = TrainingData.from_views(views, device)
    optimisation = Optimisation(initial_model(config, views, device), data, Progress(8))
    fit(optimisation, lambda step: None)
    assert optimisation.recorded


@pytest.mark.parametrize("level", [1, 2])
def test_what_cannot_be_recorded_is_taken_step_by_step(
    views: Views, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], level: int
) -> None:
    """With one line, and nothing lost or drawn twice, be it from the start or from a later level on."""
    record = Recorded.record

    def failing(self: Recorded, situation: tuple[int, int], terms: Terms) -> None:
        if situation[0] == level:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        record(self, situation, terms)

    config = load_config(None, SMALL)
    usual = start(views, config, recorded=False)
    monkeypatch.setattr(Recorded, "record", failing)
    optimisation = start(views, config, recorded=True)
    for mine, theirs in zip(course(optimisation), course(usual), strict=True):
        assert mine.terms == pytest.approx(theirs.terms, rel=1e-4)
        assert mine._replace(terms={}, loss=0) == theirs._replace(terms={}, loss=0)
    assert not optimisation.recorded
    assert capsys.readouterr().err == (
        "recon: iterations cannot be recorded, and are taken step by step: "
        "operation not permitted when stream is capturing\n"
    )


def test_staged_numbers_are_those_that_would_be_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = StagedDraws(generator, CPU, 8)
    kinds = [lambda g: torch.rand(2, 2, generator=g), lambda g: torch.randint(1 << 40, (3,), generator=g)]
    places = [draws.take(kind) for kind in kinds]
    assert [place.dtype for place in places] == [torch.float32, torch.int64]
    plain = torch.Generator().manual_seed(0)
    assert all(torch.equal(place, kind(plain)) for place, kind in zip(places, kinds, strict=True))
    draws.renew()
    expected = torch.cat([kind(plain).double().flatten() for kind in kinds])
    assert torch.equal(draws.buffer[:7], expected)

import csv
import dataclasses
import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
import yaml
from shapes import sphere_views

import recon.training.loop as loop
from recon.camera import Cameras
from recon.config import RunConfig, load_config
from recon.errors import ReconError
from recon.model.file import load_model, save_model
from recon.model.model import Model
from recon.run_folder import VERSION
from recon.training.data import Shuffled, TrainingData, random_rotation
from recon.training.initialise import initial_model
from recon.training.recorder import shrunk
from recon.training.run import Options, read_inputs, train
from recon.training.schedule import Progress
from recon.views import Views, save_views

TINY = ["surface.cells=[4,8]", "surface.steps=4", "train.levels=[2]", "render.samples=1", "train.checkpoints=2"]
CPU = torch.device("cpu")


def tiny(iterations: int = 20, *overrides: str) -> RunConfig:
    return load_config(None, [*TINY, f"train.iterations={iterations}", *overrides])


def fitted(config: RunConfig, views: Views, steps: list[loop.Step] | None = None) -> Model:
    model = initial_model(config, views, CPU)
    record = [] if steps is None else steps
    loop.fit(optimisation(model, views, Progress(config.train.iterations)), record.append)
    return model


def optimisation(model: Model, views: Views, progress: Progress) -> loop.Optimisation:
    return loop.Optimisation(model, TrainingData.from_views(views, CPU), progress)


@pytest.fixture(scope="module")
def views() -> Views:
    return sphere_views()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, views: Views, store_uri: str) -> Path:
    """One complete run with a validation set in a frame of its own."""
    folder = tmp_path_factory.mktemp("run")
    other = np.diag([2.0, 2, 2, 1])
    other[:3, 3] = [0.1, -0.2, 0.3]
    save_views(views, folder / "train.npz")
    save_views(moved(sphere_views(3), other), folder / "other.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store_uri)
        config = tiny(150, "train.learning_rate=5e-3")
        train(
            folder / "train.npz", config, folder / "out", {"other": folder / "other.npz"}, options=Options(quiet=True)
        )
    return folder / "out"


def moved(views: Views, unit_from_new: np.ndarray) -> Views:
    """The same photographs in another unit frame."""
    scale = unit_from_new[0, 0]
    poses = np.linalg.inv(unit_from_new) @ views.camera_to_world
    poses[:, :3, :3] *= scale
    return Views(
        views.images / 2, poses, views.intrinsics, views.masks, 2 * views.radiance_scale, unit_from_new, views.metadata
    )


def rows(path: Path) -> list[dict[str, Any]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_everything_that_was_promised(run: Path) -> None:
    for name in ("mesh.ply", "mesh.glb", "model.pt", "train.yaml", "history.csv", "validation.csv", "run_id.txt"):
        assert (run / name).stat().st_size > 0
    assert yaml.safe_load((run / "train.yaml").read_text())["train"]["iterations"] == 150
    history = rows(run / "history.csv")
    assert [int(row["iteration"]) for row in history] == list(range(1, 151))
    assert {"seconds", "level", "learning_rate", "loss", "image", "velocity"} < set(history[0])
    assert len(list(run.glob(".*"))) == 0  # nothing temporary stays


def test_the_ball_is_found(run: Path) -> None:
    mesh = trimesh.load_mesh(run / "mesh.ply")
    assert mesh.is_watertight
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.6, atol=0.06)


def test_a_validation_set_in_another_frame_is_measured_in_the_same_units(run: Path) -> None:
    last = {row["set"]: float(row["mean_absolute_error"]) for row in rows(run / "validation.csv")}
    assert last["other"] == pytest.approx(last["train"], rel=0.5)
    assert last["train"] < 0.01


def test_the_mlflow_run_has_parameters_metrics_and_artifacts(run: Path, store_uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store_uri)
    record = client.get_run((run / "run_id.txt").read_text().strip())
    assert record.info.status == "FINISHED"
    assert record.data.params["train.learning_rate"] == "0.005"
    assert {"train/loss", "train/image", "train/velocity", "val/other/mean_absolute_error"} <= set(record.data.metrics)
    assert len(client.get_metric_history(record.info.run_id, "train/loss")) == 150
    names = {item.path for item in client.list_artifacts(record.info.run_id)}
    assert {"mesh.ply", "mesh.glb", "model.pt", "train.yaml"} <= names


def test_the_model_comes_back_as_it_was(run: Path, tmp_path: Path) -> None:
    model = load_model(run)
    assert model.config == tiny(150, "train.learning_rate=5e-3")
    mesh = trimesh.load_mesh(run / "mesh.ply", process=False)
    np.testing.assert_allclose(model.mesh(2).vertices.detach(), mesh.vertices, atol=1e-6)
    save_model(model, tmp_path / "model.pt")
    assert torch.equal(load_model(tmp_path).mesh(1).vertices, model.mesh(1).vertices)


def test_the_flow_keeps_orientation(run: Path) -> None:
    assert load_model(run).jacobian_determinants(2).min() > 0


def test_the_same_seed_gives_the_same_run(views: Views) -> None:
    first, second, other = [], [], []
    fitted(tiny(8), views, first)
    fitted(tiny(8), views, second)
    fitted(tiny(8, "train.seed=1"), views, other)
    assert [step.loss for step in first] == [step.loss for step in second]
    assert [step.loss for step in first] != [step.loss for step in other]


@pytest.mark.parametrize(
    "override",
    [
        "train.crop={size: 12}",
        "train.crop={size: 20, mode: uniform}",
        "reflectance=varying",
        "reflectance=microfacet",
        "background=constant",
        "surface.integrator=rk4",
        "train.random_rotation=false",
        "loss.velocity=0",
        "loss.velocity_alpha=0",
        "loss.silhouette=1",
        "loss.laplacian=0.1",
    ],
)
def test_every_option_trains(views: Views, override: str) -> None:
    steps: list[loop.Step] = []
    fitted(tiny(30, override, "train.learning_rate=3e-3"), views, steps)
    image = [step.terms["image"] for step in steps]
    assert np.mean(image[-5:]) < np.mean(image[:5])


def test_the_budget_ends_the_run(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(10**9, "train.levels=[0,2]")
    steps: list[loop.Step] = []
    ticks = itertools.count()
    monkeypatch.setattr("recon.training.schedule.time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    progress = Progress(config.train.iterations, budget=1.0)
    progress.resume(0, 0.0)
    loop.fit(optimisation(initial_model(config, views, CPU), views, progress), steps.append)
    assert steps[0].level == 0
    assert steps[-1].level == 2
    assert steps[-1].learning_rate < 0.1 * steps[0].learning_rate


def test_divergence_names_iteration_and_term(views: Views) -> None:
    config = tiny(5)
    model = initial_model(config, views, CPU)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.reflectance.log_albedo.fill_(float("nan"))
    with pytest.raises(ReconError, match="iteration 0: loss term 'image' is nan"):
        loop.fit(optimisation(model, views, Progress(5)), lambda step: None)
    assert torch.equal(model.velocity.grids[0], before["velocity.grids.0"])


def test_a_failed_run_keeps_the_last_checkpoint_and_writes_no_mesh(
    views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_views(views, tmp_path / "v.npz")
    evaluate, calls = loop.evaluate, iter(range(100))

    def failing(*arguments: Any) -> dict[str, torch.Tensor]:
        terms = evaluate(*arguments)
        return terms if next(calls) < 12 else terms | {"velocity": terms["velocity"] * float("inf")}

    monkeypatch.setattr(loop, "evaluate", failing)
    with pytest.raises(ReconError, match="iteration 12: loss term 'velocity' is inf"):
        train(tmp_path / "v.npz", tiny(20), tmp_path / "out", options=Options(quiet=True))
    assert load_model(tmp_path / "out" / "checkpoints").device == CPU
    assert not (tmp_path / "out" / "mesh.ply").exists()
    assert len(rows(tmp_path / "out" / "history.csv")) == 12


def test_a_crop_larger_than_the_images_is_refused(views: Views, tmp_path: Path) -> None:
    save_views(views, tmp_path / "v.npz")
    with pytest.raises(ReconError, match="'train.crop.size': 33 pixels, but the images of .*v.npz are 32 x 32"):
        train(tmp_path / "v.npz", tiny(5, "train.crop.size=33"), tmp_path / "out", options=Options(quiet=True))
    assert not (tmp_path / "out").exists()


def test_black_images_are_refused(views: Views) -> None:
    black = Views(0 * views.images, views.camera_to_world, views.intrinsics)
    with pytest.raises(ReconError, match="black"):
        initial_model(tiny(), black, CPU)


def test_views_come_in_turn() -> None:
    batches = Shuffled(10, 4, torch.Generator().manual_seed(0))
    seen = torch.cat([next(batches) for _ in range(5)])
    assert seen.bincount().tolist() == [2] * 10


def test_random_rotations_are_rotations() -> None:
    rotation = random_rotation(torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double(), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model"])
def test_a_damaged_model_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ReconError, match="model.pt: not a readable model"):
        load_model(tmp_path)


def test_a_truncated_model_is_named(run: Path, tmp_path: Path) -> None:
    content = (run / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ReconError, match="model.pt: not a readable model"):
        load_model(tmp_path)


def test_a_missing_or_foreign_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="no such file; `recon train` writes it"):
        load_model(tmp_path)
    torch.save({"weights": {}}, tmp_path / "model.pt")
    with pytest.raises(ReconError, match="not a recon model"):
        load_model(tmp_path)
    torch.save({"format": VERSION, "config": {}, "radiance_scale": 1.0}, tmp_path / "model.pt")
    with pytest.raises(ReconError, match="holds no model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("radiance_scale", "much", "holds no model of this version"),
        ("radiance_scale", -1.0, "key 'radiance_scale' must be a positive number"),
        ("world_from_unit", torch.diag(torch.tensor([1.0, 2, 1, 1])), "key 'world_from_unit' must be a similarity"),
    ],
)
def test_a_model_with_an_odd_frame_is_named(run: Path, tmp_path: Path, key: str, value: object, message: str) -> None:
    content = torch.load(run / "model.pt", weights_only=True)
    torch.save({**content, key: value}, tmp_path / "model.pt")
    with pytest.raises(ReconError, match=message):
        load_model(tmp_path)


def test_a_model_of_an_earlier_format_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"format": 1, "config": {}, "weights": {}}, tmp_path / "model.pt")
    with pytest.raises(ReconError, match="model.pt: a model of format 1, which an earlier version of recon wrote"):
        load_model(tmp_path)


def test_a_validation_set_called_train_is_the_training_set(views: Views, tmp_path: Path) -> None:
    """Its check must be that of the views that are fitted; `recon validate` takes the name too."""
    save_views(views, tmp_path / "v.npz")
    save_views(views, tmp_path / "copy.npz")
    save_views(views.select(np.array([0])), tmp_path / "other.npz")
    config = tiny(5)
    inputs = read_inputs(tmp_path / "v.npz", config, {"train": tmp_path / "copy.npz"}, None)
    assert list(inputs.sets) == ["train"]
    with pytest.raises(ReconError, match="other.npz: 'train' is the name of the views that are fitted, and these are"):
        read_inputs(tmp_path / "v.npz", config, {"train": tmp_path / "other.npz"}, None)


@pytest.mark.parametrize("name", ["surface", "certificate", "turntable"])
def test_a_validation_set_with_the_name_of_a_file_is_refused_before_training(
    name: str, views: Views, tmp_path: Path
) -> None:
    save_views(views, tmp_path / "v.npz")
    with pytest.raises(ReconError, match=f"--validation {name}=…: the name is that of a file"):
        train(tmp_path / "v.npz", tiny(5), tmp_path / "out", {name: tmp_path / "v.npz"})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("masked", [True, False])
def test_the_first_guess_has_the_colour_of_the_object(masked: bool, views: Views) -> None:
    colored = dataclasses.replace(views, images=views.images * np.float32([1, 0.5, 0.25]))
    if not masked:
        colored = dataclasses.replace(colored, masks=None)
    albedo = initial_model(tiny(5), colored, torch.device("cpu")).reflectance.log_albedo.exp()
    torch.testing.assert_close(albedo / albedo.max(), torch.tensor([1, 0.5, 0.25]), atol=0.01, rtol=0)
    grey = initial_model(tiny(5), views, torch.device("cpu")).reflectance.log_albedo
    assert grey.unique().numel() == 1


def test_checkpoints_before_a_field_are_of_small_views() -> None:
    """Averages of the photographs, by cameras that see the same; a pixel that is unknown in part is unknown."""
    views = sphere_views(2, 256)
    known = np.full((2, 256, 256), 255, np.uint8)
    known[:, 0, 0] = 0
    small = shrunk(replace(views, known=known))
    assert small.images.shape == (2, 128, 128, 3)
    expected = views.images.reshape(2, 128, 2, 128, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(small.images, expected, atol=1e-6)
    assert small.known is not None and small.masks is not None
    assert (small.known == 0).sum() == 2 and small.known[0, 0, 0] == 0
    point = torch.tensor([[0.1, 0.2, 0.3]])
    there, here = (Cameras.from_views(each).project(point)[..., :2] for each in (views, small))
    torch.testing.assert_close(here, there / 2)
    assert shrunk(small) is small


@pytest.mark.slow
def test_large_views_before_a_field_are_trained_on_to_the_end(tmp_path: Path) -> None:
    views = sphere_views(4, 160)
    save_views(replace(views, images=views.images.clip(0.2), masks=None), tmp_path / "v.npz")
    tiny = ["train.iterations=3", "train.levels=[1]", "render.samples=1", "surface.cells=[4]", "field.resolution=4"]
    config = load_config(None, ["background=field", "field.samples=2", "export.texture=16", *tiny])
    train(tmp_path / "v.npz", config, tmp_path / "run", options=Options(quiet=True))
    assert (tmp_path / "run" / "mesh.glb").exists()

import dataclasses
import hashlib
import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
import trimesh
from shapes import ring

from recon.background.black import before_black, shows_more_than_black
from recon.camera import Cameras
from recon.config import RunConfig
from recon.errors import ReconError
from recon.evaluation import match as matching
from recon.evaluation.fingerprint import fingerprint
from recon.evaluation.validate import validate
from recon.files import read_npz
from recon.images.metrics import image_metrics
from recon.model.export import write_meshes
from recon.model.file import load_model, save_model
from recon.model.model import Model
from recon.training.run import read_inputs
from recon.views import Views, save_views

SCALE = 3.0
LEVEL = 3


@pytest.fixture(autouse=True)
def short_film(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.evaluation.turntable.FRAMES", 2)
    monkeypatch.setattr("recon.evaluation.turntable.SIZE", 16)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    config = RunConfig.model_validate({"train": {"levels": [2, LEVEL]}, "surface": {"width": 8, "steps": 2}})
    world_from_unit = np.diag([SCALE, SCALE, SCALE, 1.0])
    world_from_unit[:3, 3] = (1, -2, 5)
    return Model(config, world_from_unit, radiance_scale=4.0, brightness=2.0)


@pytest.fixture(scope="module")
def run(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_model(model, folder / "model.pt")
    write_meshes(model, folder)
    return folder


@pytest.fixture(scope="module")
def views(model: Model) -> Views:
    """What the model itself predicts, in its frame."""
    cameras = ring(5, 24, 32)
    with torch.no_grad():
        rendering = model.render(model.mesh(LEVEL), cameras)
    return Views(
        images=rendering.radiance.numpy(),
        masks=(rendering.alpha >= 0.5).to(torch.uint8).numpy() * 255,
        camera_to_world=orthonormal(cameras.camera_to_world.double().numpy()),
        intrinsics=cameras.intrinsics.double().numpy(),
        radiance_scale=4.0,
        world_from_unit=model.world_from_unit,
    )


def orthonormal(poses: np.ndarray) -> np.ndarray:
    u, _, v = np.linalg.svd(poses[:, :3, :3])
    poses[:, :3, :3] = u @ v
    return poses


def in_another_frame(views: Views) -> Views:
    """The same photographs as a separate extraction would have them: other unit frame, other scale."""
    other = np.eye(4)
    other[:3, :3] = 0.5 * trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])[:3, :3]
    other[:3, 3] = (0.3, 0.1, -2)
    return views.aligned_to(SimpleNamespace(world_from_unit=other, radiance_scale=1.5))


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_model_predicts_its_own_renders(run: Path, views: Views, tmp_path: Path) -> None:
    save_views(views, tmp_path / "views.npz")
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out")
    found = read(tmp_path / "out" / "front.json")
    assert (found["set"], found["views"], found["height"], found["width"], found["level"]) == (
        "front",
        5,
        24,
        32,
        LEVEL,
    )
    assert found["mean"]["mean_absolute_error"] < 1e-6
    assert found["mean"]["psnr"] > 80
    assert found["mean"]["mask_iou"] == 1
    assert len(found["per_view"]) == 5
    assert read(tmp_path / "out" / "certificate.json")["genus"] == 0
    assert not (tmp_path / "out" / "geometry.json").exists()
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_what_was_published_goes_with_the_set_that_the_scene_says_and_not_with_a_name(
    run: Path, views: Views, tmp_path: Path
) -> None:
    told = {"set": "front", "settings": {"published": {"front": 0.01, "full": 0.02}}}
    save_views(dataclasses.replace(views, metadata=told), tmp_path / "scene.npz")
    save_views(dataclasses.replace(views, metadata={"set": "front", "settings": {}}), tmp_path / "own.npz")
    sets = {"full": tmp_path / "scene.npz", "front": tmp_path / "own.npz"}
    validate(run, sets, tmp_path / "out")
    assert read(tmp_path / "out" / "full.json")["published"] == 0.01
    assert "published" not in read(tmp_path / "out" / "front.json")


def test_a_published_loss_that_is_no_number_is_one_line(run: Path, views: Views, tmp_path: Path) -> None:
    told = {"set": "front", "settings": {"published": {"front": "low"}}}
    save_views(dataclasses.replace(views, metadata=told), tmp_path / "views.npz")
    with pytest.raises(
        ReconError, match=r"views\.npz: key 'metadata', 'settings.published' must hold positive numbers, got 'low'"
    ):
        validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out")
    assert not (tmp_path / "out" / "front.json").exists()


def test_a_set_with_its_own_frame_and_radiance_scale_is_measured_alike(run: Path, views: Views, tmp_path: Path) -> None:
    brighter = dataclasses.replace(views, images=views.images * np.float32(1.1))
    for name, each in {"same": brighter, "other": in_another_frame(brighter)}.items():
        save_views(each, tmp_path / f"{name}.npz")
    validate(run, {name: tmp_path / f"{name}.npz" for name in ("same", "other")}, tmp_path / "out")
    same, other = (read(tmp_path / "out" / f"{name}.json")["mean"] for name in ("same", "other"))
    assert same["mean_absolute_error"] > 1e-3
    assert other["mean_absolute_error"] == pytest.approx(same["mean_absolute_error"], rel=1e-3)
    assert other["mask_iou"] == pytest.approx(1, abs=0.01)


def test_the_mean_does_not_depend_on_batches(
    run: Path, views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_views(dataclasses.replace(views, images=views.images[::-1].copy()), tmp_path / "views.npz")
    found = []
    for pixels in (10**6, 2 * 24 * 32, 1):
        monkeypatch.setattr(matching, "PIXELS_AT_ONCE", pixels)
        validate(run, {"set": tmp_path / "views.npz"}, tmp_path / "out")
        found.append(read(tmp_path / "out" / "set.json"))
    for other in found[1:]:
        assert other["mean"] == pytest.approx(found[0]["mean"], rel=1e-5)
    errors = [view["mean_absolute_error"] for view in found[0]["per_view"]]
    assert found[0]["mean"]["mean_absolute_error"] == pytest.approx(sum(errors) / 5)


def test_the_exported_mesh_as_reference_is_at_no_distance(run: Path, views: Views, tmp_path: Path) -> None:
    save_views(views, tmp_path / "views.npz")
    validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out", reference=run / "mesh.ply")
    geometry = read(tmp_path / "out" / "geometry.json")
    assert geometry["chamfer"] < 1e-5
    assert geometry["f_score_0_5"] == 1
    assert geometry["diagonal"] > SCALE


def test_views_without_masks_have_no_mask_iou(run: Path, views: Views, tmp_path: Path) -> None:
    save_views(dataclasses.replace(views, masks=None), tmp_path / "views.npz")
    validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out")
    assert "mask_iou" not in read(tmp_path / "out" / "front.json")["mean"]


def test_json_has_null_for_the_ssim_of_tiny_images(
    run: Path, views: Views, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = dataclasses.replace(views, images=views.images[:, :8, :8].copy(), masks=None)
    save_views(tiny, tmp_path / "views.npz")
    validate(run, {"tiny": tmp_path / "views.npz"}, tmp_path / "out")
    assert read(tmp_path / "out" / "tiny.json")["mean"]["ssim"] is None
    assert "tiny" in capsys.readouterr().out


@pytest.mark.parametrize("tone", ["clamp", "scale"])
def test_an_overshoot_is_the_brightest_of_the_picture(run: Path, views: Views, tmp_path: Path, tone: str) -> None:
    images = np.zeros_like(views.images)
    images[:, 8:16, 8:16] = 1.3
    save_views(dataclasses.replace(views, images=images), tmp_path / "views.npz")
    validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out", tone=tone)
    sheet = imageio.imread(tmp_path / "out" / "front.png")
    assert sheet.shape[2] == 4
    # The top third shows the photographs: the overshoot is a white block in each.
    white = (sheet[: len(sheet) // 3] == 255).all(axis=2)
    assert white.sum() > 5 * 40**2


def test_a_table_of_all_sets_is_printed(
    run: Path, views: Views, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_views(views, tmp_path / "views.npz")
    validate(run, {"front": tmp_path / "views.npz", "above": tmp_path / "views.npz"}, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["viewpoint", "front", "above", "mesh:"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "geometry", "certificate"])
def test_names_that_are_no_file_names(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ReconError, match="plain file name"):
        validate(run, {name: tmp_path / "views.npz"}, tmp_path / "out")


def test_bad_inputs_leave_nothing_behind(run: Path, views: Views, tmp_path: Path) -> None:
    good, broken = tmp_path / "good.npz", tmp_path / "broken.npz"
    save_views(views, good)
    broken.write_bytes(good.read_bytes()[:200])
    (tmp_path / "empty.ply").write_text("ply\n")
    out = tmp_path / "out"
    with pytest.raises(ReconError, match=r"nowhere/model.pt: no such file"):
        validate(tmp_path / "nowhere", {"front": good}, out)
    with pytest.raises(ReconError, match=r"broken.npz"):
        validate(run, {"front": good, "above": broken}, out)
    with pytest.raises(ReconError, match=r"empty.ply"):
        validate(run, {"front": good}, out, reference=tmp_path / "empty.ply")
    assert list(out.iterdir()) == []


def test_an_output_folder_that_is_a_file(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ReconError, match="out: cannot be written"):
        validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out")


def test_a_model_that_is_not_finite(model: Model, views: Views, tmp_path: Path) -> None:
    spoilt = Model(model.config, model.world_from_unit, 4.0)
    with torch.no_grad():
        next(spoilt.velocity.parameters()).fill_(torch.nan)
    save_model(spoilt, tmp_path / "model.pt")
    save_views(views, tmp_path / "views.npz")
    with pytest.raises(ReconError, match="model.pt: the model gives vertices or reflectance that are not finite"):
        validate(tmp_path, {"front": tmp_path / "views.npz"}, tmp_path / "out")


def test_paint_that_is_not_finite(model: Model, views: Views, tmp_path: Path) -> None:
    """What rendering interpolates of textures are places on the sphere, which are finite whatever the paint is."""
    config = model.config.model_copy(update={"reflectance": "varying"})
    spoilt = Model(config, model.world_from_unit, 4.0)
    with torch.no_grad():
        next(spoilt.reflectance.paint.parameters()).fill_(torch.nan)  # type: ignore[union-attr, operator]
    save_model(spoilt, tmp_path / "model.pt")
    save_views(views, tmp_path / "views.npz")
    with pytest.raises(ReconError, match="model.pt: the model gives vertices or reflectance that are not finite"):
        validate(tmp_path, {"front": tmp_path / "views.npz"}, tmp_path / "out")


def lit_outside(views: Views) -> Views:
    """The same object in front of a grey wall."""
    assert views.masks is not None
    wall = np.where(views.masks[..., None] == 0, np.float32(0.3), np.float32(0))
    return dataclasses.replace(views, images=views.images + wall)


def test_validation_compares_with_the_images_that_training_fits(
    run: Path, views: Views, model: Model, tmp_path: Path
) -> None:
    lit = lit_outside(views)
    save_views(lit, tmp_path / "views.npz")
    inputs = read_inputs(tmp_path / "views.npz", model.config, {"same": tmp_path / "views.npz"}, None)
    validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out")
    found = read(tmp_path / "out" / "front.json")
    assert found["outside_masks"] == "black"
    for fitted in (inputs.views, inputs.sets["same"]):
        np.testing.assert_array_equal(fitted.images, before_black(lit).images)
        with torch.no_grad():
            prediction = model.render(model.mesh(LEVEL), Cameras.from_views(fitted)).radiance
        error = image_metrics(prediction, torch.from_numpy(fitted.images))["mean_absolute_error"].mean().item()
        assert found["mean"]["mean_absolute_error"] == pytest.approx(error, abs=1e-7)
    # The picture of the photograph is of what was compared.
    assert imageio.imread(tmp_path / "out" / "front" / "000_truth.png")[0, 0].tolist() == [0, 0, 0]


def test_photographs_stay_where_masks_or_light_outside_are_missing(run: Path, views: Views, tmp_path: Path) -> None:
    save_views(views, tmp_path / "black.npz")
    save_views(dataclasses.replace(lit_outside(views), masks=None), tmp_path / "bare.npz")
    validate(run, {name: tmp_path / f"{name}.npz" for name in ("black", "bare")}, tmp_path / "out")
    for name, low in (("black", 0), ("bare", 0.05)):
        found = read(tmp_path / "out" / f"{name}.json")
        assert found["outside_masks"] == "as photographed" and found["mean"]["mean_absolute_error"] >= low


def test_what_counts_as_black_is_measured_in_the_models_light(views: Views) -> None:
    dim = dataclasses.replace(lit_outside(views), radiance_scale=1e-2)
    assert shows_more_than_black(dim) and not shows_more_than_black(dim, 10.0)


def test_a_model_with_a_background_sees_the_photographs(views: Views, tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {"train": {"levels": [LEVEL]}, "surface": {"width": 8, "steps": 2}, "background": "constant"}
    )
    model = Model(config, views.world_from_unit, 4.0)
    save_model(model, tmp_path / "model.pt")
    write_meshes(model, tmp_path)
    save_views(lit_outside(views), tmp_path / "views.npz")
    validate(tmp_path, {"front": tmp_path / "views.npz"}, tmp_path / "out")
    assert read(tmp_path / "out" / "front.json")["outside_masks"] == "as photographed"


def test_an_earlier_validation_goes_and_other_peoples_files_stay(run: Path, views: Views, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save_views(views, tmp_path / "views.npz")
    validate(run, {"front": tmp_path / "views.npz", "full": tmp_path / "views.npz"}, out, reference=run / "mesh.ply")
    (out / "full" / "notes.txt").write_text("mine")
    (out / "above.json").write_text('{"mine": 1}')
    (out / "above.png").write_text("mine")
    (out / "list.json").write_text("[1]")
    validate(run, {"front": tmp_path / "views.npz"}, out)
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("front.json", "front.png", "front", "certificate.json", "surface.npz", "overshoot.npz", "turntable.gif"),
        *("relit.gif", "holes.json", "full", "above.json", "above.png", "list.json"),
    }
    assert [path.name for path in (out / "full").iterdir()] == ["notes.txt"]


def test_a_bad_input_leaves_the_earlier_validation(run: Path, views: Views, tmp_path: Path) -> None:
    save_views(views, tmp_path / "views.npz")
    validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out")
    with pytest.raises(ReconError):
        validate(run, {"front": tmp_path / "views.npz", "full": tmp_path / "none.npz"}, tmp_path / "out")
    assert (tmp_path / "out" / "front.json").exists()


def test_every_file_of_numbers_names_its_model(run: Path, views: Views, tmp_path: Path) -> None:
    save_views(views, tmp_path / "views.npz")
    validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out", reference=run / "mesh.ply")
    digest = hashlib.sha256((run / "model.pt").read_bytes()).hexdigest()
    for name in ("front.json", "certificate.json", "geometry.json"):
        assert read(tmp_path / "out" / name)["model"] == digest
    for name in ("surface.npz", "overshoot.npz"):
        assert str(read_npz(tmp_path / "out" / name)["model"]) == digest


def test_a_model_that_is_written_again_keeps_its_fingerprint(run: Path, tmp_path: Path) -> None:
    save_model(load_model(run), tmp_path / "model.pt")
    assert fingerprint(tmp_path) == fingerprint(run)
    assert fingerprint(tmp_path / "nowhere") is None


def test_a_prediction_that_is_not_finite_is_named(run: Path, views: Views, tmp_path: Path, monkeypatch) -> None:
    save_views(views, tmp_path / "views.npz")
    render = Model.render

    def spoilt(self: Model, *args: object) -> object:
        rendering = render(self, *args)
        rendering.radiance[-1, 3, 3] = torch.nan
        return rendering

    monkeypatch.setattr(Model, "render", spoilt)
    monkeypatch.setattr(matching, "PIXELS_AT_ONCE", 2 * 24 * 32)
    with pytest.raises(ReconError, match=r"model.pt: .* not finite in view 1 of 'front'"):
        validate(run, {"front": tmp_path / "views.npz"}, tmp_path / "out")


def test_memory_does_not_grow_with_the_views(
    run: Path, views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "PIXELS_AT_ONCE", 3 * 64 * views.height * views.width)
    peaks = []
    # The first imports what it needs; and of eight views on the sheet of examples is full.
    for count in (3, 8, 20):
        index = np.arange(count) % len(views)
        large = np.repeat(np.repeat(views.images[index], 8, axis=1), 8, axis=2)
        intrinsics = views.intrinsics[index] * np.array([8, 8, 1])[:, None]
        poses = views.camera_to_world[index]
        save_views(
            dataclasses.replace(views, images=large, masks=None, intrinsics=intrinsics, camera_to_world=poses),
            tmp_path / f"{count}.npz",
        )
        tracemalloc.start()
        validate(run, {"front": tmp_path / f"{count}.npz"}, tmp_path / "out")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 4e6


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("world_from_unit", torch.zeros(4, 4, dtype=torch.float64)),
        ("world_from_unit", torch.full((4, 4), torch.nan, dtype=torch.float64)),
        ("world_from_unit", torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))),
        ("world_from_unit", torch.eye(3, dtype=torch.float64)),
        ("radiance_scale", 0.0),
        ("radiance_scale", float("nan")),
    ],
)
def test_a_model_without_a_frame_is_one_line(run: Path, tmp_path: Path, key: str, value: object) -> None:
    content = torch.load(run / "model.pt", weights_only=True)
    torch.save(content | {key: value}, tmp_path / "model.pt")
    with pytest.raises(ReconError, match=f"model.pt: .*'{key}'"):
        validate(tmp_path, {"front": tmp_path / "views.npz"}, tmp_path / "out")

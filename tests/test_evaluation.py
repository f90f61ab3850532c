import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
import trimesh
from shapes import ring

from recon.config import RunConfig
from recon.errors import ReconError
from recon.evaluation import match as matching
from recon.evaluation.validate import validate
from recon.model.export import write_meshes
from recon.model.file import save_model
from recon.model.model import Model
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
        masks=(rendering.coverage >= 0.5).to(torch.uint8).numpy() * 255,
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

"""DiLiGenT-MV: a folder in its layout, rendered from a known mesh under known lights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import trimesh
from scipy.io import savemat
from shapes import bumpy

from recon.camera import Cameras, intrinsics_from_fov
from recon.capture.diligent import views_from_diligent
from recon.capture.extract import extract
from recon.capture.paths import arc
from recon.cli import main
from recon.config import load_config
from recon.errors import ReconError
from recon.model.model import Model
from recon.render.renderer import render
from recon.training.data import TrainingData
from recon.training.initialise import initial_model
from recon.training.loop import Optimisation, fit
from recon.training.run import Options, train
from recon.training.schedule import Progress
from recon.views import load_views

SIZE = 32
CENTER = np.array([30.0, -20.0, 50.0])
MILLIMETRES = 100.0
AXES = np.diag([1.0, -1.0, -1.0])
LIGHTS = np.array([[0, 0, 1.0], [0.6, 0, 0.8], [-0.5, 0.3, 0.8], [0, 0.9, 0.4], [0.1, -0.7, 0.7]])
LIGHTS /= np.linalg.norm(LIGHTS, axis=1, keepdims=True)
NEAR = [0, 1, 2, 4]
"""Lights whose cosine is above 0.65."""

INTENSITIES = np.array([[2.0, 1.5, 1], [1, 1, 1], [0.5, 1, 2], [1, 2, 1], [3, 1, 1]])


class Capture:
    """A bumpy ball of 60 mm, four cameras and five lights fixed to each of them."""

    def __init__(self) -> None:
        unit, faces = bumpy(3)
        self.vertices, self.faces = MILLIMETRES * unit.double().numpy() + CENTER, faces
        self.poses = arc(4, 3 * MILLIMETRES, (-90.0, 180.0), (-20.0, 30.0))
        self.poses[:, :3, 3] += CENTER
        self.matrix = intrinsics_from_fov(40.0, SIZE, SIZE)
        self.matrix[:2, 2] += [1.25, -0.5]
        self.directions = np.einsum("vij,lj->vli", self.poses[:, :3, :3] @ AXES, LIGHTS)
        cameras = Cameras(
            torch.tensor(self.poses).repeat_interleave(5, 0),
            torch.tensor(self.matrix).expand(20, 3, 3),
            SIZE,
            SIZE,
            torch.tensor(np.pad(self.directions.reshape(-1, 3), ((0, 0), (0, 1)))),
        )
        points = torch.tensor(self.vertices)
        albedo = torch.tensor([0.8, 0.6, 0.4]).double().expand(len(points), 3)
        image = render(points, faces, cameras, albedo=albedo, samples=2)
        self.images = image.radiance.view(4, 5, SIZE, SIZE, 3).numpy()
        self.masks = (image.alpha.view(4, 5, SIZE, SIZE)[:, 0] > 0.5).numpy()

    def write(self, folder: Path) -> Path:
        folder.mkdir()
        mat: dict[str, Any] = {"KK": self.matrix - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], "kc": np.zeros(5)}
        for i, pose in enumerate(self.poses):
            rotation = pose[:3, :3].T
            mat |= {f"Rc_{i + 1}": rotation, f"Tc_{i + 1}": -rotation @ pose[:3, 3:]}
            view = folder / f"view_{i + 1:02d}"
            view.mkdir()
            cv2.imwrite(str(view / "mask.png"), self.masks[i].astype(np.uint8) * 255)
            np.savetxt(view / "light_directions.txt", LIGHTS)
            np.savetxt(view / "light_intensities.txt", INTENSITIES)
            for k in range(5):
                write_picture(view / f"{k + 1:03d}.png", self.images[i, k] * INTENSITIES[k] / 3)
        savemat(folder / "Calib_Results.mat", mat)
        return folder


def write_picture(path: Path, color: np.ndarray) -> None:
    cv2.imwrite(str(path), np.rint(color * 65535).astype(np.uint16)[..., ::-1])


@pytest.fixture(scope="module")
def capture() -> Capture:
    return Capture()


@pytest.fixture
def ball(tmp_path: Path, capture: Capture) -> Path:
    return capture.write(tmp_path / "ballPNG")


def test_near_lights_are_chosen_and_their_power_taken_out(ball: Path, capture: Capture, tmp_path: Path) -> None:
    extract(ball, tmp_path / "v.npz")
    views = load_views(tmp_path / "v.npz")
    assert len(views) == 16 and views.masks is not None and views.light_position is None
    assert np.array_equal(views.masks[::4] > 0, capture.masks)
    expected = capture.images[:, NEAR].reshape(-1, SIZE, SIZE, 3) / 3
    assert np.allclose(views.images * views.radiance_scale, expected, atol=2e-5)
    assert np.allclose(views.light_direction, capture.directions[:, NEAR].reshape(-1, 3), atol=1e-9)
    assert np.allclose(views.intrinsics, capture.matrix)
    assert views.metadata["set"] == "ball"
    assert views.metadata["settings"]["pictures"][:5] == [
        f"view_0{v}/00{i}.png" for v, i in ("11", "12", "13", "15", "21")
    ]


def test_the_true_mesh_under_the_kept_lights_gives_the_images(ball: Path, capture: Capture) -> None:
    views = views_from_diligent(ball, "ball")
    unit = trimesh.transform_points(capture.vertices, np.linalg.inv(views.world_from_unit))
    assert 0.6 < np.linalg.norm(unit, axis=1).max() < 1
    albedo = torch.tensor([0.8, 0.6, 0.4]).expand(len(unit), 3) / (3 * views.radiance_scale)
    image = render(torch.tensor(unit).float(), capture.faces, Cameras.from_views(views), albedo=albedo, samples=2)
    assert np.abs(image.radiance.numpy() - views.images).mean() < 1e-4


def test_a_light_on_the_right_brightens_the_right(ball: Path, capture: Capture) -> None:
    image = views_from_diligent(ball, "ball").images[1].sum(axis=2)  # view 1 under the light (0.6, 0, 0.8)
    assert image[:, SIZE // 2 :].sum() > 1.3 * image[:, : SIZE // 2].sum()


def test_the_threshold_is_an_option(ball: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(ball), "--out", str(tmp_path / "v.npz"), "--light-cosine", "0.95"]) == 0
    assert len(load_views(tmp_path / "v.npz")) == 4
    (tmp_path / "s.yaml").write_text("")
    assert main(["extract", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "w.npz"), "--light-cosine", "0.5"]) == 2
    assert "'--light-cosine' goes with the folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["extract", str(ball), "--out", str(tmp_path / "w.npz"), "--light-cosine", "2"])


def test_names_of_a_list_and_lights_of_the_whole_object(ball: Path) -> None:
    before = views_from_diligent(ball, "x")
    for view in sorted(ball.glob("view_*")):
        for k in range(5):
            (view / f"{k + 1:03d}.png").rename(view / f"light{k}.png")
        (view / "filenames.txt").write_text("".join(f"light{k}.png\n" for k in range(5)))
        for name in ("light_directions.txt", "light_intensities.txt"):
            (view / name).rename(ball / name)
    after = views_from_diligent(ball, "x")
    assert np.array_equal(after.images, before.images)
    assert np.array_equal(after.light_direction, before.light_direction)


def test_a_set_like_another_shares_its_frame(ball: Path, tmp_path: Path) -> None:
    extract(ball, tmp_path / "all.npz")
    extract(ball, tmp_path / "few.npz", like=tmp_path / "all.npz", light_cosine=0.9)
    every, few = load_views(tmp_path / "all.npz"), load_views(tmp_path / "few.npz")
    assert np.array_equal(few.world_from_unit, every.world_from_unit)
    assert np.array_equal(few.images, every.images[::4])


def error_of_whole_views(model: Model, data: TrainingData) -> float:
    """Not of random windows, whose error depends on where they fall."""
    with torch.no_grad():
        rendering = model.render(model.mesh(2), data.cameras)
    return (rendering.radiance - data.images).abs().mean().item()


def test_training_lowers_the_error(ball: Path) -> None:
    views = views_from_diligent(ball, "ball")
    small = ["surface.cells=[4,8]", "surface.steps=4", "train.levels=[2]", "render.samples=1", "loss.fold=0"]
    config = load_config(None, [*small, "train.iterations=40", "train.crop.size=24", "reflectance=microfacet"])
    cpu = torch.device("cpu")
    model, data = initial_model(config, views, cpu), TrainingData.from_views(views, cpu)
    before = error_of_whole_views(model, data)
    fit(Optimisation(model, data, Progress(40)), lambda step: None)
    assert error_of_whole_views(model, data) < 0.7 * before


def test_a_field_around_it_is_refused(ball: Path, tmp_path: Path) -> None:
    extract(ball, tmp_path / "v.npz")
    with pytest.raises(ReconError, match="v.npz: has key 'light_direction', but 'background: field'"):
        train(
            tmp_path / "v.npz", load_config(None, ["background=field"]), tmp_path / "run", options=Options(quiet=True)
        )
    assert not (tmp_path / "run").exists()


def test_the_whole_data_set_names_its_objects(ball: Path, tmp_path: Path) -> None:
    (tmp_path / "DiLiGenT-MV" / "mvpmsData").mkdir(parents=True)
    ball.rename(tmp_path / "DiLiGenT-MV" / "mvpmsData" / "bearPNG")
    for folder in (tmp_path / "DiLiGenT-MV", tmp_path / "DiLiGenT-MV" / "mvpmsData"):
        with pytest.raises(ReconError, match="choose one of its objects: bearPNG"):
            extract(folder, tmp_path / "v.npz")


Edit = Callable[[Path], object]


def _mat(**changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        from scipy.io import loadmat

        content = {key: value for key, value in loadmat(folder / "Calib_Results.mat").items() if key[0] != "_"}
        content |= changes
        savemat(folder / "Calib_Results.mat", {key: value for key, value in content.items() if value is not None})

    return edit


def _text(name: str, content: str) -> Edit:
    return lambda folder: (folder / "view_02" / name).write_text(content)


def _remove(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()


BAD: dict[str, tuple[Edit, str]] = {
    "no calibration": (_remove("Calib_Results.mat"), "Calib_Results.mat: no such file; expected the cameras"),
    "calibration is text": (
        lambda folder: (folder / "Calib_Results.mat").write_text("nonsense" * 99),
        "Calib_Results.mat: not a readable MATLAB file",
    ),
    "calibration truncated": (
        lambda folder: (folder / "Calib_Results.mat").write_bytes((folder / "Calib_Results.mat").read_bytes()[:400]),
        "Calib_Results.mat: not a readable MATLAB file",
    ),
    "no KK": (_mat(KK=None), "key 'KK' is missing"),
    "no Rc": (_mat(Rc_3=None), "Calib_Results.mat: key 'Rc_3' is missing"),
    "no Tc": (_mat(Tc_2=None), "key 'Tc_2' is missing"),
    "Tc of two numbers": (_mat(Tc_2=np.zeros(2)), r"key 'Tc_2' must hold finite numbers of shape \(3,\)"),
    "Tc not finite": (_mat(Tc_2=np.array([0, np.nan, 1])), "key 'Tc_2' must hold finite numbers"),
    "Rc no rotation": (_mat(Rc_2=np.ones((3, 3))), "key 'Rc_2': .* no rotation"),
    "KK no pinhole": (_mat(KK=-np.eye(3)), "key 'KK' must be"),
    "picture missing": (_remove("view_02/002.png"), "view_02: has 4 pictures, expected 5, one a light"),
    "mask missing": (_remove("view_02/mask.png"), "view_02/mask.png: no such picture"),
    "directions missing": (_remove("view_02/light_directions.txt"), "light_directions.txt: no such file"),
    "directions of two": (_text("light_directions.txt", "0 1\n" * 5), "light_directions.txt: must hold three finite"),
    "directions of words": (_text("light_directions.txt", "a b c\n" * 5), "light_directions.txt: must hold three"),
    "direction zero": (_text("light_directions.txt", "0 0 1\n" * 4 + "0 0 0"), "light_directions.txt: line 5: is no"),
    "lights far": (_text("light_directions.txt", "0 1 0.1\n" * 5), r"above 0.65; the nearest has 0.0995"),
    "fewer intensities": (_text("light_intensities.txt", "1 1 1\n" * 4), "light_intensities.txt: has 4 lights, .* 5"),
    "intensity zero": (_text("light_intensities.txt", "1 1 1\n" * 4 + "1 0 1"), "line 5: intensities must be positive"),
    "list of others": (_text("filenames.txt", "none.png\n" * 5), "view_02/none.png: no such picture"),
    "picture of another size": (
        lambda folder: write_picture(folder / "view_02" / "002.png", np.ones((8, 9, 3))),
        "view_02/002.png: has 9x8 pixels, expected 32x32",
    ),
    "mask of another size": (
        lambda folder: cv2.imwrite(str(folder / "view_02" / "mask.png"), np.full((8, 9), 255, np.uint8)),
        "view_02/mask.png: has 9x8 pixels, expected 32x32",
    ),
    "picture broken": (
        lambda folder: (folder / "view_02" / "002.png").write_bytes(b"nonsense"),
        "view_02/002.png: not a readable picture",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(ball: Path, tmp_path: Path, case: str) -> None:
    edit, message = BAD[case]
    edit(ball)
    with pytest.raises(ReconError, match=message) as caught:
        extract(ball, tmp_path / "out.npz")
    assert "\n" not in str(caught.value) and not (tmp_path / "out.npz").exists()

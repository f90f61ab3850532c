"""`recon render`: pictures of a run's object from any camera in any light."""

import dataclasses
import importlib.util
import struct
from pathlib import Path
from typing import Any

import cv2
import imageio.v3 as imageio
import numpy as np
import OpenEXR
import pytest
import torch
from shapes import ring, sphere_views

from recon import cli
from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.capture.keyframes import Keyframes, write_keyframes
from recon.config import RunConfig
from recon.errors import ReconError
from recon.images.photograph import read_picture
from recon.model.file import save_model
from recon.model.model import Model, SurfaceMesh
from recon.relighting.environment_map import EnvironmentMap, read_environment_map
from recon.relighting.exposure import BRIGHT, metered_gain
from recon.relighting.film import frames_to
from recon.relighting.lights import Light, create_light, parse_light
from recon.relighting.paths import Stands, cameras_along, curve, resized
from recon.relighting.picture import Studio
from recon.render.lighting import ShadowedLights
from recon.render.renderer import render
from recon.run_folder import MODEL, RunFolder
from recon.views import Views, save_views

WORLD_FROM_UNIT = np.array([[0.0, -2, 0, 10], [2, 0, 0, -4], [0, 0, 2, 1], [0, 0, 0, 1]])
"""Twice as large, a quarter turn about z, and elsewhere."""


def model_of(**config: Any) -> Model:
    """The unit sphere, with a brightness of one half."""
    settings = RunConfig.model_validate({"train": {"levels": [2]}, **config})
    return Model(settings, WORLD_FROM_UNIT, radiance_scale=3.0, brightness=0.5).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_model(model_of(), RunFolder(folder).file(MODEL))
    return folder


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three views of 24x16 pixels of the place where the object is."""
    cameras = ring(3, 16, 24, radius=4.0)
    plain = sphere_views(3, 24)
    path = tmp_path_factory.mktemp("views") / "views.npz"
    poses = cameras.camera_to_world.double().numpy()
    poses[:, 3] = [0, 0, 0, 1]
    images = np.ascontiguousarray(plain.images[:, :16])
    save_views(
        Views(images, poses, cameras.intrinsics.double().numpy(), world_from_unit=WORLD_FROM_UNIT, radiance_scale=3.0),
        path,
    )
    return path


def sky(path: Path, height: int = 16) -> Path:
    """Bright above, dark below, and a sun; RGBE has eight bits and one exponent for all colours."""
    radiance = np.full((height, 2 * height, 3), 0.25, np.float32)
    radiance[: height // 2] = [0.5, 1, 2]
    radiance[height // 4, height] = 64
    if path.suffix == ".exr":
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": radiance}).write(str(path))
    else:
        cv2.imwrite(str(path), radiance[..., ::-1])
    return path


def mesh_of(model: Model, level: int = 3) -> SurfaceMesh:
    with torch.no_grad():
        return model.mesh(level)


def level_camera(height: int, width: int) -> Cameras:
    """On the unit frame's x axis, looking at the origin."""
    pose = look_at(np.array([[4.0, 0, 0]]), np.zeros(3), np.array([0, 0, 1.0]))
    intrinsics = intrinsics_from_fov(49.0, height, width)[None]
    return Cameras(torch.from_numpy(pose).float(), torch.from_numpy(intrinsics).float(), height, width)


@pytest.fixture(autouse=True)
def small_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth maps as coarse as the pictures."""
    monkeypatch.setattr("recon.relighting.lights.LARGEST_MAP", 64)
    monkeypatch.setattr("recon.relighting.lights.POINT_MAP", 128)


# Environments


def test_the_middle_of_an_environment_is_seen_along_x_and_minus_y_is_to_its_right() -> None:
    radiance = np.zeros((64, 128, 3), np.float32)
    radiance[31:33, 63:65] = [1, 0, 0]
    radiance[31:33, 95:97] = [0, 1, 0]
    radiance[0] = [0, 0, 1]
    seen = EnvironmentMap(radiance).seen(np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, 1], [-1, 0, 0]]))
    np.testing.assert_allclose(seen, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], atol=1e-6)


def test_directions_come_from_where_the_light_is() -> None:
    radiance = np.zeros((32, 64, 3), np.float32)
    radiance[8, 48] = 5  # 47.8 degrees from z, a quarter to the right of +x
    sample = EnvironmentMap(radiance).sample(64)
    polar, beyond = np.pi * 8.5 / 32, np.pi / 64  # the pixel's middle is half a pixel beyond -y
    middle = np.array([-np.sin(beyond) * np.sin(polar), -np.cos(beyond) * np.sin(polar), np.cos(polar)])
    assert (sample.directions @ (middle)).min() > np.cos(np.radians(4.5))
    np.testing.assert_allclose(np.linalg.norm(sample.directions, axis=1), 1)


def test_an_environment_s_samples_stand_for_all_of_it() -> None:
    """Their sum is the integral of radiance; weighted by a function, the integral of both on average."""
    rng = np.random.default_rng(0)
    radiance = rng.gamma(0.3, size=(16, 32, 3)).astype(np.float32)
    environment = EnvironmentMap(radiance)
    edges = np.cos(np.linspace(0, np.pi, 17))
    solid = (edges[:-1] - edges[1:])[:, None] * 2 * np.pi / 32
    total = (radiance * solid[..., None]).sum(axis=(0, 1))
    np.testing.assert_allclose(environment.mean * 4 * np.pi, total.mean(), rtol=1e-5)
    samples = [environment.sample(512, seed) for seed in range(40)]
    for sample in samples:  # brightness is what is drawn by: of that no sample is off
        np.testing.assert_allclose(sample.irradiance.sum(axis=0).mean(), total.mean(), rtol=1e-5)
    height = (edges[:-1] + edges[1:])[:, None] / 2
    expected = (radiance * (solid * height)[..., None]).sum(axis=(0, 1))
    found = np.mean([(each.irradiance * each.directions[:, 2:]).sum(axis=0) for each in samples], axis=0)
    np.testing.assert_allclose(found, expected, atol=2e-3 * total.mean())
    np.testing.assert_allclose(environment.sample(100).directions, environment.sample(100).directions)


def test_a_ball_in_a_white_furnace_has_its_albedo_everywhere() -> None:
    """Under the same radiance L from all sides a convex matt surface shows L times its albedo: here, where attributes
    are albedo times intensity over pi, pi L times its attribute."""
    model = model_of()
    mesh = mesh_of(model)
    path_light = EnvironmentMap(np.ones((8, 16, 3), np.float32))
    light = _light(path_light, model, mesh, 256)
    picture = Studio(model, mesh, light, "black").picture(ring(1, 32, 32, radius=4.0), samples=1)
    inside = picture[..., 3] > 0.999
    shown = picture[inside][:, :3] / (light.gain * np.pi * 0.5)
    assert inside.sum() > 100
    np.testing.assert_allclose(shown.mean(), 1, atol=3e-3)
    np.testing.assert_allclose(shown, 1, atol=0.03)


def _light(environment: EnvironmentMap, model: Model, mesh: SurfaceMesh, samples: int) -> Light:
    from recon.relighting import lights

    return lights._environment(environment, model, mesh, 1.0, samples)


def test_an_environment_is_as_bright_as_the_flash_from_the_turntable(tmp_path: Path) -> None:
    model = model_of()
    mesh = mesh_of(model)
    light = create_light(sky(tmp_path / "sky.exr"), model, mesh, 2.0, 64)
    assert light.environment is not None
    assert np.pi * light.environment.mean * light.gain == pytest.approx(2 / 2.7**2, rel=1e-3)


@pytest.mark.parametrize("suffix", [".hdr", ".exr"])
def test_light_from_above_in_the_source_s_frame_lights_the_top(tmp_path: Path, suffix: str) -> None:
    model = model_of()
    mesh = mesh_of(model)
    light = create_light(sky(tmp_path / f"sky{suffix}"), model, mesh, 1.0, 32)
    picture = Studio(model, mesh, light, "black").picture(level_camera(32, 32), samples=1)
    above, below, left, right = (
        picture[row, column, :3].mean() for row, column in ((9, 16), (22, 16), (16, 9), (16, 22))
    )
    assert above > 2 * below
    # The sun, straight ahead of +x of the world: -y of the unit frame, to the left of a camera on its x axis.
    assert left > 1.2 * right


def test_the_environment_is_seen_behind_the_object(tmp_path: Path) -> None:
    model = model_of()
    mesh = mesh_of(model)
    light = create_light(sky(tmp_path / "sky.exr"), model, mesh, 1.0, 1)
    studio = Studio(model, mesh, light, "environment")
    picture = studio.picture(level_camera(32, 64), samples=1) / light.gain
    np.testing.assert_allclose(picture[1, 1, :3], [0.5, 1, 2], rtol=1e-3)
    np.testing.assert_allclose(picture[-2, 1, :3], 0.25, rtol=1e-3)
    assert (picture[..., 3] * light.gain == 1).all()


@pytest.mark.parametrize(
    ("name", "shape", "value", "message"),
    [
        ("square.exr", (8, 8), 1.0, "8x8 pixels; an equirectangular picture is twice as wide as high"),
        ("black.hdr", (8, 16), 0.0, "black all over"),
        ("black.exr", (8, 16), -1.0, "black all over"),
        ("photo.png", (8, 16), 1.0, "expected linear radiance, as .hdr or .exr hold it"),
    ],
)
def test_what_is_no_environment(
    tmp_path: Path, run: Path, name: str, shape: tuple[int, int], value: float, message: str
) -> None:
    path = tmp_path / name
    radiance = np.full((*shape, 3), value, np.float32)
    if name.endswith(".exr"):
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": radiance}).write(str(path))
    else:
        cv2.imwrite(str(path), radiance)
    with pytest.raises(ReconError, match=f"{name}: not an environment: .*{message}"):
        read_environment_map(path)


def test_files_that_are_called_an_environment(tmp_path: Path) -> None:
    for name in ("a.hdr", "a.exr"):
        (tmp_path / name).write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 8 +X 16\n" if "hdr" in name else b"x")
        with pytest.raises(ReconError, match="not a readable"):
            read_environment_map(tmp_path / name)


def test_radiance_files_are_linear_pictures(tmp_path: Path) -> None:
    color = read_picture(sky(tmp_path / "sky.hdr"), "srgb").color
    np.testing.assert_allclose(color[0, 0], [0.5, 1, 2], rtol=0.01)


# Cameras


def test_a_turntable_goes_around_the_object_and_holds_it(tmp_path: Path) -> None:
    model = model_of()
    mesh = SurfaceMesh(0.3 * mesh_of(model).vertices + torch.tensor([0.2, 0.1, -0.3]), *mesh_of(model)[1:])
    cameras = cameras_along("turntable", model, mesh, (64, 40), 8)
    assert (len(cameras), cameras.width, cameras.height) == (8, 64, 40)
    middle = torch.tensor([0.2, 0.1, -0.3])
    torch.testing.assert_close((cameras.centers - middle).norm(dim=1), torch.full((8,), 2.7 * 0.3), atol=1e-3, rtol=0)
    torch.testing.assert_close(cameras.centers.mean(0)[:2], middle[:2], atol=1e-3, rtol=0)
    x, y, depth = cameras.project(mesh.vertices).unbind(-1)
    assert x.min() > 10 and x.max() < 54 and y.min() > 0 and y.max() < 40 and depth.min() > 0
    assert y.max() - y.min() > 30


def test_cameras_of_views_and_keyframes_are_those_of_the_source(tmp_path: Path, views: Path) -> None:
    model = model_of()
    mesh = mesh_of(model)
    of_views = cameras_along(views, model, mesh, None, None)
    original = ring(3, 16, 24, radius=4.0)
    torch.testing.assert_close(of_views.camera_to_world[:, :3], original.camera_to_world[:, :3], atol=1e-5, rtol=0)
    poses = WORLD_FROM_UNIT @ original.camera_to_world.double().numpy()
    poses[:, :3, :3] /= 2
    write_keyframes(Keyframes(poses, original.intrinsics[0].double().numpy(), (16, 24)), tmp_path / "k.npz")
    of_keyframes = cameras_along(tmp_path / "k.npz", model, mesh, None, None)
    for mine, other in ((of_keyframes, of_views), (of_keyframes, original)):
        torch.testing.assert_close(mine.camera_to_world[:, :3], other.camera_to_world[:, :3], atol=1e-5, rtol=0)
        torch.testing.assert_close(mine.intrinsics, other.intrinsics)
        assert (mine.height, mine.width) == (16, 24)


def stands(count: int) -> Stands:
    cameras = ring(count, 16, 24)
    poses = cameras.camera_to_world.double().numpy()
    poses[:, 3] = [0, 0, 0, 1]
    return Stands(poses, cameras.intrinsics.double().numpy(), (24, 16))


@pytest.mark.parametrize("size", [(48, 32), (48, 64), (96, 32), (7, 5)])
def test_another_size_shows_all_that_the_picture_shows(size: tuple[int, int]) -> None:
    """Its corners are in the new picture, at its border in one direction, and its middle is in the middle."""
    before = stands(1)
    after = resized(before, size)
    corners = np.array([[0.0, 0, 1], [24, 16, 1], [12, 8, 1]])
    x, y, _ = after.intrinsics[0] @ np.linalg.inv(before.intrinsics[0]) @ corners.T
    np.testing.assert_allclose([x[2], y[2]], [size[0] / 2, size[1] / 2])
    assert min(x) >= -1e-9 and max(x) <= size[0] + 1e-9 and min(y) >= -1e-9 and max(y) <= size[1] + 1e-9
    assert min(x[0], y[0]) == pytest.approx(0, abs=1e-9)


def test_a_curve_goes_through_its_cameras() -> None:
    before = stands(5)
    after = curve(before, 9)
    np.testing.assert_allclose(after.camera_to_world[::2], before.camera_to_world, atol=1e-6)
    rotation = after.camera_to_world[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (9, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(after.camera_to_world[:, 3], np.tile([0, 0, 0, 1], (9, 1)), atol=1e-12)
    assert len(curve(stands(1), 4).camera_to_world) == 4
    assert len(curve(stands(3), 1).camera_to_world) == 1


# Pictures


def test_the_camera_s_own_light_is_that_of_training(run: Path, views: Path, tmp_path: Path) -> None:
    arguments = f"render {run} --path {views} --out {tmp_path / 'out'} --linear --exposure 0 --quiet"
    assert cli.main(arguments.split()) == 0
    model = model_of()
    with torch.no_grad():
        expected = model.render(model.mesh(2), cameras_along(views, model, mesh_of(model, 2), None, None))
    for i in range(3):
        picture = read_picture(tmp_path / "out" / f"{i:04d}.exr")
        assert picture.alpha is not None
        np.testing.assert_allclose(picture.color, 3 * expected.radiance[i].numpy(), rtol=1e-6)
        np.testing.assert_array_equal(picture.alpha, expected.alpha[i].numpy())
        shown = imageio.imread(tmp_path / "out" / f"{i:04d}.png")
        assert shown.shape == (16, 24, 3) and 0 < shown.max() < 255


def test_bands_are_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    mesh, camera = mesh_of(model), ring(1, 33, 20, radius=4.0)
    light = create_light(np.array([10.0, -12, 5]), model, mesh, 1.0, 1)
    whole = Studio(model, mesh, light, "black").picture(camera)
    monkeypatch.setattr("recon.relighting.picture.BAND", 20 * 4 * 7)
    np.testing.assert_allclose(Studio(model, mesh, light, "black").picture(camera), whole, atol=1e-6)
    assert whole.shape == (33, 20, 4) and whole[..., :3].max() > 0


def test_a_point_s_place_is_the_source_s(run: Path) -> None:
    """From above in the world the top is lit; twice the intensity is twice as bright; 1/r^2 is of the unit frame."""
    model = model_of()
    mesh, camera = mesh_of(model), ring(1, 32, 32, radius=4.0)
    above = np.array([10.0, -4, 1 + 2 * 5])
    once, twice = (
        Studio(model, mesh, create_light(above, model, mesh, intensity, 1), "black").picture(camera)[..., :3]
        for intensity in (1.0, 2.0)
    )
    np.testing.assert_allclose(twice, 2 * once)
    assert once[25, 16].max() == 0
    assert once.max() == pytest.approx(0.5 / 4**2, rel=0.2)  # albedo / r^2 from 5 to the top at 1, seen aslant


@pytest.mark.parametrize("representation", ["grid", "mlp"])
@pytest.mark.parametrize("reflectance", ["varying", "microfacet"])
def test_every_reflectance_is_relit_as_its_shader_has_it(reflectance: str, representation: str) -> None:
    """What textures hold is looked up once for all lights; each light alone would look it up by itself."""
    model = model_of(reflectance=reflectance, surface={"representation": representation})
    with torch.no_grad():
        for parameter in model.reflectance.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    mesh, camera = mesh_of(model), ring(1, 24, 24, radius=4.0)
    light = create_light(np.array([16.0, -4, 5]), model, mesh, 1.0, 1)
    picture = Studio(model, mesh, light, "black").picture(camera, samples=1)
    assert isinstance(light.lighting, ShadowedLights)
    alone = dataclasses.replace(light.lighting, parameters_of=None)
    with torch.no_grad():
        shade = model.reflectance.shade
        expected = render(
            mesh.vertices, mesh.faces, camera, albedo=mesh.attributes, shader=shade, lighting=alone
        ).radiance[0]
    np.testing.assert_allclose(picture[..., :3], expected.numpy(), atol=1e-7)
    assert len(np.unique(picture[..., :3])) > 50


def test_metered_pictures_are_neither_black_nor_white(run: Path, views: Path) -> None:
    model = model_of()
    mesh = mesh_of(model)
    cameras = cameras_along(views, model, mesh, None, None)
    for intensity in (1e-6, 1.0, 1e6):
        studio = Studio(model, mesh, create_light("camera", model, mesh, intensity, 1), "black")
        gain = metered_gain(studio, cameras)
        picture = studio.picture(cameras[[0]])
        assert np.quantile(gain * picture[picture[..., 3] > 0.5][:, 0], 0.98) == pytest.approx(BRIGHT, rel=0.05)


def test_a_meter_that_sees_no_object_leaves_radiance_alone() -> None:
    model = model_of()
    mesh = mesh_of(model)
    away = SurfaceMesh(mesh.vertices + 100, *mesh[1:])
    studio = Studio(model, away, create_light("camera", model, mesh, 1.0, 1), "black")
    cameras: Cameras = ring(2, 8, 8)
    assert metered_gain(studio, cameras) == 1


def test_what_a_run_has_learned_of_its_background(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of(background="constant")
    with torch.no_grad():
        model.background.color.copy_(torch.tensor([0.1, 0.2, 0.3]))
    save_model(model, RunFolder(tmp_path).file(MODEL))
    arguments = ["render", tmp_path, "--out", tmp_path / "o", "--frames", 1, "--size", "16x16", "--linear", "--quiet"]
    assert cli.main([str(a) for a in [*arguments, "--backdrop", "run"]]) == 0
    picture = read_picture(tmp_path / "o" / "0000.exr")
    np.testing.assert_allclose(picture.color[0, 0], [0.3, 0.6, 0.9], rtol=1e-6)
    assert picture.alpha is not None and (picture.alpha == 1).all()


# Files


@pytest.mark.parametrize("rate", [10.0, 25.0])
def test_a_gif_has_its_frames(run: Path, tmp_path: Path, rate: float) -> None:
    arguments = f"render {run} --out {tmp_path / 'film.gif'} --frames 3 --size 20x16 --fps {rate} --quiet"
    assert cli.main(arguments.split()) == 0
    film = imageio.imread(tmp_path / "film.gif", plugin="pillow", index=None)
    assert film.shape[:3] == (3, 16, 20) and film[0].max() > 100
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


@pytest.mark.skipif(importlib.util.find_spec("imageio_ffmpeg") is None, reason="needs pip install -e '.[video]'")
def test_an_mp4_has_its_frames(run: Path, tmp_path: Path) -> None:
    assert cli.main(f"render {run} --out {tmp_path / 'film.mp4'} --frames 5 --size 64x48 --quiet".split()) == 0
    film = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    frames = [frame for read, frame in (film.read() for _ in range(6)) if read]
    assert np.shape(frames) == (5, 48, 64, 3)
    assert frames[0][24, 32].min() > 100 and frames[0][1, 1].max() < 30
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_frames_of_an_earlier_call_are_replaced_and_other_files_stay(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for count, linear in ((3, True), (2, False)):
        with frames_to(out, 24.0, linear) as take:
            for _ in range(count):
                take(np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 4), np.float32))
        (out / "notes.txt").touch()
    assert sorted(path.name for path in out.iterdir()) == ["0000.png", "0001.png", "notes.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_interrupted_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0000.png").write_bytes(b"old")

    def interrupted(out: Path) -> None:
        with frames_to(out, 24.0, False) as take:
            take(np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 4), np.float32))
            raise KeyboardInterrupt

    for out in ("out", "new", "film.gif"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(tmp_path / out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0000.png", "out"]
    assert (tmp_path / "out" / "0000.png").read_bytes() == b"old"


def test_progress_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(f"render {run} --out {tmp_path / 'o'} --frames 1 --size 8x8".split()) == 0
    assert "100%  ████████████████████████  frame 1 of 1  0:00 left" in capsys.readouterr().err


# Bad input


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error of a command that ends with exit code 2."""
    try:
        code: object = cli.main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    output = capsys.readouterr()
    assert code == 2 and output.out == ""
    assert output.err.startswith("recon: error: ") and output.err.count("\n") == 1
    return output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "640"], "'640': must be width and height in pixels, such as 640x480"),
        (["--size", "0x10"], "'0x10': must be width and height"),
        (["--size", "10x-3"], "must be width and height"),
        (["--level", "8"], "'8': must be a level of the icosphere, from 0 to 7"),
        (["--frames", "0"], "'0': must be a whole number from 1"),
        (["--samples", "many"], "'many': must be a whole number"),
        (["--intensity", "-1"], "'-1': must be a positive number"),
        (["--exposure", "bright"], "'bright': must be a number of stops"),
        (["--fps", "nan"], "'nan': must be a positive number"),
        (["--light", "1,2"], "--light 1,2: a point has three numbers, X,Y,Z"),
        (["--light", "1,2,inf"], "a point has three numbers"),
        (["--light", "-1,2,3,4"], "--light -1,2,3,4: a point has three numbers"),
        (["--light", "moon.exr"], "moon.exr: no such file"),
        (["--path", "there.npz"], "there.npz: no such file"),
        (["--backdrop", "environment"], "--backdrop environment: the light is none; expected --light ENVIRONMENT"),
        (["--backdrop", "run"], "model.pt has learned none (background: none)"),
        (["--backdrop", "run", "--light", "9,9,9"], "--backdrop run: is lit by the flash; expected --light camera"),
        (["--light", "10,-4,1"], "--light 10,-4,1: the light is inside the object"),
        (["--light", "-1e1,-4,1"], None),
        (["--light", "12.05,-4,1"], "--light 12.05,-4,1: the light touches the object"),
    ],
)
def test_one_line_for_each(
    arguments: list[str], message: str | None, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["render", run, "--out", out, "--frames", 1, "--quiet", *arguments]
    if message is None:  # a number that begins with a minus is a value
        assert cli.main([*map(str, command), "--size", "8x8"]) == 0
    else:
        assert message in failure(capsys, *command)
        assert not out.exists()


def test_outputs_that_cannot_be(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "film.gif").mkdir()
    command = ["render", run, "--frames", 1, "--size", "9x8", "--quiet", "--out"]
    assert "is a file; expected a folder, or the name of a film (.mp4, .gif)" in failure(
        capsys, *command, tmp_path / "file"
    )
    assert "a.png: expected a folder, or the name of a film" in failure(capsys, *command, tmp_path / "a.png")
    assert "is a folder; expected the name of a film" in failure(capsys, *command, tmp_path / "film.gif")
    assert "is a film, which has no radiance" in failure(capsys, *command, tmp_path / "a.gif", "--linear")
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    assert "an .mp4 needs imageio-ffmpeg: pip install -e '.[video]'" in failure(capsys, *command, tmp_path / "a.mp4")
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", struct)
    assert "frames of 9x8 pixels; an .mp4 needs even numbers" in failure(capsys, *command, tmp_path / "a.mp4")


def test_a_path_through_the_object(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keyframes on two sides of it: each is outside, but the straight way between them is not."""
    poses = stands(1).camera_to_world[[0, 0]]
    poses[:, :3, 3] = [[4, 0.1, 0], [-4, 0.1, 0]]
    placed = WORLD_FROM_UNIT @ poses
    placed[:, :3, :3] /= 2
    write_keyframes(Keyframes(placed, stands(1).intrinsics[0], (16, 24)), tmp_path / "k.npz")
    command = ["render", run, "--path", tmp_path / "k.npz", "--out", tmp_path / "o", "--quiet"]
    assert f"--path {tmp_path / 'k.npz'}: the camera of frame 2 is inside the object" in failure(
        capsys, *command, "--frames", 5
    )
    assert cli.main([str(each) for each in command]) == 0


def test_files_that_are_no_path(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "other.npz", x=1)
    (tmp_path / "text.npz").write_text("no archive")
    command = ["render", run, "--out", tmp_path / "o", "--path"]
    assert "other.npz: key 'R_0' is missing" in failure(capsys, *command, tmp_path / "other.npz")
    assert "text.npz: not a readable .npz archive" in failure(capsys, *command, tmp_path / "text.npz")


def test_folders_that_are_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file; `recon train` writes it" in failure(capsys, "render", tmp_path, "--out", tmp_path / "o")
    assert "no such folder" in failure(capsys, "render", tmp_path / "none", "--out", tmp_path / "o")


def test_what_a_light_can_be() -> None:
    assert parse_light("camera") == "camera"
    assert parse_light("sky.hdr") == Path("sky.hdr")
    np.testing.assert_array_equal(parse_light("-1,2.5,3e1"), [-1, 2.5, 30])

"""The meshes that leave the house: at any place, in any unit, as their formats have them, and as they are certified."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from recon.config import RunConfig
from recon.errors import ReconError
from recon.evaluation.delivered import read_delivered
from recon.evaluation.surface_file import SurfaceFile, decimated
from recon.evaluation.validate import validate
from recon.files import read_npz
from recon.geometry.meshes import fit_to_sphere, load_mesh, read_mesh
from recon.geometry.metrics import geometry_metrics
from recon.images.pictures import srgb
from recon.model.export import write_meshes
from recon.model.file import load_model, save_model
from recon.model.model import Model
from recon.model.snapshot import write_snapshot
from recon.report.payload import Payload, restored
from recon.report.stages import mesh_stage, views_stage
from recon.run_folder import RunFolder
from recon.views import Views, save_views

LEVEL = 3
UTM = (448262.25, 5411932.5, 148.0)
PLACES = {
    "near": ((0.3, -2.0, 5.0), 1.0),
    "map": (UTM, 0.08),
    "far": ((1e9, -2e9, 3e9), 50.0),
    "tiny": ((1e-6, 2e-6, 0.0), 1e-6),
    "tiny and far": ((2.0, 1.0, 0.0), 1e-6),
    "huge": ((1e6, 0.0, 3e6), 1e6),
}
ALBEDO = (0.8, 0.4, 0.2)


def model_at(place: str, up: str = "y", turned: bool = False) -> Model:
    """A model whose shape is no sphere, in a source's frame."""
    torch.manual_seed(0)
    tree = {
        "reflectance": "constant",
        "train": {"levels": [LEVEL]},
        "surface": {"width": 8, "steps": 2},
        "export": {"up": up, "texture": 32},
    }
    offset, scale = PLACES[place]
    world_from_unit = np.eye(4)
    if turned:
        world_from_unit = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])
    world_from_unit[:3, :3] *= scale
    world_from_unit[:3, 3] = offset
    model = Model(RunConfig.model_validate(tree), world_from_unit, 1.0)
    with torch.no_grad():
        for parameter in model.velocity.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        reflectance = next(model.reflectance.parameters())
        # The albedo is exp or softplus of what is learned: search is simpler than to know.
        reflectance.copy_(_inverse(model, ALBEDO))
    return model.eval()


def _inverse(model: Model, albedo: tuple[float, float, float]) -> torch.Tensor:
    parameter = next(model.reflectance.parameters())
    low, high = torch.full_like(parameter, -20), torch.full_like(parameter, 20)
    for _ in range(60):
        with torch.no_grad():
            parameter.copy_((low + high) / 2)
            above = model.albedo(0)[0].reshape(parameter.shape) > torch.tensor(albedo).reshape(parameter.shape)
            high, low = torch.where(above, parameter, high), torch.where(above, low, parameter)
    return (low + high) / 2


def exported(model: Model, folder: Path) -> Path:
    write_meshes(model, folder)
    save_model(model, folder / "model.pt")
    return folder


def unit_vertices(model: Model) -> np.ndarray:
    with torch.no_grad():
        return model.mesh(LEVEL).vertices.numpy().astype(np.float64)


def gltf(path: Path) -> tuple[dict, bytes]:
    """The two chunks of a GLB."""
    content = path.read_bytes()
    magic, version, size = struct.unpack_from("<4sII", content)
    assert (magic, version, size) == (b"glTF", 2, len(content))
    length, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON" and length % 4 == 0
    binary, kind = struct.unpack_from("<I4s", content, 20 + length)
    assert kind == b"BIN\0" and binary % 4 == 0 and 28 + length + binary == size
    return json.loads(content[20 : 20 + length]), content[28 + length :]


def accessor(path: Path, name: str) -> np.ndarray:
    tree, binary = gltf(path)
    entry = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"][name]]
    view = tree["bufferViews"][entry["bufferView"]]
    columns = {"VEC3": 3, "VEC4": 4}[entry["type"]]
    kind = {5126: "<f4", 5123: "<u2"}[entry["componentType"]]
    start = view["byteOffset"] + entry.get("byteOffset", 0)
    assert start % 4 == 0
    return np.frombuffer(binary, kind, entry["count"] * columns, start).reshape(-1, columns)


def material(path: Path) -> dict:
    return gltf(path)[0]["materials"][0]["pbrMetallicRoughness"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("file", ["mesh.ply", "mesh.glb"])
def test_what_is_written_is_what_was_trained(tmp_path: Path, place: str, file: str) -> None:
    model = model_at(place, turned=True)
    run, (offset, scale) = exported(model, tmp_path), PLACES[place]
    expected = unit_vertices(model) @ (model.world_from_unit[:3, :3].T / scale)
    # The GLB's triangles are split at the creases of its atlas, at the middles of 48 edges.
    count = 690 if file == "mesh.glb" else 642
    for mesh in (read_mesh(run / file), load_mesh(run / file)):
        found = (np.asarray(mesh.vertices)[:642] - offset) / scale
        # Doubles of 3e9 are 5e-7 apart.
        np.testing.assert_allclose(found, expected, atol=1e-6 if place == "far" else 1e-7)
        assert len(np.unique(mesh.vertices, axis=0)) == count
    assert mesh.is_watertight
    people = trimesh.load(run / file, process=False, force="mesh")
    places, inverse = np.unique(people.vertices, axis=0, return_inverse=True)
    assert len(places) == count and trimesh.Trimesh(places, inverse.reshape(-1)[people.faces]).is_watertight


def test_a_map_coordinate_survives_the_way_people_load_a_mesh(tmp_path: Path) -> None:
    model = model_at("map")
    mesh = trimesh.load(exported(model, tmp_path) / "mesh.ply")
    assert mesh.is_watertight and mesh.volume > 0 and len(mesh.vertices) == 642
    np.testing.assert_allclose(mesh.extents, 0.08 * np.ptp(unit_vertices(model), axis=0), rtol=1e-5)
    header = (tmp_path / "mesh.ply").read_bytes()[:400]
    assert b"property double x" in header


def test_an_object_far_off_is_told_and_one_nearby_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_meshes(model_at("map"), tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "mesh.ply" in lines[0] and "mesh.glb" in lines[0] and "double precision" in lines[0]
    for place in ("near", "tiny", "huge"):
        write_meshes(model_at(place), tmp_path)
    assert capsys.readouterr().err == ""


def test_colours_are_linear_in_the_glb_and_srgb_in_the_ply(tmp_path: Path) -> None:
    run = exported(model_at("near"), tmp_path)
    np.testing.assert_allclose(material(run / "mesh.glb")["baseColorFactor"], [1, 0.5, 0.25, 1], atol=2e-5)
    expected = np.rint(255 * srgb(np.array([1, 0.5, 0.25])))
    ply = trimesh.load_mesh(run / "mesh.ply", process=False)
    assert expected.tolist() == [255, 188, 137]
    np.testing.assert_array_equal(ply.visual.vertex_colors[:, :3], np.tile(expected, (642, 1)))


def test_the_glb_has_normals_and_a_matt_material(tmp_path: Path) -> None:
    model = model_at("map")
    run = exported(model, tmp_path)
    normals = accessor(run / "mesh.glb", "NORMAL")
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    normals = normals[:642]
    faces = read_mesh(run / "mesh.ply").faces
    a, b, c = unit_vertices(model)[faces].swapaxes(0, 1)
    outward = np.zeros_like(unit_vertices(model))
    for k in range(3):
        np.add.at(outward, faces[:, k], np.cross(b - a, c - a))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    np.testing.assert_allclose((normals * outward).sum(axis=1), 1, atol=1e-3)
    tree = gltf(run / "mesh.glb")[0]
    matt = tree["materials"][tree["meshes"][0]["primitives"][0]["material"]]
    assert matt["pbrMetallicRoughness"].items() >= {"metallicFactor": 0, "roughnessFactor": 1}.items()
    assert matt["doubleSided"] is False
    assert matt["extensions"] == {"KHR_materials_specular": {"specularFactor": 0}}
    place = accessor(run / "mesh.glb", "POSITION")
    entry = tree["accessors"][0]
    assert (entry["min"], entry["max"]) == (place.min(axis=0).tolist(), place.max(axis=0).tolist())


def test_black_has_colours_too(tmp_path: Path) -> None:
    model = model_at("near")
    next(model.reflectance.parameters()).data.fill_(-np.inf)
    run = exported(model, tmp_path)
    assert material(run / "mesh.glb")["baseColorFactor"] == [0, 0, 0, 1]
    assert (np.asarray(trimesh.load_mesh(run / "mesh.ply").visual.vertex_colors)[:, :3] == 0).all()


@pytest.mark.parametrize("place", ["near", "map"])
def test_z_of_the_source_is_up_in_the_glb(tmp_path: Path, place: str) -> None:
    run = exported(model_at(place), tmp_path)
    x, y, z = np.asarray(read_mesh(run / "mesh.ply").vertices).T
    foreign = trimesh.load_mesh(run / "mesh.glb", process=False)  # as any reader of glTF has it
    np.testing.assert_allclose(foreign.vertices[:642], np.stack([x, z, -y], axis=1), rtol=1e-12, atol=1e-6)


def test_a_source_whose_y_is_up_keeps_its_axes(tmp_path: Path) -> None:
    run = exported(model_at("map", up="source"), tmp_path)
    ply = read_mesh(run / "mesh.ply")
    foreign = trimesh.load_mesh(run / "mesh.glb", process=False)
    np.testing.assert_allclose(foreign.vertices[:642], ply.vertices, atol=1e-7)
    np.testing.assert_allclose(load_mesh(run / "mesh.glb").vertices[:642], ply.vertices, atol=1e-7)


def test_a_unit_of_millimetres_is_metres_in_the_glb_and_read_back(tmp_path: Path) -> None:
    model = model_at("map", turned=True)
    export = model.config.export.model_copy(update={"metres": 0.001})
    model.config = model.config.model_copy(update={"export": export})
    run = exported(model, tmp_path)
    ply = np.asarray(read_mesh(run / "mesh.ply").vertices)
    foreign = np.asarray(trimesh.load_mesh(run / "mesh.glb", process=False).vertices)[:642]
    x, y, z = 0.001 * ply.T
    np.testing.assert_allclose(foreign, np.stack([x, z, -y], axis=1), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(load_mesh(run / "mesh.glb").vertices[:642], ply, atol=1e-6)
    assert read_delivered(model, run).glb_agrees


def test_a_glb_of_an_earlier_version_agrees(tmp_path: Path) -> None:
    model = model_at("near", up="source")
    run = exported(model, tmp_path)
    read_mesh(run / "mesh.ply").export(run / "mesh.glb")  # every vertex once, and no material
    assert read_delivered(model, run).glb_agrees


def test_a_glb_with_a_hole_does_not_agree(tmp_path: Path) -> None:
    model = model_at("near", up="source")
    run = exported(model, tmp_path)
    whole = read_mesh(run / "mesh.glb")
    trimesh.Trimesh(whole.vertices, whole.faces[1:], process=False).export(run / "mesh.glb")
    assert not read_delivered(model, run).glb_agrees


def test_a_glb_of_another_program_has_the_coordinates_that_it_holds(tmp_path: Path) -> None:
    box = trimesh.creation.box(extents=(1, 2, 3))
    box.export(tmp_path / "box.glb")
    assert load_mesh(tmp_path / "box.glb").extents.tolist() == [1, 2, 3]


def test_a_key_that_is_no_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="export.up"):
        RunConfig.model_validate({"export": {"up": "z"}})


@pytest.mark.parametrize("place", PLACES)
def test_pages_draw_the_shape_wherever_it_is(tmp_path: Path, place: str) -> None:
    model = model_at(place)
    run, payload = exported(model, tmp_path), Payload()
    expected = np.ptp(unit_vertices(model), axis=0)
    for file in ("mesh.ply", "mesh.glb"):
        stage = mesh_stage(payload, load_mesh(run / file))
        drawn = restored(payload, stage["mesh"]["vertices"]).astype(np.float32).reshape(-1, 3)
        assert np.abs(drawn).max() < 2
        np.testing.assert_allclose(np.ptp(drawn, axis=0) / np.ptp(drawn, axis=0)[0], expected / expected[0], rtol=1e-3)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, :3, 3] = [[0, 0, -3], [0.5, 0, -3]]
    intrinsics = np.tile(np.array([[20.0, 0, 6], [0, 20, 4], [0, 0, 1]]), (2, 1, 1))
    views = Views(np.zeros((2, 8, 12, 3), np.float32), poses, intrinsics, world_from_unit=model.world_from_unit)
    stage = views_stage(payload, views)
    cameras = restored(payload, stage["cameras"]["views"]).reshape(2, 5, 3)
    ball = restored(payload, stage["mesh"]["vertices"]).reshape(-1, 3)
    radius = np.ptp(ball, axis=0).max() / 2
    np.testing.assert_allclose(cameras[:, 0] / radius, poses[:, :3, 3], atol=2e-3)


@pytest.mark.parametrize("place", PLACES)
def test_snapshots_and_surface_keep_the_shape(tmp_path: Path, place: str) -> None:
    model, (offset, scale) = model_at(place), PLACES[place]
    reference = trimesh.creation.icosphere(subdivisions=3).apply_transform(model.world_from_unit)
    surface = SurfaceFile(model, reference)
    surface.write(tmp_path / "surface.npz", "")
    write_snapshot(model, tmp_path / "1.npz", 1)
    arrays, snapshot = read_npz(tmp_path / "surface.npz"), read_npz(tmp_path / "1.npz")
    for vertices in (arrays["vertices"], arrays["flow"][-1], snapshot["vertices"], arrays["reference/vertices"]):
        assert vertices.dtype == np.float64
    np.testing.assert_allclose((arrays["vertices"] - offset) / scale, unit_vertices(model), atol=1e-6)
    radii = np.linalg.norm(unit_vertices(model), axis=1)
    np.testing.assert_allclose(arrays["distance"] / scale, np.abs(radii - 1), atol=0.02)


@pytest.mark.parametrize("place", ["map", "tiny", "huge"])
def test_a_reference_far_from_the_origin_is_compared_as_one_nearby(tmp_path: Path, place: str) -> None:
    offset, scale = PLACES[place]
    mesh, reference = trimesh.creation.icosphere(subdivisions=3), trimesh.creation.icosphere(subdivisions=4)
    expected = geometry_metrics(mesh, reference, samples=5000)
    for each, name in ((mesh, "mesh.off"), (reference, "reference.obj")):
        each.apply_scale(scale).apply_translation(offset)
        # Text with all digits, as people export it.
        (tmp_path / name).write_text(each.export(file_type=name.rpartition(".")[2], digits=17))
    found = geometry_metrics(load_mesh(tmp_path / "mesh.off"), load_mesh(tmp_path / "reference.obj"), samples=5000)
    assert found.chamfer / scale == pytest.approx(expected.chamfer, rel=0.05)
    assert found.normal_error == pytest.approx(expected.normal_error, rel=0.05)
    assert found.diagonal / scale == pytest.approx(expected.diagonal, rel=1e-6)


@pytest.mark.parametrize("place", PLACES)
def test_a_mesh_is_fitted_and_thinned_wherever_it_is(place: str) -> None:
    offset, scale = PLACES[place]
    mesh = trimesh.creation.icosphere(subdivisions=4).apply_scale(scale).apply_translation(offset)
    fitted, source_from_unit = fit_to_sphere(mesh, 0.9)
    np.testing.assert_allclose(np.linalg.norm(fitted.vertices, axis=1), 0.9, rtol=1e-6)
    back = trimesh.transform_points(fitted.vertices, source_from_unit)
    np.testing.assert_allclose((back - mesh.vertices) / scale, 0, atol=1e-6)
    coarse = decimated(mesh, 1000)
    assert len(coarse.faces) <= 1000
    np.testing.assert_allclose(np.linalg.norm(coarse.vertices - offset, axis=1) / scale, 1, atol=0.02)


def test_a_closed_stl_of_micrometres_is_closed(tmp_path: Path) -> None:
    trimesh.creation.icosphere(subdivisions=4).apply_scale(1e-6).export(tmp_path / "ball.stl")
    mesh = load_mesh(tmp_path / "ball.stl")
    assert mesh.is_watertight and len(mesh.vertices) == 2562


def test_a_reference_that_was_flattened_by_its_file_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trimesh.creation.icosphere(subdivisions=2, radius=0.08).apply_translation(UTM).export(tmp_path / "flat.ply")
    load_mesh(tmp_path / "flat.ply")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "flat.ply: 32-bit coordinates" in error and "0.5 apart" in error


def test_a_triangle_of_vertices_that_are_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.off").write_text("OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n3 0 1 7\n")
    with pytest.raises(ReconError, match=r"a\.off: (face 1 names a vertex|not a readable)"):
        load_mesh(tmp_path / "a.off")


def views_for(model: Model, folder: Path) -> dict[str, Path]:
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, :3, 3] = [[0, 0, -3], [0.2, 0, -3]]
    intrinsics = np.tile(np.array([[20.0, 0, 8], [0, 20, 8], [0, 0, 1]]), (2, 1, 1))
    views = Views(np.full((2, 16, 16, 3), 0.1, np.float32), poses, intrinsics, world_from_unit=model.world_from_unit)
    save_views(views, folder / "views.npz")
    return {"front": folder / "views.npz"}


@pytest.fixture
def short_film(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.evaluation.turntable.FRAMES", 1)
    monkeypatch.setattr("recon.evaluation.turntable.SIZE", 8)


def certificate_of(run: Path, views: dict[str, Path], out: Path, reference: Path | None = None) -> dict:
    validate(run, views, out, reference)
    return json.loads((out / "certificate.json").read_text())


@pytest.mark.usefixtures("short_film")
def test_the_certificate_is_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_at("map")
    run, views = exported(model, tmp_path / "run"), views_for(model, tmp_path)
    capsys.readouterr()
    good = certificate_of(run, views, tmp_path / "out")
    assert (good["watertight"], good["vertices"], good["genus"]) == (True, 642, 0)
    assert (good["mesh"], good["is_the_models"], good["glb_agrees"]) == ("mesh.ply", True, True)
    assert good["smallest_jacobian_determinant"] is not None
    assert capsys.readouterr().err == ""

    # A file that keeps 32 bits is the sheet that everybody else sees.
    flat = trimesh.load_mesh(run / "mesh.ply", process=False)
    flat.export(run / "mesh.ply")
    bad = certificate_of(run, views, tmp_path / "out", reference=run / "mesh.glb")
    assert not bad["watertight"] and bad["genus"] is None and bad["vertices"] < 642
    assert (bad["is_the_models"], bad["glb_agrees"]) == (False, False)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("recon: warning: ")]
    assert any("mesh.ply: not the mesh of model.pt" in line for line in lines)
    geometry = json.loads((tmp_path / "out" / "geometry.json").read_text())
    assert geometry["normal_error"] > 20


@pytest.mark.usefixtures("short_film")
def test_a_file_with_a_hole_is_not_certified_watertight(tmp_path: Path) -> None:
    model = model_at("near")
    run, views = exported(model, tmp_path / "run"), views_for(model, tmp_path)
    mesh = trimesh.load_mesh(run / "mesh.ply", process=False)
    trimesh.Trimesh(mesh.vertices, mesh.faces[1:], process=False).export(run / "mesh.ply")
    found = certificate_of(run, views, tmp_path / "out")
    assert not found["watertight"] and found["faces"] == 1279 and not found["is_the_models"]


def test_a_glb_of_another_mesh_is_told(tmp_path: Path) -> None:
    run = exported(model_at("map"), tmp_path / "run")
    other = exported(model_at("near"), tmp_path / "other")
    (run / "mesh.glb").write_bytes((other / "mesh.glb").read_bytes())
    found = read_delivered(load_model(run), run)
    assert found.is_the_models and not found.glb_agrees
    assert [line for line in found.warnings() if "mesh.glb: not the mesh of mesh.ply" in line]


@pytest.mark.parametrize("file", ["mesh.ply", "mesh.glb"])
def test_a_run_whose_mesh_is_gone_is_one_line(tmp_path: Path, file: str) -> None:
    model = model_at("near")
    run, views = exported(model, tmp_path / "run"), views_for(model, tmp_path)
    RunFolder(run).path.joinpath(file).unlink()
    with pytest.raises(ReconError, match=rf"{file}: no such file; `recon train` writes it"):
        validate(run, views, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", "no area"),
        ("OFF\n3 1 0\n1 1 1\n1 1 1\n1 1 1\n3 0 1 2\n", "no area"),
        ("OFF\n3 1 0\n0 0 0\n1e300 0 0\n0 1e300 0\n3 0 1 2\n", "above 1e"),
    ],
)
def test_a_reference_that_cannot_be_compared_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    model = model_at("near")
    run, views = exported(model, tmp_path / "run"), views_for(model, tmp_path)
    (tmp_path / "odd.off").write_text(content)
    with pytest.raises(ReconError, match=rf"odd\.off: .*{message}"):
        validate(run, views, tmp_path / "out", tmp_path / "odd.off")


@pytest.mark.usefixtures("short_film")
@pytest.mark.parametrize(("scale", "offset", "message"), [(1000, 0, "1e+03 times as large"), (1, 50, "lies beside")])
def test_a_reference_in_another_unit_or_place_is_warned_of(
    tmp_path: Path, scale: float, offset: float, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_at("near")
    run, views = exported(model, tmp_path / "run"), views_for(model, tmp_path)
    other = read_mesh(run / "mesh.ply")
    other.apply_scale(scale).apply_translation([offset, 0, 0])
    other.export(tmp_path / "other.ply")
    validate(run, views, tmp_path / "out", tmp_path / "other.ply")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "other.ply" in error and message in error

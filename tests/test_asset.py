"""Assets: textures that are the reflectance at their texels, and files that other programs open."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from test_delivered import gltf

from recon.config import RunConfig
from recon.errors import ReconError
from recon.geometry.meshes import load_mesh
from recon.geometry.octahedral import Atlas, gutter, sphere_points, texel_places, texture_coordinates
from recon.images.encoding import linear_from_srgb
from recon.model.asset import AssetMaker, Lookup, atlas_mesh, mesh_tangents, normal_map_of
from recon.model.export import write_meshes
from recon.model.material import correlated_microfacet, material, nearest_lobe
from recon.model.model import Model
from recon.model.reflectance import collocated_microfacet

SIZE = 32
LEVEL = 2


def model_with(reflectance: str, level: int = LEVEL, size: int = SIZE, bent: float = 0.2) -> Model:
    """A model whose shape is no sphere and whose reflectance, where it can, varies."""
    torch.manual_seed(0)
    tree = {
        "reflectance": reflectance,
        "train": {"levels": [level]},
        "surface": {"width": 8, "steps": 2},
        "export": {"texture": size},
    }
    model = Model(RunConfig.model_validate(tree), np.eye(4), 1.0)
    with torch.no_grad():
        for parameter in model.velocity.parameters():
            parameter.add_(bent * torch.randn_like(parameter))
        if reflectance != "constant":
            # Coarse: what a texture of `SIZE` texels shows.
            for texture in [each for each in model.reflectance.textures() if each.shape[1] <= 8]:
                texture.normal_(0, 1)
        if reflectance == "microfacet":
            model.reflectance.layer.textures[0].normal_(0, 0.5)
    return model.eval()


# Material


@pytest.mark.parametrize("roughness", [0.2, 0.3, 0.5])
def test_one_lobe_stays_what_it_is(roughness: float) -> None:
    diffuse, specular = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.05, 0.0, 0.0]])
    found = nearest_lobe(diffuse, specular, torch.tensor([[roughness, 0.4, 0.6]]))
    torch.testing.assert_close(found.diffuse, diffuse, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.specular, torch.tensor([0.05]), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.roughness, torch.tensor([roughness]), atol=0.01, rtol=0)


def test_a_lobe_as_broad_as_can_be_is_a_diffuse_colour() -> None:
    found = nearest_lobe(torch.full((1, 3), 0.2), torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[1.0, 0.4, 0.6]]))
    assert found.specular < 0.02 and (found.diffuse > 0.3).all()


def test_three_lobes_under_the_flash_look_like_the_one() -> None:
    torch.manual_seed(1)
    specular, roughness = torch.rand(50, 3) * 0.05, 0.3 + 0.6 * torch.rand(50, 3)
    diffuse = 0.1 + torch.rand(50, 3)
    found = nearest_lobe(diffuse, specular, roughness)
    cosine = torch.linspace(0.2, 1, 60)
    ours = torch.stack([collocated_microfacet(cosine[:, None], each.expand(60, 3)) for each in roughness])
    wanted = diffuse[:, None] + (ours * specular[:, None]).sum(dim=2, keepdim=True)
    lobe = torch.stack([correlated_microfacet(cosine[:, None], each[None])[:, 0] for each in found.roughness])
    got = found.diffuse[:, None] + (lobe * found.specular[:, None])[..., None]
    assert ((got - wanted).abs() * cosine[:, None]).mean() < 0.01 * (wanted * cosine[:, None]).mean()


def test_base_colour_and_lobe_make_up_what_was_learned() -> None:
    """glTF's material reflects (1 - F0) base + F0 lobe."""
    found = material(model_with("microfacet"), torch.nn.functional.normalize(torch.randn(500, 3), dim=1))
    white = found.white
    base, f0 = found.base_color(white), found.f0(white)
    assert base.max() <= 1 and f0.max() <= 1
    unclipped = (base < 1).all(dim=1)
    assert unclipped.float().mean() > 0.95
    torch.testing.assert_close((white * (1 - f0[:, None]) * base)[unclipped], found.diffuse[unclipped])


# Textures


def test_a_texel_is_the_albedo_at_its_point_of_the_sphere() -> None:
    model = model_with("varying")
    asset = AssetMaker(model, LEVEL).make(LEVEL, SIZE)
    assert asset.color_texture is not None and asset.roughness_texture is None and asset.f0 == 0
    inside = slice(gutter(SIZE), SIZE - gutter(SIZE))
    with torch.no_grad():
        albedo = model.reflectance.albedo(torch.from_numpy(sphere_points(texel_places(SIZE))).float()).numpy()
    shown = linear_from_srgb(asset.color_texture[inside, inside].reshape(-1, 3) / 255)
    ratio = shown[albedo < albedo.max() / 2] / albedo[albedo < albedo.max() / 2]
    assert ratio.std() < 0.01 * ratio.mean()


def test_one_albedo_needs_no_texture() -> None:
    asset = AssetMaker(model_with("constant"), LEVEL).make(LEVEL, SIZE)
    assert asset.color == pytest.approx((1, 1, 1)) and asset.color_texture is None


def test_a_normal_map_gives_the_normals_of_the_finer_mesh() -> None:
    """Read as renderers do: in the interpolated tangent space of the coarse mesh."""
    model, size = model_with("constant"), 64
    mesh, finer = atlas_mesh(model, LEVEL), atlas_mesh(model, LEVEL + 2)
    tangents = mesh_tangents(mesh)
    inside, every = slice(gutter(size), size - gutter(size)), np.arange(len(texel_places(size)))
    x, y, z = normal_map_of(mesh, tangents, finer, size)[inside, inside].reshape(-1, 3).T[..., None] / 127.5 - 1
    near, far = (Lookup.of(each.atlas, size) for each in (mesh, finer))
    normal, tangent = near.interpolate(mesh.normals, every), near.interpolate(tangents, every)
    shown = x * tangent + y * np.cross(normal, tangent) + z * normal
    wanted = far.interpolate(finer.normals, every)

    def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return np.degrees(np.arccos(((a * b).sum(axis=1) / lengths).clip(-1, 1)))

    assert degrees(shown, wanted).mean() < 0.4  # steps of 1 / 127.5
    assert degrees(normal, wanted).mean() > 5 * degrees(shown, wanted).mean()


def test_the_cut_is_not_seen_in_the_normals() -> None:
    """Read on either side of it, each in its own tangent space, they are the same."""
    model, size = model_with("constant", level=3), 256
    mesh, finer = atlas_mesh(model, 3), atlas_mesh(model, 5)
    tangents = mesh_tangents(mesh)
    texture = normal_map_of(mesh, tangents, finer, size) / 127.5 - 1
    shown = {}
    for side, place in enumerate(("right", "left")):
        edges = border_edges(mesh.atlas, place)
        middle = lambda values, edges=edges: values[edges].mean(axis=1)  # noqa: E731
        x, y, z = sampled(texture, texture_coordinates(middle(mesh.atlas.places), size)).T[..., None]
        normal, tangent = middle(mesh.normals), middle(tangents)
        read = x * tangent + y * np.cross(normal, tangent) + z * normal
        order = np.lexsort(np.rint(1e5 * middle(mesh.vertices)).T)
        shown[side] = (read / np.linalg.norm(read, axis=1, keepdims=True))[order]
    # Each of the square's borders is folded on itself: the halves of the right one are beside one another.
    pairs = shown[0].reshape(-1, 2, 3), shown[1].reshape(-1, 2, 3)
    for each in pairs:
        degrees = np.degrees(np.arccos((each[:, 0] * each[:, 1]).sum(axis=1).clip(-1, 1)))
        # A step of the map is 0.45 degrees; the shape is bent by up to a right angle in one triangle.
        assert len(degrees) > 5 and np.median(degrees) < 0.45 and degrees.max() < 4


def border_edges(atlas: Atlas, border: str) -> np.ndarray:
    """Edges of the atlas on a border of the square."""
    on = atlas.places[:, 0] == {"right": 1, "left": -1}[border]
    edges = np.concatenate([atlas.faces[:, [k, (k + 1) % 3]] for k in range(3)])
    return edges[on[edges].all(axis=1)]


def sampled(texture: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Bilinear, as renderers sample."""
    at = coordinates * len(texture) - 0.5
    column, row = np.floor(at).astype(int).T
    s, t = (at % 1).T[..., None]
    upper = (1 - s) * texture[row, column] + s * texture[row, column + 1]
    return (1 - t) * upper + t * ((1 - s) * texture[row + 1, column] + s * texture[row + 1, column + 1])


def test_a_texels_point_of_the_mesh_is_that_of_its_place() -> None:
    model = model_with("constant", bent=0)
    mesh = atlas_mesh(model, 4)
    shown = Lookup.of(mesh.atlas, SIZE).interpolate(mesh.vertices, np.arange(len(texel_places(SIZE))))
    np.testing.assert_allclose(shown, sphere_points(texel_places(SIZE)), atol=0.005)


def test_tangents_point_to_the_right_of_the_texture() -> None:
    """At the north pole, seen from above, that is along x; everywhere across the normal."""
    mesh = atlas_mesh(model_with("constant", bent=0), LEVEL)
    tangents = mesh_tangents(mesh)
    top = mesh.vertices[:, 2].argmax()
    np.testing.assert_allclose(tangents[top], [1, 0, 0], atol=1e-5)
    np.testing.assert_allclose((tangents * mesh.normals).sum(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=1), 1, atol=1e-6)


# Files


def test_every_file_has_the_mesh_and_its_textures(tmp_path: Path) -> None:
    write_meshes(model_with("microfacet"), tmp_path)
    tree, _ = gltf(tmp_path / "mesh.glb")
    material = tree["materials"][0]
    assert {"baseColorTexture", "metallicRoughnessTexture"} <= set(material["pbrMetallicRoughness"])
    assert "normalTexture" in material and material["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert material["extensions"]["KHR_materials_specular"]["specularTexture"] == {"index": 3}
    assert set(tree["meshes"][0]["primitives"][0]["attributes"]) == {"POSITION", "NORMAL", "TANGENT", "TEXCOORD_0"}
    counts = [len(load_mesh(tmp_path / name).faces) for name in ("mesh.glb", "mesh_lod1.glb", "mesh_lod2.glb")]
    assert counts == [368, 104, 32]
    for name in ("mesh.glb", "mesh.obj"):
        people = trimesh.load(tmp_path / name, process=False, force="mesh")
        assert people.visual.kind == "texture" and len(people.visual.uv) == len(people.vertices)
        mesh = load_mesh(tmp_path / name)
        assert mesh.is_watertight and mesh.volume == pytest.approx(load_mesh(tmp_path / "mesh.ply").volume, rel=1e-6)


def test_the_obj_shows_the_colour_of_the_ply(tmp_path: Path) -> None:
    """The same places have the same colours, so v is counted from the right end."""
    write_meshes(model_with("varying", level=3, size=128), tmp_path)
    obj = trimesh.load(tmp_path / "mesh.obj", process=False, force="mesh")
    ply = trimesh.load(tmp_path / "mesh.ply", process=False)
    shown = obj.visual.to_color().vertex_colors[:, :3].astype(float)
    _, nearest = trimesh.proximity.ProximityQuery(ply).vertex(obj.vertices)
    wanted = ply.visual.vertex_colors[nearest, :3].astype(float)
    assert np.abs(shown - wanted).mean() < 0.25 * np.abs(wanted - wanted.mean(axis=0)).mean()


def test_textures_of_an_earlier_training_are_removed(tmp_path: Path) -> None:
    write_meshes(model_with("microfacet"), tmp_path)
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {"mesh_base_color.png", "mesh_roughness.png", "mesh_normals.png"}
    text = (tmp_path / "mesh.mtl").read_text()
    assert all(name in text for name in names)
    write_meshes(model_with("constant"), tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"mesh_normals.png"}
    text = (tmp_path / "mesh.mtl").read_text()
    assert "map_Kd" not in text and "map_Pr" not in text and "Kd 1 1 1" in text


def test_an_obj_far_from_the_origin_has_all_digits(tmp_path: Path) -> None:
    model = model_with("constant")
    model.world_from_unit = np.diag([0.08, 0.08, 0.08, 1.0])
    model.world_from_unit[:3, 3] = [448262.25, 5411932.5, 148.0]
    write_meshes(model, tmp_path)
    obj, ply = (load_mesh(tmp_path / f"mesh.{kind}") for kind in ("obj", "ply"))
    np.testing.assert_array_equal(obj.vertices[: len(ply.vertices)], ply.vertices)
    assert obj.is_watertight


@pytest.mark.parametrize("size", [0, 15, 100000, 8.5])
def test_a_texture_of_no_size_is_one_line(size: float) -> None:
    from recon.config import load_config

    with pytest.raises(ReconError, match=r"export\.texture.*got") as caught:
        load_config(None, [f"export.texture={size}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metres", ["0", "-1", ".inf", ".nan"])
def test_a_unit_of_no_length_is_one_line(metres: str) -> None:
    from recon.config import load_config

    with pytest.raises(ReconError, match=r"export\.metres"):
        load_config(None, [f"export.metres={metres}"])


# The Khronos glTF validator


def khronos_report(path: Path) -> dict:
    """What the validator finds; a machine of a person may lack it, continuous integration installs it."""
    root = Path(__file__).parents[1]
    modules = os.environ.get("NODE_PATH", str(root / ".venv" / "gltf" / "node_modules"))
    if shutil.which("node") is None or not Path(modules, "gltf-validator").is_dir():
        reason = "needs node and the Khronos glTF validator: `make validator`"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    script = str(Path(__file__).with_name("gltf_report.cjs"))
    done = subprocess.run(
        ["node", script, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NODE_PATH": modules},
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("reflectance", ["constant", "varying", "microfacet"])
def test_the_validator_finds_nothing(tmp_path: Path, reflectance: str) -> None:
    write_meshes(model_with(reflectance), tmp_path)
    for name in ("mesh.glb", "mesh_lod1.glb", "mesh_lod2.glb"):
        report = khronos_report(tmp_path / name)
        assert report["issues"]["messages"] == [], name
        assert report["info"]["totalTriangleCount"] == len(load_mesh(tmp_path / name).faces)


def test_the_validator_would_find_something(tmp_path: Path) -> None:
    write_meshes(model_with("constant"), tmp_path)
    content = bytearray((tmp_path / "mesh.glb").read_bytes())
    start = content.index(b'"metallicFactor":0') + len(b'"metallicFactor":')
    content[start : start + 1] = b"7"
    (tmp_path / "bad.glb").write_bytes(content)
    assert khronos_report(tmp_path / "bad.glb")["issues"]["numErrors"] == 1

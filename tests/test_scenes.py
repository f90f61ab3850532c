"""Declared scenes: cameras, light, masks, backgrounds, and every bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
import yaml

from recon.camera import Cameras, intrinsics_from_fov
from recon.capture.keyframes import Keyframes, write_keyframes
from recon.capture.materials import paint
from recon.capture.paths import arc, even_sphere
from recon.capture.scene import ArcPath, Pattern, load_scene
from recon.capture.synthetic import views_from_scene
from recon.capture.world import build_world, objects_mesh
from recon.errors import ReconError
from recon.views import Views, check_views

CONFIG = Path(__file__).parents[1] / "config" / "scenes"


def scene(folder: Path, **changes: Any) -> Path:
    """A scene of a ball of radius 0.5 seen by few small views, with changes."""
    tree: dict[str, Any] = {
        "objects": [{"shape": "sphere", "radius": 0.5}],
        "camera": {"width": 24, "height": 24, "samples": 2},
        "sets": {"front": {"count": 3}, "full": {"count": 2, "azimuth": [0, 360]}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scene.yaml").write_text(yaml.safe_dump(tree | changes))
    return folder / "scene.yaml"


# Camera paths


def test_an_arc_looks_at_the_origin_from_the_patch() -> None:
    poses = arc(30, 2.5, (-70.0, 70.0), (-15.0, 35.0))
    eyes = poses[:, :3, 3]
    assert np.allclose(np.linalg.norm(eyes, axis=1), 2.5)
    assert np.allclose(poses[:, :3, 2], -eyes / 2.5)
    azimuth, elevation = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0])), np.degrees(np.arcsin(eyes[:, 2] / 2.5))
    assert np.isclose(azimuth[0], -70) and np.isclose(azimuth[-1], 70)
    assert -15 <= elevation.min() < -10 and 30 < elevation.max() <= 35


def test_a_full_turn_repeats_no_camera() -> None:
    eyes = arc(8, 2.0, (0.0, 360.0), (10.0, 10.0))[:, :3, 3]
    gaps = np.linalg.norm(eyes - np.roll(eyes, 1, axis=0), axis=1)
    assert np.allclose(gaps, gaps[0])
    assert gaps[0] > 1


def test_the_even_sphere_is_even() -> None:
    directions = even_sphere(100, 2.5)[:, :3, 3] / 2.5
    assert np.allclose(np.linalg.norm(directions, axis=1), 1)
    nearest = np.sort(directions @ directions.T, axis=1)[:, -2]
    assert np.degrees(np.arccos(nearest)).min() > 0.6 * np.degrees(np.sqrt(4 * np.pi / 100))
    assert np.abs(directions.mean(axis=0)).max() < 0.02


def test_the_default_sets_are_those_of_the_reference(tmp_path: Path) -> None:
    (tmp_path / "scene.yaml").write_text("objects: [{shape: bunny_head}]\n")
    default = load_scene(tmp_path / "scene.yaml")
    assert list(default.sets) == ["front", "full", "above", "below"]
    for path in default.sets.values():
        assert isinstance(path, ArcPath) and path.count == 30 and path.radius == 2.5
    assert default.camera.field_of_view == 49 and (default.camera.height, default.camera.width) == (100, 100)


def test_a_focal_length_in_pixels_stands_for_the_field_of_view(tmp_path: Path) -> None:
    lens = {"width": 24, "height": 20, "samples": 1, "focal_length": 30.5}
    views = views_from_scene(scene(tmp_path, camera=lens), "front")
    assert np.array_equal(views.intrinsics[0], [[30.5, 0, 12], [0, 30.5, 10], [0, 0, 1]])


# Radiance


def test_a_white_ball_is_as_bright_as_physics_says(tmp_path: Path) -> None:
    views = views_from_scene(scene(tmp_path), "front")
    # Its nearest point faces the flash at distance 2.5 - 0.5.
    assert np.isclose(views.radiance_scale, 1 / 2.0**2, rtol=0.02)
    assert views.images.max() == 1
    assert views.masks is not None
    # The silhouette of a sphere is a cone of half-angle asin(radius / distance).
    half = 0.5 * 24 / np.tan(np.radians(24.5)) * np.tan(np.arcsin(0.5 / 2.5))
    assert np.allclose((views.masks > 0).sum(axis=(1, 2)), np.pi * half**2, rtol=0.06)
    check_views(views)


def test_light_and_albedo_scale_radiance(tmp_path: Path) -> None:
    plain = views_from_scene(scene(tmp_path / "a"), "front")
    red = [{"shape": "sphere", "radius": 0.5, "albedo": [1, 0.5, 0]}]
    lit = views_from_scene(scene(tmp_path / "b", objects=red, light={"intensity": 3}), "front")
    assert np.isclose(lit.radiance_scale, 3 * plain.radiance_scale)
    assert np.allclose(lit.images, plain.images * np.array([1, 0.5, 0], np.float32), atol=1e-6)


def test_views_know_what_was_published_of_their_set(tmp_path: Path) -> None:
    path = scene(tmp_path, published={"full": 0.25})
    assert views_from_scene(path, "full").published == 0.25
    assert views_from_scene(path, "front").published is None
    assert views_from_scene(scene(tmp_path), "full").published is None


def test_only_the_scene_of_the_reference_work_has_its_losses() -> None:
    found = {path.stem: load_scene(path).published for path in CONFIG.glob("*.yaml")}
    assert {name for name, losses in found.items() if losses} == {"bunny_head"}
    assert found["bunny_head"]["front"] == 0.00727


def test_all_sets_share_the_training_sets_scale(tmp_path: Path) -> None:
    path = scene(tmp_path, objects=[{"shape": "cube", "radius": 0.9, "position": [0.05, 0, 0]}])
    front, full = views_from_scene(path, "front"), views_from_scene(path, "full")
    assert full.radiance_scale == front.radiance_scale
    assert full.images.max() != 1
    assert np.array_equal(views_from_scene(path, "full", like=front).images, full.images)
    assert np.array_equal(front.world_from_unit, np.eye(4))


def test_supersampling_is_the_box_filter_of_a_finer_picture(tmp_path: Path) -> None:
    fine = views_from_scene(scene(tmp_path / "a", camera={"width": 96, "height": 96, "samples": 1}), "front")
    views = views_from_scene(scene(tmp_path / "b", camera={"width": 24, "height": 24, "samples": 4}), "front")
    assert fine.masks is not None and views.masks is not None
    blocks = fine.images.reshape(3, 24, 4, 24, 4, 3).mean(axis=(2, 4)) * np.float32(fine.radiance_scale)
    assert np.allclose(views.images * np.float32(views.radiance_scale), blocks, atol=1e-5)
    shares = (fine.masks > 0).reshape(3, 24, 4, 24, 4).mean(axis=(2, 4))
    assert np.array_equal(views.masks > 0, shares > 0.5)


def test_cubes_have_creases(tmp_path: Path) -> None:
    """Each face of a cube is shaded by its own normal, which interpolation at its corners would bend."""
    path = scene(tmp_path, objects=[{"shape": "cube", "radius": 0.9}])
    world = build_world(load_scene(path), path)
    assert len(world.vertices) == 24
    assert len(objects_mesh(load_scene(path), path).vertices) == 8


def test_poses_turn_then_move(tmp_path: Path) -> None:
    trimesh.creation.box(extents=(0.8, 0.1, 0.1)).export(tmp_path / "bar.ply")
    bar = {"mesh": "bar.ply", "radius": None, "rotation": [0, 0, 90], "position": [0, 0.2, 0]}
    path = scene(tmp_path, objects=[bar])
    mesh = objects_mesh(load_scene(path), path)
    assert np.allclose(mesh.bounds, [[-0.05, -0.2, -0.05], [0.05, 0.6, 0.05]], atol=1e-6)


def test_vertex_colours_are_the_albedo(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    ball.visual.vertex_colors = np.tile([188, 0, 255, 255], (len(ball.vertices), 1)).astype(np.uint8)
    ball.export(tmp_path / "ball.ply")
    path = scene(tmp_path, objects=[{"mesh": "ball.ply", "albedo": "vertex"}])
    world = build_world(load_scene(path), path)
    assert np.allclose(world.albedo, [[0.503, 0, 1]], atol=1e-3)


def test_several_objects_make_one_reference(tmp_path: Path) -> None:
    pair = [{"shape": "sphere", "radius": 0.3, "position": [0, y, 0]} for y in (-0.5, 0.5)]
    path = scene(tmp_path, objects=pair)
    mesh = objects_mesh(load_scene(path), path)
    assert mesh.body_count == 2 and mesh.is_watertight
    masks = views_from_scene(path, "full").masks
    assert masks is not None and masks.any()


# Background


def test_the_background_is_seen_but_masked_out(tmp_path: Path) -> None:
    plain = views_from_scene(scene(tmp_path / "a"), "front")
    cubes = views_from_scene(scene(tmp_path / "b", background="white_cubes"), "front")
    assert plain.masks is not None and cubes.masks is not None
    assert np.array_equal(plain.masks, cubes.masks)
    inside = plain.images.sum(axis=3) == cubes.images.sum(axis=3)
    assert inside[plain.masks > 0].mean() > 0.9
    assert (cubes.images[..., 0] > 0).mean() > (plain.images[..., 0] > 0).mean() + 0.2


@pytest.mark.parametrize("preset", ["white_cubes", "coloured_cubes"])
def test_cubes_behind_hide_nothing_from_the_default_front(tmp_path: Path, preset: str) -> None:
    objects = [{"shape": "sphere", "radius": 0.95}]
    sets = {"front": {"count": 9, "azimuth": [-70, 70], "elevation": [-15, 35]}}
    plain = views_from_scene(scene(tmp_path / "a", objects=objects, sets=sets), "front")
    cubes = views_from_scene(scene(tmp_path / "b", objects=objects, sets=sets, background=preset), "front")
    assert plain.masks is not None and cubes.masks is not None
    assert np.array_equal(plain.masks, cubes.masks)


def test_far_cubes_surround_the_cameras(tmp_path: Path) -> None:
    sets = {"front": {"count": 4, "azimuth": [0, 360], "elevation": [0, 0]}}
    views = views_from_scene(scene(tmp_path, sets=sets, background="far_cubes"), "front")
    assert views.masks is not None
    behind = views.images[..., 0][views.masks == 0]
    assert (behind > 0).mean() > 0.3
    assert behind.max() < 0.2


def test_coloured_cubes_have_colours(tmp_path: Path) -> None:
    views = views_from_scene(scene(tmp_path, background="coloured_cubes"), "front")
    assert views.masks is not None
    behind = views.images[views.masks == 0]
    assert (behind.max(axis=1) > 1.5 * behind.min(axis=1)).mean() > 0.2


# Keyframes in a scene


def test_keyframes_are_a_set(tmp_path: Path) -> None:
    poses = arc(3, 2.5, (-70.0, 70.0), (-15.0, 35.0))
    write_keyframes(Keyframes(poses, intrinsics_from_fov(49.0, 24, 24)), tmp_path / "k.npz")
    path = scene(tmp_path, sets={"front": {"path": "keyframes", "file": "k.npz"}, "arc": {"count": 3}})
    a, b = views_from_scene(path, "front"), views_from_scene(path, "arc")
    assert np.allclose(a.camera_to_world, b.camera_to_world)
    assert np.allclose(a.images, b.images, atol=1e-4)


def test_keyframes_of_another_size_are_refused(tmp_path: Path) -> None:
    write_keyframes(Keyframes(even_sphere(2, 2.5), intrinsics_from_fov(49.0, 50, 60)), tmp_path / "k.npz")
    path = scene(tmp_path, sets={"front": {"path": "keyframes", "file": "k.npz"}})
    with pytest.raises(ReconError, match=r"set 'front': k\.npz is for 60x50 pixels, expected 24x24"):
        views_from_scene(path, "front")


# The scenes that come with recon


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenes_have_the_four_sets(path: Path) -> None:
    shipped = load_scene(path)
    assert list(shipped.sets) == ["front", "full", "above", "below"]
    assert shipped.training_set == ("full" if path.stem == "bunny_head_rotation" else "front")


def test_the_heads_scenes_differ_in_their_background_and_what_it_hides() -> None:
    plain, rotation = (load_scene(CONFIG / f"{name}.yaml") for name in ("bunny_head", "bunny_head_rotation"))
    assert rotation.sets == plain.sets and rotation.objects == plain.objects
    for name in ("white_cubes", "coloured_cubes"):
        cubes = load_scene(CONFIG / f"bunny_head_{name}.yaml")
        assert cubes.background == name
        assert {key: cubes.sets[key] for key in ("front", "above", "below")} == {
            key: plain.sets[key] for key in ("front", "above", "below")
        }


def test_the_tiny_scene_renders() -> None:
    views: Views = views_from_scene(CONFIG / "tiny.yaml", "front")
    assert views.images.shape == (6, 32, 32, 3)
    assert Cameras.from_views(views).height == 32
    assert views.metadata["set"] == "front" and views.metadata["source"] == "tiny.yaml"
    assert views.metadata["versions"]["torch"]


# Materials


def test_a_checker_has_two_colours_in_cubes_of_its_objects_own_frame(tmp_path: Path) -> None:
    pattern = {"pattern": "checker", "size": 0.3, "colors": [[0.8, 0.6, 0.4], [0.1, 0.2, 0.3]]}
    ball = {"shape": "sphere", "radius": 0.5, "albedo": pattern}
    albedo = views_from_scene(scene(tmp_path, objects=[ball]), "front").albedo
    assert albedo is not None
    pure = np.isclose(albedo[..., None, :], pattern["colors"], atol=1e-5).all(axis=-1)
    assert pure[..., 0].sum() > 50 and pure[..., 1].sum() > 50
    turned = views_from_scene(scene(tmp_path, objects=[ball | {"rotation": [0, 0, 50]}]), "front").albedo
    assert np.abs(turned - albedo).mean() > 0.01
    full = {"full": {"count": 2, "azimuth": [0, 360], "elevation": [0, 0]}}
    there = views_from_scene(scene(tmp_path, objects=[ball], sets=full, training_set="full"), "full").albedo
    half = [ball | {"rotation": [0, 0, 180]}]
    back = views_from_scene(scene(tmp_path, objects=half, sets=full, training_set="full"), "full").albedo
    np.testing.assert_allclose(back[::-1], there, atol=1e-4)


@pytest.mark.parametrize(
    ("pattern", "place", "share"),
    [
        ({"pattern": "checker", "size": 0.5}, [0.1, 0.2, 0.3], 0),
        ({"pattern": "checker", "size": 0.5}, [-0.1, 0.2, 0.3], 1),
        ({"pattern": "checker", "size": 0.5}, [-0.1, -0.2, 0.3], 0),
        ({"pattern": "stripes", "size": 0.2, "axis": "x"}, [0.3, 9, 9], 1),
        ({"pattern": "stripes", "size": 0.2, "axis": "x"}, [0.5, 9, 9], 0),
        ({"pattern": "half", "axis": "y"}, [9, -0.1, 9], 1),
        ({"pattern": "gradient", "size": 0.4}, [9, 9, -0.4], 0),
        ({"pattern": "gradient", "size": 0.4}, [9, 9, 0.2], 0.75),
        ({"pattern": "gradient", "size": 0.4}, [9, 9, 0.9], 1),
    ],
)
def test_patterns(pattern: dict[str, Any], place: list[float], share: float) -> None:
    colors = Pattern(**pattern, colors=((0, 0, 0), (1, 0.5, 0.25)))
    found = paint(colors, torch.tensor([place]))
    torch.testing.assert_close(found, share * torch.tensor([[1, 0.5, 0.25]]))


def test_a_glossy_layer_adds_the_lobe_of_its_roughness(tmp_path: Path) -> None:
    """In the middle of a picture of a ball, whose surface faces camera and flash there."""
    front = {"front": {"count": 1, "azimuth": [0, 0], "elevation": [0, 0]}}
    camera = {"width": 25, "height": 25, "field_of_view": 20, "samples": 1}
    ball = {"shape": "sphere", "radius": 0.5, "albedo": [0.5, 0.5, 0.5]}
    changes = {"sets": front, "camera": camera, "light": {"intensity": 3}}
    glossy = scene(tmp_path / "b", objects=[ball | {"roughness": 0.6, "specular": 0.1}], **changes)
    dull, shiny = (views_from_scene(path, None) for path in (scene(tmp_path / "a", objects=[ball], **changes), glossy))
    middle = [views.images[0, 12, 12, 0] * views.radiance_scale for views in (dull, shiny)]
    assert middle[1] - middle[0] == pytest.approx(3 * 0.1 / (4 * 0.6**4) / 2**2, rel=0.02)
    assert dull.roughness is None and shiny.roughness is not None and shiny.albedo is not None
    assert shiny.roughness[0, 12, 12] == pytest.approx(0.6) and shiny.roughness[0, 0, 0] == 0
    np.testing.assert_allclose(shiny.albedo[0, 12, 12], 0.5, rtol=1e-5)


def test_known_materials_are_of_the_object_alone(tmp_path: Path) -> None:
    """What a pixel shows of it: beside the background, too, the mean is of the object."""
    wall = {"shape": "cube", "radius": 1.0, "position": [-2.5, 0, 0], "albedo": [1, 0, 0]}
    ball = {"shape": "sphere", "radius": 0.5, "albedo": {"pattern": "half", "colors": [[0, 0, 1], [0, 0, 1]]}}
    views = views_from_scene(scene(tmp_path, objects=[ball], background=[wall]), "front")
    assert views.albedo is not None and views.masks is not None and views.images[..., 0].max() > 0.05
    np.testing.assert_allclose(
        views.albedo[views.masks > 0], np.tile([0, 0, 1], ((views.masks > 0).sum(), 1)), atol=1e-5
    )
    assert views.albedo[..., 0].max() == 0


# Bad input


def test_a_key_that_is_there_twice_is_no_choice(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("objects:\n- {shape: sphere, radius: 0.5, radius: 0.9}\n")
    with pytest.raises(ReconError, match="s.yaml: not YAML: the key 'radius' is there twice") as caught:
        load_scene(tmp_path / "s.yaml")
    assert "\n" not in str(caught.value)


BALL = {"shape": "sphere", "radius": 0.5}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no objects": ({"objects": []}, "key 'objects': .* at least 1 item"),
    "unknown key": ({"objcts": 1}, "unknown key 'objcts'; the nearest known key is 'objects'"),
    "unknown key of an object": (
        {"objects": [BALL | {"albdo": [1, 1, 1]}]},
        "unknown key 'objects.0.albdo'; the nearest known key is 'albedo'",
    ),
    "unknown key of a set": (
        {"sets": {"front": {"cout": 3}}},
        "unknown key 'sets.front.arc.cout'; the nearest known key is 'count'",
    ),
    "unknown shape": ({"objects": [{"shape": "teapot"}]}, "key 'objects.0.shape.*got 'teapot'"),
    "shape and mesh": ({"objects": [BALL | {"mesh": "a.ply"}]}, "key 'objects.0': expected either"),
    "neither": ({"objects": [{}]}, "key 'objects.0': expected either 'shape' or 'mesh'"),
    "negative radius": ({"objects": [BALL | {"radius": -1}]}, "key 'objects.0.radius': .* got -1"),
    "negative albedo": ({"objects": [BALL | {"albedo": [1, 1, -1]}]}, "key 'objects.0.albedo"),
    "no such pattern": ({"objects": [BALL | {"albedo": {"pattern": "dots"}}]}, "key 'objects.0.albedo.*'dots'"),
    "one colour": (
        {"objects": [BALL | {"albedo": {"pattern": "half", "colors": [[1, 1, 1]]}}]},
        "key 'objects.0.albedo.*colors.*",
    ),
    "stripes of no width": (
        {"objects": [BALL | {"albedo": {"pattern": "stripes", "size": 0}}]},
        "key 'objects.0.albedo.*size.* got 0",
    ),
    "mirror": ({"objects": [BALL | {"roughness": 0}]}, "key 'objects.0.roughness': .* got 0"),
    "more than all light": ({"objects": [BALL | {"specular": 1.5}]}, "key 'objects.0.specular': .* got 1.5"),
    "dark light": ({"light": {"intensity": 0}}, "key 'light.intensity': .* got 0"),
    "field of view": ({"camera": {"field_of_view": 180}}, "key 'camera.field_of_view': .* got 180"),
    "two lenses": (
        {"camera": {"field_of_view": 49, "focal_length": 30}},
        "key 'camera': expected either 'field_of_view' or 'focal_length'",
    ),
    "focal length": ({"camera": {"focal_length": 0}}, "key 'camera.focal_length': .* got 0"),
    "no cameras": ({"sets": {"front": {"count": 0}}}, "key 'sets.front.arc.count': .* got 0"),
    "unknown path": ({"sets": {"front": {"path": "spiral"}}}, "key 'sets.front': .*'spiral'"),
    "set name": ({"sets": {"../front": {}}}, "key 'sets.*should match pattern"),
    "published of no set": ({"published": {"back": 0.1}}, "'published' has back, but 'sets' has front, full"),
    "published not positive": ({"published": {"front": 0}}, "'published.front': input should be greater than 0"),
    "no training set": ({"sets": {"a": {}}}, "'training_set' is front, but 'sets' has a"),
    "no such background": ({"background": "sea"}, "key 'background"),
    "no mesh file": ({"objects": [{"mesh": "none.ply"}]}, r"none\.ply: no such mesh file"),
    "no keyframes": ({"sets": {"front": {"path": "keyframes", "file": "none.npz"}}}, r"none\.npz: no such file"),
    "out of the unit sphere": (
        {"objects": [BALL | {"position": [0.6, 0, 0]}]},
        r"objects\.0 \(sphere\): the mesh leaves the unit sphere: vertex \d+ lies 1\.1 from the origin",
    ),
    "background in the unit sphere": (
        {"background": [BALL | {"position": [1.4, 0, 0]}]},
        r"background\.0 \(sphere\): the mesh enters the unit sphere",
    ),
    "no vertex colours": ({"objects": [BALL | {"albedo": "vertex"}]}, r"objects\.0 \(sphere\): has no vertex colours"),
    "camera inside the object": (
        {"sets": {"front": {"radius": 0.3}}},
        "set 'front': the camera of view 0 stands inside an object",
    ),
    "camera inside the background": (
        {
            "background": [BALL | {"position": [2.5, 0, 0]}],
            "sets": {"front": {"azimuth": [0, 90], "elevation": [0, 0]}},
        },
        "set 'front': the camera of view 0 stands inside an object",
    ),
    "blocked": (
        {
            "background": [{"shape": "cube", "radius": 0.6, "position": [1.5, 0, 0]}],
            "sets": {"front": {"count": 3, "azimuth": [-90, 90], "elevation": [0, 0]}},
        },
        "set 'front': view 1 shows no object",
    ),
    "black": ({"objects": [BALL | {"albedo": [0, 0, 0]}]}, "set 'front': all pictures are black"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_scenes_are_one_line_that_names_file_and_key(tmp_path: Path, case: str) -> None:
    changes, message = BAD[case]
    path = scene(tmp_path, **changes)
    with pytest.raises(ReconError, match=message) as caught:
        views_from_scene(path, "front")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "3"])
def test_what_is_no_scene(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ReconError, match=r"s\.yaml: ") as caught:
        load_scene(tmp_path / "s.yaml")
    assert "\n" not in str(caught.value)


def test_a_set_must_be_chosen_among_several(tmp_path: Path) -> None:
    path = scene(tmp_path)
    with pytest.raises(ReconError, match="several viewpoint sets, choose one: front, full"):
        views_from_scene(path, None)
    with pytest.raises(ReconError, match="no viewpoint set 'side': front, full"):
        views_from_scene(path, "side")
    alone = scene(tmp_path / "b", sets={"front": {"count": 1}})
    assert len(views_from_scene(alone, None)) == 1

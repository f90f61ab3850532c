"""The meshes of a scene, posed and joined."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation
from trimesh import Trimesh, transform_points
from trimesh.visual.color import ColorVisuals

from recon.capture.backgrounds import background_objects
from recon.capture.materials import Material, Materials
from recon.capture.scene import ObjectConfig, Pattern, Scene
from recon.errors import ReconError
from recon.geometry.meshes import (
    check_inside_unit_sphere,
    check_outside_unit_sphere,
    fit_to_sphere,
    load_mesh,
    primitive,
)
from recon.images.photograph import linear_from_srgb

CREASED = ("cube", "cylinder")
"""Shapes with edges, across which normals are not interpolated."""


PLAIN = Materials([Material()])


@dataclass(frozen=True, eq=False)
class World:
    """Everything that a scene shows, as one mesh.

    Attributes:
        vertices, faces: in the source's frame, outward counter-clockwise.
        albedo: linear, at the vertices; includes the light's intensity.
        is_object: 1 at the vertices of the objects, 0 at those of the background.
        place: the vertices in the frames of their objects, before these were rotated and moved.
        material: the number of the vertices' material.
        materials: the shader of these materials.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    albedo: Float[np.ndarray, "v 3"]
    is_object: Float[np.ndarray, " v"]
    place: Float[np.ndarray, "v 3"]
    material: Int[np.ndarray, " v"]
    materials: Materials = PLAIN

    @property
    def attributes(self) -> Float[np.ndarray, "v 7"]:
        """What `materials` shades."""
        return np.column_stack([self.albedo, self.place, self.material])

    @property
    def has_background(self) -> bool:
        return not self.is_object.all()


def build_world(scene: Scene, path: Path) -> World:
    """The scene of the file `path`.

    Raises:
        ReconError: a mesh cannot be read, leaves the unit sphere or, in the background, enters it, or
            has no vertex colours where these are asked for.
    """
    configs = scene.background if isinstance(scene.background, list) else background_objects(scene.background)
    objects, background = _named(scene.objects, path, "objects"), _named(configs, path, "background")
    meshes = {name: _posed(config, path, creased=True) for name, config in (objects | background).items()}
    for name in objects:
        check_inside_unit_sphere(meshes[name], name)
    for name in background:
        check_outside_unit_sphere(meshes[name], name)
    parts = objects | background
    albedo = [_albedo(meshes[name], config, name) for name, config in parts.items()]
    world = join(
        [meshes[name] for name in objects],
        [meshes[name] for name in background],
        np.concatenate(albedo) * scene.light.intensity,
    )
    place = [transform_points(meshes[name].vertices, np.linalg.inv(_pose(config))) for name, config in parts.items()]
    number = np.repeat(np.arange(len(parts)), [len(meshes[name].vertices) for name in parts])
    materials = Materials([Material.of(config) for config in parts.values()], scene.light.intensity)
    return replace(world, place=np.concatenate(place), material=number, materials=materials)


def join(objects: list[Trimesh], background: list[Trimesh], albedo: Float[np.ndarray, "v 3"]) -> World:
    """One mesh of all, of one plain material; `albedo` at the vertices of the objects, then of the background."""
    meshes = objects + background
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    count = sum(len(mesh.vertices) for mesh in objects)
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    return World(
        vertices,
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]),
        albedo,
        (np.arange(len(albedo)) < count).astype(np.float64),
        vertices,
        np.zeros(len(albedo), np.int64),
    )


def objects_mesh(scene: Scene, path: Path) -> Trimesh:
    """The scene's objects as one mesh without doubled vertices: what a reconstruction is held against."""
    objects = [_posed(config, path, creased=False) for config in scene.objects]
    together = join(objects, [], np.ones((sum(len(mesh.vertices) for mesh in objects), 3)))
    return Trimesh(together.vertices, together.faces, process=False)


def _named(configs: Iterable[ObjectConfig], path: Path, key: str) -> dict[str, ObjectConfig]:
    """The objects by what errors call them."""
    return {f"{path}: {key}.{i} ({config.shape or config.mesh})": config for i, config in enumerate(configs)}


def _posed(config: ObjectConfig, path: Path, creased: bool) -> Trimesh:
    """The object's mesh in the scene's frame; `creased`: with the vertices along its creases doubled."""
    mesh = _source_mesh(config, path)
    if config.radius is not None:
        mesh, _ = fit_to_sphere(mesh, config.radius)
    if creased and config.shape in CREASED:
        mesh = trimesh.graph.smooth_shade(mesh, angle=np.radians(30))
    mesh.apply_transform(_pose(config))
    return mesh


def _pose(config: ObjectConfig) -> Float[np.ndarray, "4 4"]:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", config.rotation, degrees=True).as_matrix()
    pose[:3, 3] = config.position
    return pose


def _source_mesh(config: ObjectConfig, path: Path) -> Trimesh:
    if config.mesh is not None:
        return load_mesh(path.parent / config.mesh)
    if config.shape == "bunny" or config.shape == "bunny_head":
        from recon.capture import bunny

        return bunny.bunny() if config.shape == "bunny" else bunny.bunny_head()
    assert config.shape is not None  # ObjectConfig has one of the two
    return primitive(config.shape)


def _albedo(mesh: Trimesh, config: ObjectConfig, name: str) -> Float[np.ndarray, "v 3"]:
    if config.albedo != "vertex":
        color = np.mean(config.albedo.colors, axis=0) if isinstance(config.albedo, Pattern) else config.albedo
        return np.tile(np.array(color, np.float64), (len(mesh.vertices), 1))
    visual = mesh.visual
    if not isinstance(visual, ColorVisuals) or visual.kind != "vertex":
        raise ReconError(f"{name}: has no vertex colours, but its albedo is to come from them")
    return linear_from_srgb(np.asarray(visual.vertex_colors)[:, :3] / 255.0)

"""Viewpoint sets that we render: of a declared scene, or of a mesh from the viewpoints of keyframes."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from recon.camera import intrinsics_from_fov
from recon.capture.keyframes import Keyframes, read_keyframes
from recon.capture.paths import arc, even_sphere
from recon.capture.poses import poses_in_unit_frame
from recon.capture.provenance import provenance
from recon.capture.rendering import photograph, photograph_background, photograph_materials
from recon.capture.scene import ArcPath, CameraConfig, KeyframesPath, Scene, SpherePath, load_scene, scene_files
from recon.capture.world import build_world, join
from recon.errors import ReconError
from recon.geometry.meshes import bounding_sphere, load_mesh, similarity
from recon.views import Frame, Views

SAMPLES = 4
"""Samples along each side of a pixel, where no scene says how many."""

FILL = 0.9
"""Radius in the unit sphere of a mesh that does not lie in it already."""

PACKAGES = ("torch", "trimesh", "pymeshfix")


def views_from_scene(path: Path, set_name: str | None, like: Frame | None = None) -> Views:
    """The viewpoint set `set_name` (needed where there are several) of a scene.yaml.

    Images are divided by the brightest pixel of the scene's training set, or by the radiance scale
    of `like`, which spares rendering the training set for that.

    Raises:
        ReconError: the scene is invalid; there is no such set; a mesh leaves or enters the unit
            sphere; a camera stands inside an object or sees none.
    """
    scene = load_scene(path)
    name = _chosen_set(scene, set_name, path)
    world = build_world(scene, path)
    size = scene.camera.height, scene.camera.width, scene.camera.samples
    cameras = _cameras(scene, name, path)
    radiance, masks = photograph(world, *cameras, *size, f"{path}: set '{name}'")
    scale = float(radiance.max())
    if like is not None:
        scale = like.radiance_scale
    elif name != scene.training_set:
        training = _cameras(scene, scene.training_set, path)
        scale = float(photograph(world, *training, *size, f"{path}: set '{scene.training_set}'")[0].max())
    if scale <= 0:
        raise ReconError(f"{path}: set '{scene.training_set}': all pictures are black")
    inputs = [path, *scene_files(scene, path)]
    albedo, roughness = photograph_materials(world, *cameras, *size) if world.materials.varied else (None, None)
    views = Views(
        images=radiance / np.float32(scale),
        masks=masks,
        albedo=albedo,
        roughness=roughness,
        backgrounds=photograph_background(world, *cameras, *size) / np.float32(scale) if scene.empty_views else None,
        camera_to_world=cameras[0],
        intrinsics=cameras[1],
        radiance_scale=scale,
        metadata=provenance(name, path, inputs, scene.model_dump(mode="json"), PACKAGES),
    )
    return views if like is None else views.aligned_to(like)


def views_from_keyframes(path: Path, mesh_path: Path, set_name: str, like: Frame | None = None) -> Views:
    """A white mesh from the viewpoints of a keyframes.npz that shares its frame.

    The unit frame is the mesh's own where the mesh lies in the unit sphere, else it is recentred.

    Raises:
        ReconError: mesh or keyframes are unreadable; a camera stands inside the mesh or does not see it.
    """
    keyframes = read_keyframes(path)
    mesh = load_mesh(mesh_path)
    world = join([mesh], [], np.ones((len(mesh.vertices), 3)))
    poses = keyframes.camera_to_world
    intrinsics = np.tile(keyframes.intrinsics, (len(poses), 1, 1))
    radiance, masks = photograph(world, poses, intrinsics, *keyframes.resolution, SAMPLES, str(path))
    world_from_unit = _unit_frame(world.vertices) if like is None else like.world_from_unit
    scale = float(radiance.max()) if like is None else like.radiance_scale
    return Views(
        images=radiance / np.float32(scale),
        masks=masks,
        camera_to_world=poses_in_unit_frame(poses, world_from_unit),
        intrinsics=intrinsics,
        radiance_scale=scale,
        world_from_unit=world_from_unit,
        metadata=provenance(set_name, path, [path, mesh_path], {"mesh": mesh_path.name, "samples": SAMPLES}, PACKAGES),
    )


def keyframes_from_scene(path: Path, set_name: str | None) -> Keyframes:
    """The viewpoints alone of the set `set_name` (needed where there are several) of a scene.yaml.

    Raises:
        ReconError: the scene is invalid, or there is no such set.
    """
    scene = load_scene(path)
    poses, intrinsics = _cameras(scene, _chosen_set(scene, set_name, path), path)
    return Keyframes(poses, intrinsics[0], (scene.camera.height, scene.camera.width))


def _chosen_set(scene: Scene, set_name: str | None, path: Path) -> str:
    if set_name is None and len(scene.sets) == 1:
        return next(iter(scene.sets))
    if set_name not in scene.sets:
        asked = "several viewpoint sets, choose one" if set_name is None else f"no viewpoint set '{set_name}'"
        raise ReconError(f"{path}: has {asked}: {', '.join(scene.sets)}")
    return set_name


def _cameras(scene: Scene, name: str, path: Path) -> tuple[Float[np.ndarray, "n 4 4"], Float[np.ndarray, "n 3 3"]]:
    camera, view_path = scene.camera, scene.sets[name]
    matrix = _intrinsics(camera)
    match view_path:
        case ArcPath():
            poses = arc(view_path.count, view_path.radius, view_path.azimuth, view_path.elevation)
        case SpherePath():
            poses = even_sphere(view_path.count, view_path.radius)
        case KeyframesPath():
            keyframes = read_keyframes(path.parent / view_path.file)
            if keyframes.resolution != (camera.height, camera.width):
                height, width = keyframes.resolution
                raise ReconError(
                    f"{path}: set '{name}': {view_path.file} is for {width}x{height} pixels, "
                    f"expected {camera.width}x{camera.height} as 'camera' says"
                )
            poses, matrix = keyframes.camera_to_world, keyframes.intrinsics
    return poses, np.tile(matrix, (len(poses), 1, 1))


def _intrinsics(camera: CameraConfig) -> Float[np.ndarray, "3 3"]:
    if camera.focal_length is None:
        return intrinsics_from_fov(camera.field_of_view, camera.height, camera.width)
    focal, center = camera.focal_length, (camera.width / 2, camera.height / 2)
    return np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])


def _unit_frame(vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "4 4"]:
    if np.linalg.norm(vertices, axis=1).max() < 1:
        return np.eye(4)
    center, radius = bounding_sphere(vertices)
    return similarity(center, radius / FILL)

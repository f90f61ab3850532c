"""What runs inside Blender's Python: reads a .blend, or renders it. `recon.capture.blender` starts it.

This file is a program of its own. It imports neither recon nor torch, because Blender's Python may lack
both, and nothing of recon imports it, because `bpy` is GPL. It is told what to do by a line of JSON, its
last argument, and answers with files in the folder `out`; in `error.txt` where the .blend is at fault.
Scripts in a .blend are not run.
"""

import json
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np

AT_FAULT = 3
"""Exit code that goes with `error.txt`."""

FLASH = 4 * np.pi**2
"""Watts of a point light under which a white diffuse surface that faces it at distance 1 has radiance 1:
Blender's point light has P / (4 pi) W/sr, and the surface reflects 1 / pi of its irradiance."""

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])


Mesh = tuple[str, list[str], np.ndarray, np.ndarray]
"""Name, collections, vertices in the world (v, 3), triangles (f, 3)."""


class BadScene(Exception):
    """What is wrong with the .blend, in one line."""


def main() -> int:
    request = json.loads(sys.argv[-1])
    try:
        {"read": read, "render": render}[request["task"]](request)
    except BadScene as error:
        (Path(request["out"]) / "error.txt").write_text(str(error))
        return AT_FAULT
    return 0


def read(request: dict[str, Any]) -> None:
    """`out/scene.npz`: cameras and meshes, for `recon.capture.blender.BlenderScene`."""
    scene, camera, frames = open_scene(request)
    unhide_as_rendered(scene)
    width, height = resolution(scene)
    poses, matrices = [], []
    first: list[Mesh] = []
    for frame in frames:
        scene.frame_set(int(np.floor(frame)), subframe=frame % 1)
        graph = bpy.context.evaluated_depsgraph_get()
        poses.append(camera_to_world(camera.evaluated_get(graph), frame))
        matrices.append(intrinsics(camera.evaluated_get(graph), graph, scene, width, height))
        meshes = world_meshes(graph)
        first = first or meshes
        check_still(first, meshes, frames[0], frame)
    if not first:
        raise BadScene("has no mesh that is rendered")
    np.savez(
        Path(request["out"]) / "scene.npz",
        camera=np.array(camera.name),
        version=np.array(bpy.app.version_string),
        files=np.array([path for path in bpy.utils.blend_paths(absolute=True) if Path(path).is_file()], str),
        frames=np.array(frames, np.float64),
        camera_to_world=np.stack(poses),
        intrinsics=np.stack(matrices),
        resolution=np.array([height, width]),
        names=np.array([name for name, *_ in first]),
        collections=np.array(["\n".join(inside) for _, inside, *_ in first]),
        vertex_counts=np.array([len(vertices) for *_, vertices, _ in first]),
        face_counts=np.array([len(faces) for *_, faces in first]),
        vertices=np.concatenate([vertices for *_, vertices, _ in first]),
        faces=np.concatenate([faces for *_, faces in first]),
    )


def render(request: dict[str, Any]) -> None:
    """`out/{i}.exr`: linear radiance of every keyframe under the flash alone, RGBA over nothing."""
    scene, camera, frames = open_scene(request)
    only_the_flash(scene, camera)
    configure(scene, request["samples"], request["threads"])
    scene.camera = camera
    for i, frame in enumerate(frames):
        scene.frame_set(int(np.floor(frame)), subframe=frame % 1)
        scene.render.filepath = str(Path(request["out"]) / f"{i}.exr")
        bpy.ops.render.render(write_still=True, layer=bpy.context.view_layer.name, scene=scene.name)


# The file, and the camera in it


def open_scene(request: dict[str, Any]) -> tuple[Any, Any, list[float]]:
    """Scene, camera and keyframes. `camera` in the request chooses among several animated cameras."""
    try:
        bpy.ops.wm.open_mainfile(filepath=request["blend"], load_ui=False, use_scripts=False)
    except RuntimeError as error:
        raise BadScene(f"not a readable .blend: {' '.join(str(error).removeprefix('Error:').split())}") from None
    scene = bpy.context.scene
    camera = chosen_camera(scene, request["camera"])
    if camera.data.type != "PERSP":
        kind = {"ORTHO": "orthographic", "PANO": "panoramic"}.get(camera.data.type, camera.data.type.lower())
        raise BadScene(f"the camera '{camera.name}' is {kind}, expected perspective")
    if scene.render.pixel_aspect_x != scene.render.pixel_aspect_y:
        x, y = scene.render.pixel_aspect_x, scene.render.pixel_aspect_y
        raise BadScene(f"pixels are not square: their aspect is {x:g} to {y:g}")
    frames = keyed_frames(camera)
    if not frames:
        raise BadScene(f"the camera '{camera.name}' has no keyframes, expected one for each view")
    return scene, camera, frames


def chosen_camera(scene: Any, name: str | None) -> Any:
    cameras = {object.name: object for object in scene.objects if object.type == "CAMERA"}
    if not cameras:
        raise BadScene("has no camera")
    if name in cameras:
        return cameras[name]
    animated = [camera for camera in cameras.values() if keyed_frames(camera)]
    if len(animated) > 1 and name is not None:
        raise BadScene(f"no camera is called '{name}'; animated are: {', '.join(c.name for c in animated)}")
    if len(animated) == 1:
        return animated[0]
    if scene.camera is None and len(cameras) > 1:
        raise BadScene(f"none of its cameras is the scene's: {', '.join(cameras)}")
    return scene.camera or next(iter(cameras.values()))


def keyed_frames(camera: Any) -> list[float]:
    """Frames at which anything that moves the camera or changes its lens has a keyframe, in order."""
    owners: dict[int, list[Any]] = {}
    queue = [camera]
    while queue:
        object = queue.pop()
        if object is None or object.as_pointer() in owners:
            continue
        owners[object.as_pointer()] = [object, getattr(object, "data", None)]
        queue += [object.parent, *(getattr(constraint, "target", None) for constraint in object.constraints)]
    curves = [curve for owner in owners.values() for block in owner if block for curve in animation_curves(block)]
    return sorted({round(float(key.co.x), 4) for curve in curves for key in curve.keyframe_points})


def animation_curves(block: Any) -> list[Any]:
    data = block.animation_data
    action = data.action if data else None
    if action is None:
        return []
    if not hasattr(action, "layers"):  # Blender before 4.4
        return list(action.fcurves)
    bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return [curve for bag in bags if bag.slot_handle == data.action_slot_handle for curve in bag.fcurves]


def camera_to_world(camera: Any, frame: float) -> np.ndarray:
    """Rigid pose in OpenCV axes; Blender's cameras look along -z with y up, and their scale means nothing."""
    matrix = np.array(camera.matrix_world, np.float64)
    columns = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.allclose(columns.T @ columns, np.eye(3), atol=1e-4) or np.linalg.det(columns) < 0:
        raise BadScene(f"frame {frame:g}: the camera '{camera.name}' is sheared or mirrored by what moves it")
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = columns @ OPENCV_FROM_OPENGL, matrix[:3, 3]
    return pose


def intrinsics(camera: Any, graph: Any, scene: Any, width: int, height: int) -> np.ndarray:
    """In pixels: of lens, sensor, sensor fit and shift, which Blender joins in its projection matrix."""
    aspect = scene.render.pixel_aspect_x, scene.render.pixel_aspect_y
    projection = np.array(
        camera.calc_matrix_camera(graph, x=width, y=height, scale_x=aspect[0], scale_y=aspect[1]), np.float64
    )
    return np.array(
        [
            [projection[0, 0] * width / 2, 0, (1 - projection[0, 2]) * width / 2],
            [0, projection[1, 1] * height / 2, (1 + projection[1, 2]) * height / 2],
            [0, 0, 1],
        ]
    )


def resolution(scene: Any) -> tuple[int, int]:
    share = scene.render.resolution_percentage / 100
    return int(scene.render.resolution_x * share), int(scene.render.resolution_y * share)


# Meshes


def unhide_as_rendered(scene: Any) -> None:
    """Make the viewport, whose geometry Python sees, show what a render shows."""
    for collection in [scene.collection, *bpy.data.collections]:
        collection.hide_viewport = collection.hide_render
    layers = [bpy.context.view_layer.layer_collection]
    while layers:
        layer = layers.pop()
        layer.hide_viewport = False
        layers += layer.children
    for object in bpy.context.view_layer.objects:
        object.hide_set(False)
        object.hide_viewport = object.hide_render
        for modifier in object.modifiers:
            modifier.show_viewport = modifier.show_render
            if hasattr(modifier, "render_levels"):
                modifier.levels = modifier.render_levels


def world_meshes(graph: Any) -> list[Mesh]:
    """Everything that has a surface."""
    meshes: list[Mesh] = []
    for instance in graph.object_instances:
        object = instance.object
        if object.type not in ("MESH", "CURVE", "SURFACE", "FONT", "META") or not instance.show_self:
            continue
        mesh = object.to_mesh()
        if mesh is None or len(mesh.polygons) == 0:
            continue
        mesh.calc_loop_triangles()
        vertices, corners = np.empty(3 * len(mesh.vertices)), np.empty(3 * len(mesh.loop_triangles), np.int32)
        mesh.vertices.foreach_get("co", vertices)
        mesh.loop_triangles.foreach_get("vertices", corners)
        matrix = np.array(instance.matrix_world, np.float64)
        faces = corners.reshape(-1, 3).astype(np.int64)
        if np.linalg.det(matrix[:3, :3]) < 0:
            faces = faces[:, ::-1]
        owner = instance.parent if instance.is_instance else object
        inside = [collection.name for collection in owner.original.users_collection]
        meshes.append((owner.name, inside, vertices.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3], faces))
        object.to_mesh_clear()
    return meshes


def check_still(first: list[Mesh], meshes: list[Mesh], first_frame: float, frame: float) -> None:
    if len(first) != len(meshes):
        raise BadScene(
            f"a mesh appears or goes between the frames {first_frame:g} and {frame:g}; only the camera may move"
        )
    for (name, _, vertices, _), (_, _, moved, _) in zip(first, meshes, strict=True):
        size = np.ptp(vertices, axis=0).max()
        if vertices.shape != moved.shape or np.abs(vertices - moved).max() > 1e-4 * size:
            raise BadScene(f"'{name}' moves between the frames {first_frame:g} and {frame:g}; only the camera may")


# Pictures


def only_the_flash(scene: Any, camera: Any) -> None:
    """A point light of no size at the camera's centre, and no other light."""
    for object in bpy.data.objects:
        if object.type in ("LIGHT", "LIGHT_PROBE"):
            object.hide_render = True
    scene.world = None
    data = bpy.data.lights.new("flash", "POINT")
    data.energy, data.color, data.shadow_soft_size = FLASH, (1, 1, 1), 0
    light = bpy.data.objects.new("flash", data)
    light.parent = camera
    scene.collection.objects.link(light)


def configure(scene: Any, samples: int, threads: int) -> None:
    """Cycles on the CPU: direct light alone, box filter of one pixel, linear EXR."""
    render, cycles = scene.render, scene.cycles
    render.engine, cycles.device = "CYCLES", "CPU"
    cycles.samples = samples**2
    cycles.use_adaptive_sampling = cycles.use_denoising = False
    cycles.max_bounces = 0
    cycles.seed = 0
    cycles.sample_clamp_direct = 0
    cycles.film_exposure = 1
    cycles.pixel_filter_type = "BOX"
    bpy.context.view_layer.samples = 0
    bpy.context.view_layer.material_override = None
    for other in bpy.data.cameras:
        other.dof.use_dof = False
    render.film_transparent, render.use_motion_blur = True, False
    render.use_compositing = render.use_sequencer = render.use_border = render.use_multiview = False
    render.use_file_extension = False
    render.use_persistent_data = True
    if threads:
        render.threads_mode, render.threads = "FIXED", threads
    settings = render.image_settings
    if hasattr(settings, "media_type"):  # Blender 5
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
    settings.exr_codec = "ZIP"
    settings.color_management = "OVERRIDE"
    settings.linear_colorspace_settings.name = "Linear Rec.709"


if __name__ == "__main__":
    sys.exit(main())

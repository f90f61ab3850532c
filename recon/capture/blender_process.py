"""What runs inside Blender's Python: reads a .blend, or renders it. `recon.capture.blender` starts it.

This file is a program of its own. It imports neither recon nor torch, because Blender's Python may lack
both, and nothing of recon imports it, because `bpy` is GPL. It is told what to do by a line of JSON, its
last argument, and answers with files in the folder `out`; in `error.txt` where the .blend is at fault.
Scripts in a .blend are not run.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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


NOTES: list[str] = []
"""What is worth a line although it forbids nothing."""


class BadScene(Exception):
    """What is wrong with the .blend, in one line."""


def main() -> int:
    request = json.loads(sys.argv[-1])
    bpy.utils.register_class(Reader)
    try:
        {"read": read, "render": render, "files": files}[request["task"]](request)
    except BadScene as error:
        (Path(request["out"]) / "error.txt").write_text(str(error))
        return AT_FAULT
    return 0


def read(request: dict[str, Any]) -> None:
    """`out/scene.npz`: cameras and meshes, for `recon.capture.blender.BlenderScene`."""
    scene, shots = open_scene(request)
    width, height = resolution(scene)
    poses, matrices = [], []
    first: list[Mesh] = []
    for shot in shots:
        meshes, pose, matrix = as_rendered(
            scene, shot, partial(look, scene=scene, shot=shot, width=width, height=height)
        )
        poses.append(pose)
        matrices.append(matrix)
        first = first or meshes
        check_still(first, meshes, shots[0].frame, shot.frame)
    if not first:
        raise BadScene("has no mesh that is rendered")
    np.savez(
        Path(request["out"]) / "scene.npz",
        camera=np.array(", ".join(dict.fromkeys(shot.camera.name for shot in shots))),
        version=np.array(bpy.app.version_string),
        files=np.array(linked_files(), str),
        notes=np.array(NOTES, str),
        frames=np.array([shot.frame for shot in shots], np.float64),
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


def files(request: dict[str, Any]) -> None:
    """`out/files.txt`: what the .blend links."""
    open_file(request)
    (Path(request["out"]) / "files.txt").write_text("\n".join(linked_files()))


def linked_files() -> list[str]:
    return [path for path in bpy.utils.blend_paths(absolute=True) if Path(path).is_file()]


class Shot(NamedTuple):
    """One view: a camera at a frame."""

    camera: Any
    frame: float


def look(graph: Any, scene: Any, shot: Shot, width: int, height: int) -> tuple[list[Mesh], np.ndarray, np.ndarray]:
    """Meshes, pose and intrinsics of a view."""
    camera = shot.camera.evaluated_get(graph)
    pose = camera_to_world(camera, shot.frame)
    return world_meshes(graph), pose, intrinsics(camera, graph, scene, width, height)


class Reader(bpy.types.RenderEngine):
    """A renderer that draws nothing and reads what it is given to draw.

    What Blender hands to its renderers differs from what its viewport and Python see: levels of subdivision,
    Simplify, modifiers, resolutions of curves, particles, hidden objects, instances, drivers. So the meshes of
    masks and references are taken where Cycles takes its own.
    """

    bl_idname, bl_label = "RECON_READER", "recon"
    task: Any = None
    answer: Any = None
    fault: BaseException | None = None

    def render(self, depsgraph: Any) -> None:
        try:
            Reader.answer = Reader.task(depsgraph)
        except BaseException as error:  # what a renderer raises, Blender prints and forgets
            Reader.fault = error


def as_rendered(scene: Any, shot: Shot, task: Callable[[Any], Any]) -> Any:
    """What `task` makes of the scene as a renderer gets it."""
    scene.camera = shot.camera
    scene.frame_set(int(np.floor(shot.frame)), subframe=shot.frame % 1)
    Reader.task, Reader.answer, Reader.fault = task, None, None
    scene.render.engine = Reader.bl_idname
    scene.render.use_compositing = scene.render.use_sequencer = scene.render.use_multiview = False
    bpy.ops.render.render(layer=bpy.context.view_layer.name, scene=scene.name)
    if Reader.fault is not None:
        raise Reader.fault
    if Reader.answer is None:
        raise BadScene("cannot be rendered: Blender hands nothing to its renderer")
    return Reader.answer


def render(request: dict[str, Any]) -> None:
    """`out/{i}.exr`: linear radiance of every view under the flash alone, RGBA over nothing."""
    scene, shots = open_scene(request)
    light = only_the_flash(scene)
    configure(scene, request["samples"], request["threads"])
    for i, shot in enumerate(shots):
        scene.camera = light.parent = shot.camera
        scene.frame_set(int(np.floor(shot.frame)), subframe=shot.frame % 1)
        scene.render.filepath = str(Path(request["out"]) / f"{i}.exr")
        bpy.ops.render.render(write_still=True, layer=bpy.context.view_layer.name, scene=scene.name)


# The file, and the camera in it


def open_file(request: dict[str, Any]) -> Any:
    try:
        bpy.ops.wm.open_mainfile(filepath=request["blend"], load_ui=False, use_scripts=False)
    except RuntimeError as error:
        raise BadScene(f"not a readable .blend: {' '.join(str(error).removeprefix('Error:').split())}") from None
    return bpy.context.scene


def open_scene(request: dict[str, Any]) -> tuple[Any, list[Shot]]:
    """The scene and its views. `camera` in the request chooses among several animated cameras."""
    scene = open_file(request)
    check_linked()
    if len(bpy.data.scenes) > 1:
        note(f"has several scenes: taken is '{scene.name}', which was open when the file was saved")
    if sum(layer.use for layer in scene.view_layers) > 1:
        note(f"has several view layers: taken is '{bpy.context.view_layer.name}'")
    shots = chosen_shots(scene, request["camera"])
    for camera in dict.fromkeys(shot.camera for shot in shots):
        if camera.data.type != "PERSP":
            kind = {"ORTHO": "orthographic", "PANO": "panoramic"}.get(camera.data.type, camera.data.type.lower())
            raise BadScene(f"the camera '{camera.name}' is {kind}, expected perspective")
    if scene.render.pixel_aspect_x != scene.render.pixel_aspect_y:
        x, y = scene.render.pixel_aspect_x, scene.render.pixel_aspect_y
        raise BadScene(f"pixels are not square: their aspect is {x:g} to {y:g}")
    for marker in scene.timeline_markers:
        marker.camera = None  # else Blender switches to it while it renders
    return scene, shots


def check_linked() -> None:
    """Blender shows a placeholder for what it cannot find, and says so to nobody."""
    for library in bpy.data.libraries:
        inside = library.packed_file or getattr(library, "is_archive", False)
        if not inside and not Path(bpy.path.abspath(library.filepath)).is_file():
            raise BadScene(f"links {library.filepath}, which is not there")
    for image in bpy.data.images:
        lone = image.source == "FILE" and image.users and not image.packed_file and image.filepath
        if lone and not Path(bpy.path.abspath(image.filepath, library=image.library)).is_file():
            note(f"the image '{image.name}' is not there: {image.filepath}; what it paints is pink in the pictures")


def chosen_shots(scene: Any, name: str | None) -> list[Shot]:
    """The keyframes of one camera; or where none is animated, the cameras that markers of the timeline switch to."""
    cameras = {object.name: object for object in scene.objects if object.type == "CAMERA"}
    if not cameras:
        raise BadScene("has no camera")
    switches = sorted((marker.frame, marker.camera.name) for marker in scene.timeline_markers if marker.camera)
    animated = [camera for camera in cameras.values() if keyed_frames(camera)]
    if name not in cameras and not animated and switches:
        return [Shot(cameras[camera], float(frame)) for frame, camera in switches]
    camera = chosen_camera(scene, cameras, animated, name)
    frames = keyed_frames(camera)
    if not frames:
        raise BadScene(
            f"the camera '{camera.name}' has no keyframes, expected one for each view"
            " (of the camera, what it hangs on or its lens; or markers that switch cameras)"
        )
    others = sorted({other for _, other in switches if other != camera.name})
    if others:
        note(
            f"markers of the timeline switch to {', '.join(others)}: not heeded, the views are the keyframes of "
            f"'{camera.name}'; --set-name chooses another camera"
        )
    return [Shot(camera, frame) for frame in frames]


def chosen_camera(scene: Any, cameras: dict[str, Any], animated: list[Any], name: str | None) -> Any:
    if name in cameras:
        return cameras[name]
    if len(animated) > 1 and name is not None:
        raise BadScene(f"no camera is called '{name}'; animated are: {', '.join(c.name for c in animated)}")
    if len(animated) == 1:
        return animated[0]
    if scene.camera is None and len(cameras) > 1:
        raise BadScene(f"none of its cameras is the scene's: {', '.join(cameras)}")
    chosen = scene.camera or next(iter(cameras.values()))
    if len(animated) > 1:
        others = ", ".join(camera.name for camera in animated if camera != chosen)
        note(f"several cameras are animated: taken is '{chosen.name}'; --set-name chooses another: {others}")
    return chosen


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
    return sorted(
        {round(time, 4) for owner in owners.values() for block in owner if block for time in key_times(block)}
    )


def key_times(block: Any) -> list[float]:
    """When the block's own action has keyframes, and the strips of its non-linear animation."""
    data = block.animation_data
    if data is None:
        return []
    times = action_times(data.action, getattr(data, "action_slot_handle", None))
    solo = any(track.is_solo for track in data.nla_tracks)
    for track in data.nla_tracks:
        if not track.mute and (track.is_solo or not solo) and data.use_nla:
            times += [time for strip in track.strips for time in strip_times(strip)]
    return times


def action_times(action: Any, slot: Any) -> list[float]:
    if action is None:
        return []
    if not hasattr(action, "layers"):  # Blender before 4.4
        curves = list(action.fcurves)
    else:
        bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
        curves = [curve for bag in bags if bag.slot_handle == slot for curve in bag.fcurves]
    return [float(key.co.x) for curve in curves if not curve.mute for key in curve.keyframe_points]


def strip_times(strip: Any) -> list[float]:
    """Keyframes of a strip's action as frames of the scene: moved, stretched, repeated or run backwards."""
    if strip.mute:
        return []
    inner = [time for each in getattr(strip, "strips", []) for time in strip_times(each)]
    if strip.type != "CLIP":
        return [time for time in inner if strip.frame_start <= time <= strip.frame_end]
    start, end = strip.action_frame_start, strip.action_frame_end
    keys = list(action_times(strip.action, getattr(strip, "action_slot_handle", None)))
    times = []
    for turn in range(int(np.ceil(strip.repeat - 1e-6))):
        for key in keys:
            if start - 1e-4 <= key <= end + 1e-4:
                inside = end - key if strip.use_reverse else key - start
                times.append(strip.frame_start + strip.scale * (inside + turn * (end - start)))
    return [time for time in times if time <= strip.frame_end + 1e-3]


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


def world_meshes(graph: Any) -> list[Mesh]:
    """Everything that has a surface."""
    meshes: list[Mesh] = []
    for instance in graph.object_instances:
        object = instance.object
        if not instance.show_self or not seen_by_the_camera(instance):
            continue
        if object.type in UNMESHED:
            note(f"'{object.name}' is {UNMESHED[object.type]}: it is rendered, but is part of no mask and no mesh")
        for system in getattr(object, "particle_systems", []):
            if system.settings.type == "HAIR" and system.settings.render_type == "PATH":
                note(f"'{object.name}' has hair: it is rendered, but is part of no mask and no mesh")
        if object.type not in ("MESH", "CURVE", "SURFACE", "FONT", "META"):
            continue
        for material in {slot.material for slot in object.material_slots if slot.material}:
            if displaces(material):
                note(f"the material '{material.name}' displaces the surface in renders, but not in masks and meshes")
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


UNMESHED = {"CURVES": "hair", "POINTCLOUD": "a cloud of points", "VOLUME": "a volume"}
"""What Cycles renders although it has no mesh."""


def seen_by_the_camera(instance: Any) -> bool:
    """Whether rays of the camera meet it: objects and collections may be there for shadows alone."""
    owner = (instance.parent if instance.is_instance else instance.object).original
    layer = bpy.context.view_layer
    if not owner.visible_camera or not instance.object.original.visible_camera:
        return False
    try:
        return not owner.indirect_only_get(view_layer=layer)
    except (RuntimeError, TypeError):  # an object that is in no collection of the layer itself
        return True


def displaces(material: Any) -> bool:
    if getattr(material, "displacement_method", "BUMP") == "BUMP" or material.node_tree is None:
        return False
    outputs = [node for node in material.node_tree.nodes if node.type == "OUTPUT_MATERIAL"]
    return any(node.inputs["Displacement"].is_linked for node in outputs)


def note(line: str) -> None:
    if line not in NOTES:
        NOTES.append(line)


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


def only_the_flash(scene: Any) -> Any:
    """A point light of no size, to hang on the camera's centre, and no other light."""
    for object in bpy.data.objects:
        if object.type in ("LIGHT", "LIGHT_PROBE"):
            object.hide_render = True
    scene.world = None
    data = bpy.data.lights.new("flash", "POINT")
    data.energy, data.color, data.shadow_soft_size = FLASH, (1, 1, 1), 0
    light = bpy.data.objects.new("flash", data)
    scene.collection.objects.link(light)
    return light


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

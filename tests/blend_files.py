"""Makes the .blend files of test_blender.py. Runs inside Blender's Python, not under pytest.

Its last argument is JSON: the folder to write to, and `mesh`, a PLY that lies in the unit sphere.
"""

import json
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

REQUEST = json.loads(sys.argv[-1])


def stage(size: float = 1.0, offset: tuple[float, float, float] = (0, 0, 0)) -> tuple[Any, Any]:
    """An imported mesh, white and diffuse, under a sun and a bright sky; and a camera with three keyframes."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 96, 64, 50
    bpy.ops.wm.ply_import(filepath=REQUEST["mesh"])
    mesh = bpy.context.object
    mesh.name = "Pot"
    mesh.data.polygons.foreach_set("use_smooth", [True] * len(mesh.data.polygons))
    mesh.scale, mesh.location = (size,) * 3, offset
    paint(mesh, (1, 1, 1, 1))
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy = 50
    scene.collection.objects.link(sun)
    scene.world = bpy.data.worlds.new("Sky")
    scene.world.color = (3, 3, 3)
    return mesh, add_camera("Front", size, offset, elevation=0.2, shift=0.1)


def paint(mesh: Any, color: tuple[float, float, float, float]) -> None:
    material = bpy.data.materials.new("matt")
    tree = material.node_tree
    tree.nodes.clear()
    shader, output = tree.nodes.new("ShaderNodeBsdfDiffuse"), tree.nodes.new("ShaderNodeOutputMaterial")
    shader.inputs["Color"].default_value = color
    tree.links.new(shader.outputs[0], output.inputs[0])
    mesh.data.materials.append(material)


def add_camera(name: str, size: float, offset: tuple[float, float, float], elevation: float, shift: float = 0.0) -> Any:
    camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    camera.data.shift_x = shift
    bpy.context.scene.collection.objects.link(camera)
    for i, frame in enumerate((1, 5, 10)):
        eye = Vector((2.5 * np.cos(0.6 * i), 2.5 * np.sin(0.6 * i), elevation + 0.2 * i))
        camera.location = size * eye + Vector(offset)
        camera.rotation_euler = (-eye).to_track_quat("-Z", "Y").to_euler()
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
    bpy.context.scene.camera = camera
    return camera


def add_cube(name: str, size: float, position: tuple[float, float, float]) -> Any:
    bpy.ops.mesh.primitive_cube_add(size=size, location=position)
    cube = bpy.context.object
    cube.name = name
    paint(cube, (1, 0.2, 0.2, 1))
    return cube


def save(name: str) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(Path(REQUEST["folder"]) / f"{name}.blend"))


stage()
save("plain")

stage()
add_cube("Wall", 1.2, (-2.0, 0, 0))
add_camera("Above", 1, (0, 0, 0), elevation=1.5)
hidden = add_cube("Hidden", 1.2, (0, 0, 0))
hidden.hide_render = True
save("background")

stage(10, (30, 0, 5))
floor = add_cube("Floor", 60, (30, 0, -45))
save("elsewhere")
floor.location.z = -28
save("floor")

mesh, camera = stage()
turntable = bpy.data.objects.new("Turntable", None)
bpy.context.scene.collection.objects.link(turntable)
camera.animation_data_clear()
camera.data.shift_x = 0
camera.location, camera.rotation_euler = (2.5, 0, 0), Vector((-1, 0, 0)).to_track_quat("-Z", "Y").to_euler()
camera.parent = turntable
camera.data.lens = 40
camera.data.keyframe_insert("lens", frame=0)
camera.data.lens = 60
camera.data.keyframe_insert("lens", frame=20)
for frame, angle in ((0, 0.0), (20, 1.0)):
    turntable.rotation_euler.z = angle
    turntable.keyframe_insert("rotation_euler", frame=frame)
save("turntable")

# What the viewport shows is not what is rendered: subdivision under Simplify, hidden things, other resolutions.
mesh, camera = stage()
bpy.data.objects.remove(mesh)
cube = add_cube("Cube", 1.0, (0, 0, 0))
subdivision = cube.modifiers.new("Subdivision", "SUBSURF")
subdivision.levels, subdivision.render_levels = 0, 4
scene = bpy.context.scene
scene.render.use_simplify = True
scene.render.simplify_subdivision, scene.render.simplify_subdivision_render = 0, 2
save("simplified")
scene.render.use_simplify = False
subdivision.render_levels = 2
subdivision.show_viewport = False
cube.hide_viewport = True
gone = cube.modifiers.new("Only in the viewport", "ARRAY")
gone.show_render = False
add_cube("Shadow", 1.5, (-2.0, 0, 0)).visible_camera = False
folder = bpy.data.collections.new("Away")
scene.collection.children.link(folder)
other = add_cube("Indirect", 1.5, (0, -2.0, 0))
folder.objects.link(other)
scene.collection.objects.unlink(other)
bpy.context.view_layer.layer_collection.children["Away"].indirect_only = True
save("viewport")

# Cameras that are animated otherwise than by an action of their own.
mesh, camera = stage()
action, slot = camera.animation_data.action, camera.animation_data.action_slot
camera.animation_data.action = None
for start, muted in ((20, False), (60, True)):
    strip = camera.animation_data.nla_tracks.new().strips.new("shots", start, action)
    strip.action_slot = slot
    strip.scale = 2
    strip.mute = muted
save("strips")

mesh, camera = stage()
poses = []
for frame in (1, 5, 10):
    bpy.context.scene.frame_set(frame)
    poses.append(camera.matrix_world.copy())
others = []
for i, pose in enumerate(poses):
    other = bpy.data.objects.new(f"Shot {i}", bpy.data.cameras.new(f"Shot {i}"))
    other.matrix_world = pose
    bpy.context.scene.collection.objects.link(other)
    bpy.context.scene.timeline_markers.new(f"Shot {i}", frame=30 - 10 * i).camera = other
    others.append(other)
save("markers and keyframes")
camera.animation_data_clear()
save("markers")

# Linked libraries and images.
Path(REQUEST["folder"], "parts").mkdir(exist_ok=True)
stage()
bpy.ops.wm.save_as_mainfile(filepath=str(Path(REQUEST["folder"]) / "parts" / "pot.blend"), compress=False)
mesh, camera = stage()
bpy.data.objects.remove(mesh)
with bpy.data.libraries.load(str(Path(REQUEST["folder"]) / "parts" / "pot.blend"), link=True) as (source, target):
    target.objects = ["Pot"]
bpy.context.scene.collection.objects.link(target.objects[0])
image = bpy.data.images.new("paint", 4, 4)
image.filepath_raw = str(Path(REQUEST["folder"]) / "parts" / "paint.png")
image.file_format = "PNG"
image.save()
cube = add_cube("Wall", 1.2, (-2.0, 0, 0))
tree = cube.data.materials[0].node_tree
texture = tree.nodes.new("ShaderNodeTexImage")
texture.image = image
tree.links.new(texture.outputs["Color"], tree.nodes["Diffuse BSDF"].inputs["Color"])
bpy.ops.wm.save_as_mainfile(filepath=str(Path(REQUEST["folder"]) / "linked.blend"))
bpy.ops.file.make_paths_relative()
for name, compress in (("linked", False), ("linked small", True)):
    bpy.ops.wm.save_as_mainfile(filepath=str(Path(REQUEST["folder"]) / f"{name}.blend"), compress=compress)

for flaw in ("no camera", "no mesh", "orthographic", "panoramic", "still", "moving", "wide pixels"):
    mesh, camera = stage()
    match flaw:
        case "no camera":
            bpy.data.objects.remove(camera)
        case "no mesh":
            bpy.data.objects.remove(mesh)
        case "orthographic":
            camera.data.type = "ORTHO"
        case "panoramic":
            camera.data.type = "PANO"
        case "still":
            camera.animation_data_clear()
        case "moving":
            mesh.keyframe_insert("location", frame=1)
            mesh.location.x = 0.3
            mesh.keyframe_insert("location", frame=10)
        case "wide pixels":
            bpy.context.scene.render.pixel_aspect_x = 2
    save(flaw)

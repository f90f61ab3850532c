"""Imports an asset into an empty .blend with a camera that has a keyframe at each of some places. Runs inside Blender's
Python, not under pytest.

Its last argument is JSON: `asset` (GLB), `blend` to write, `eyes` from which the origin is looked at, `size` in pixels.
"""

import json
import sys

import bpy
from mathutils import Vector

REQUEST = json.loads(sys.argv[-1])

bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.resolution_x = scene.render.resolution_y = REQUEST["size"]
scene.render.resolution_percentage = 100
bpy.ops.import_scene.gltf(filepath=REQUEST["asset"])
camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
scene.collection.objects.link(camera)
scene.camera = camera
for i, eye in enumerate(map(Vector, REQUEST["eyes"])):
    camera.location = eye
    camera.rotation_euler = (-eye).to_track_quat("-Z", "Y").to_euler()
    camera.keyframe_insert("location", frame=i + 1)
    camera.keyframe_insert("rotation_euler", frame=i + 1)
bpy.ops.file.pack_all()
bpy.ops.wm.save_as_mainfile(filepath=REQUEST["blend"])

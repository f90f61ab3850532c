"""Blender files: the viewpoints, meshes and photographs of a `.blend`.

Blender runs in a process of its own, with whatever Python it comes with, so that recon needs neither its
licence (GPL) nor its versions. See `blender_process.py` for what happens there.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from trimesh import Trimesh

from recon.capture.blender_object import place_object
from recon.capture.keyframes import Keyframes
from recon.capture.notes import say
from recon.capture.poses import poses_in_unit_frame
from recon.capture.provenance import provenance
from recon.capture.rendering import photograph
from recon.capture.world import join
from recon.errors import ReconError
from recon.files import read_npz
from recon.images.photograph import read_picture
from recon.views import Frame, Views

VARIABLE = "RECON_BLENDER"
"""Environment variable: a Blender program, or a Python that has the package bpy."""

SCRIPT = Path(__file__).with_name("blender_process.py")

SAMPLES = 8
"""Samples along each side of a pixel."""


@dataclass(frozen=True, eq=False)
class BlenderScene:
    """What a .blend shows its camera, in Blender's world frame.

    Attributes:
        camera: name of the camera; `frames`: its keyframes, one for each of the n views.
        camera_to_world: rigid; OpenCV axes. `intrinsics`: in pixels.
        names, collections, meshes: what is rendered, one entry an object; a collection a line.
        files: textures and libraries that the .blend refers to. `notes`: what is odd about it, a line each.
        version: Blender's.
    """

    camera: str
    frames: list[float]
    camera_to_world: Float[np.ndarray, "n 4 4"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    height: int
    width: int
    names: list[str]
    collections: list[list[str]]
    meshes: list[Trimesh]
    files: list[Path]
    version: str
    notes: list[str]


def read_blend(path: Path, camera: str | None = None) -> BlenderScene:
    """Read a .blend; `camera` chooses where several are animated.

    Raises:
        ReconError: there is no Blender; the file is none of Blender's or damaged; it has no camera, no
            keyframes or no meshes; the camera is not perspective, pixels are not square, or a mesh moves.
    """
    with _blender(path, "read", camera=camera) as folder:
        arrays = read_npz(folder / "scene.npz")
    vertices = np.split(arrays["vertices"], np.cumsum(arrays["vertex_counts"])[:-1])
    faces = np.split(arrays["faces"], np.cumsum(arrays["face_counts"])[:-1])
    height, width = map(int, arrays["resolution"])
    return BlenderScene(
        camera=str(arrays["camera"]),
        frames=arrays["frames"].tolist(),
        camera_to_world=arrays["camera_to_world"],
        intrinsics=arrays["intrinsics"],
        height=height,
        width=width,
        names=arrays["names"].tolist(),
        collections=[text.split("\n") for text in arrays["collections"].tolist()],
        meshes=[Trimesh(v, f, process=False) for v, f in zip(vertices, faces, strict=True)],
        files=[Path(name) for name in arrays["files"].tolist()],
        version=str(arrays["version"]),
        notes=[f"{path}: {line}" for line in arrays["notes"].tolist()],
    )


def keyframes_from_blend(path: Path, camera: str | None = None) -> Keyframes:
    """The viewpoints alone.

    Raises:
        ReconError: as `read_blend`, or the lens changes, of which keyframes.npz knows nothing.
    """
    scene = read_blend(path, camera)
    say(scene.notes)
    changed = ~np.isclose(scene.intrinsics, scene.intrinsics[0]).all(axis=(1, 2))
    if changed.any():
        frame = scene.frames[changed.argmax()]
        raise ReconError(f"{path}: frame {frame:g}: the lens of '{scene.camera}' changes; keyframes.npz has one 'K'")
    return Keyframes(scene.camera_to_world, scene.intrinsics[0], (scene.height, scene.width))


def views_from_blend(path: Path, set_name: str | None, like: Frame | None = None, name: str | None = None) -> Views:
    """Photographs by the animated camera, with a flash at its centre as the only light.

    Cycles renders direct light alone, on the CPU, through a box filter of one pixel, in linear Rec. 709.
    The flash gives a white diffuse surface that faces it at distance 1 the radiance 1. Masks are of our
    own rasteriser.

    Args:
        set_name: the camera of that name where several are animated; else only how the set is called.
        name: object or collection that is to be reconstructed; see `place_object` where left out.

    Raises:
        ReconError: as `read_blend` and `place_object`; a camera stands inside a mesh or sees no object.
    """
    scene = read_blend(path, set_name)
    is_object, world_from_unit = place_object(
        scene.meshes, scene.names, scene.collections, scene.camera_to_world, name, path
    )
    objects = [scene.meshes[i] for i in np.flatnonzero(is_object)]
    objects = [mesh if mesh.is_watertight else _two_sided(mesh) for mesh in objects]
    background = [_two_sided(scene.meshes[i]) for i in np.flatnonzero(~is_object)]  # cameras may stand in a room
    world = join(objects, background, np.ones((sum(len(mesh.vertices) for mesh in scene.meshes), 3)))
    _, masks = photograph(world, scene.camera_to_world, scene.intrinsics, scene.height, scene.width, 4, str(path))
    radiance = _rendered(path, scene, set_name)
    scale = float(radiance.max()) if like is None else like.radiance_scale
    if scale <= 0:
        raise ReconError(f"{path}: all pictures are black: do the materials reflect light?")
    world_from_unit = world_from_unit if like is None else like.world_from_unit
    shown = [scene.names[i] for i in np.flatnonzero(is_object)]
    settings = {"camera": scene.camera, "frames": scene.frames, "object": shown, "samples": SAMPLES}
    inputs, packages = [path, *scene.files], ("OpenEXR", "torch", "trimesh")
    metadata = provenance(set_name or path.stem, path, inputs, settings, packages, scene.notes)
    metadata["versions"]["blender"] = scene.version
    return Views(
        images=radiance / np.float32(scale),
        masks=masks,
        camera_to_world=poses_in_unit_frame(scene.camera_to_world, world_from_unit),
        intrinsics=scene.intrinsics,
        radiance_scale=scale,
        world_from_unit=world_from_unit,
        metadata=metadata,
    )


def object_from_blend(path: Path, name: str | None = None) -> Trimesh:
    """The mesh that is to be reconstructed, in Blender's world frame."""
    scene = read_blend(path)
    say(scene.notes)
    is_object, _ = place_object(scene.meshes, scene.names, scene.collections, scene.camera_to_world, name, path)
    meshes = [scene.meshes[i] for i in np.flatnonzero(is_object)]
    world = join(meshes, [], np.ones((sum(len(mesh.vertices) for mesh in meshes), 3)))
    return Trimesh(world.vertices, world.faces, process=False)


def linked_by_blender(path: Path) -> list[Path]:
    """The libraries, images and other files that the .blend needs, as Blender knows them."""
    with _blender(path, "files") as folder:
        return sorted(Path(line) for line in (folder / "files.txt").read_text().splitlines())


def _rendered(path: Path, scene: BlenderScene, camera: str | None) -> Float32[np.ndarray, "n h w 3"]:
    threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # Snakemake sets it; 0 is all cores
    with _blender(path, "render", camera=camera, samples=SAMPLES, threads=threads) as folder:
        return np.stack([read_picture(folder / f"{i}.exr").color for i in range(len(scene.frames))])


def _two_sided(mesh: Trimesh) -> Trimesh:
    """Cycles shows the back of a surface too."""
    return Trimesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]), process=False)


@contextmanager
def _blender(path: Path, task: str, **settings: Any) -> Iterator[Path]:
    """Folder with what the script answered."""
    with tempfile.TemporaryDirectory(prefix="recon-blender-") as folder:
        request = {"task": task, "blend": str(path.resolve()), "out": folder, **settings}
        try:
            command = [*blender_command(), json.dumps(request)]
        except ReconError as error:
            raise ReconError(f"{path}: {error}") from None
        process = subprocess.run(command, capture_output=True, text=True, errors="replace")
        fault = Path(folder) / "error.txt"
        if fault.is_file():
            raise ReconError(f"{path}: {fault.read_text()}")
        if process.returncode < 0:
            raise ReconError(f"{path}: Blender crashed on it (signal {-process.returncode}): is the file damaged?")
        if process.returncode > 0:
            last = (process.stderr.strip() or process.stdout.strip()).splitlines()[-1:]
            raise ReconError(f"{path}: Blender failed with exit code {process.returncode}: {''.join(last)}")
        yield Path(folder)


def blender_command() -> list[str]:
    """How the script is started, up to its argument: by the variable RECON_BLENDER, by this Python if it
    has bpy, by the environment `blender` inside this Python's, or by the program `blender`.

    Raises:
        ReconError: none of these is there.
    """
    named = os.environ.get(VARIABLE)
    if named:
        program = shutil.which(named)
        if program is None:
            raise ReconError(f"{VARIABLE}: {named}: no such program; expected Blender, or a Python that has bpy")
        return _command(program)
    if importlib.util.find_spec("bpy") is not None:
        return _command(sys.executable)
    nested = Path(sys.prefix) / "blender" / "bin" / "python"
    program = str(nested) if nested.is_file() else shutil.which("blender")
    if program is None:
        raise ReconError(
            "needs Blender: `make blender` or pip install -e '.[blender]' in recon's checkout (Python 3.11), "
            f"or {VARIABLE}=/path/to/blender"
        )
    return _command(program)


def _command(program: str) -> list[str]:
    if Path(program).name.lower().startswith("blender"):
        options = ["--background", "--factory-startup", "--disable-autoexec", "--python-exit-code", "1", "--python"]
        return [program, *options, str(SCRIPT), "--"]
    return [program, "-P", str(SCRIPT)]  # -P: the script's folder is recon/capture, whose modules are not for it

"""Mitsuba 3 as a peer: one view of a mesh with its derivatives, and a mesh that is fitted to photographs.

Nimier-David et al. 2019, "Mitsuba 2"; Jakob et al. 2022, "Mitsuba 3 renderer". Its `direct_projective` integrator gives
the derivatives of what is seen (Zhang et al. 2023, "Projective Sampling for Differentiable Rendering of Geometry"), and
`mi.ad.LargeSteps` preconditions them (Nicolet et al. 2021, "Large Steps in Inverse Rendering of Geometry").
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import drjit as dr
import mitsuba as mi
import numpy as np
from jaxtyping import Float, Int

from recon.camera import Cameras
from recon.views import Views

LAMBDA = 25.0
"""Of the preconditioner, as Mitsuba's own tutorial on meshes has it."""

VIEWS_PER_ITERATION, SAMPLES = 4, 4
"""As many views and samples a pixel as recon takes."""


class Snapshot(NamedTuple):
    """The surface after some processor seconds of fitting."""

    seconds: float
    vertices: Float[np.ndarray, "v 3"]
    albedo: Float[np.ndarray, " 3"]


def choose_variant() -> str:
    """Vectorised with LLVM, on one thread; the scalar variants have no derivatives.

    Raises:
        ImportError: LLVM is not installed.
    """
    mi.set_variant("llvm_ad_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    dr.set_thread_count(1)
    return f"Mitsuba {mi.__version__}, llvm_ad_rgb"


def view_call(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], camera: Cameras) -> Callable[[], None]:
    """One view with one sample a pixel, forward and backward to the vertices, whenever it is called."""
    scene = _scene(vertices, faces, camera)
    parameters = mi.traverse(scene)
    key = "object.vertex_positions"

    def call() -> None:
        dr.enable_grad(parameters[key])
        parameters.set_dirty(key)
        parameters.update()
        image = mi.render(scene, parameters, spp=1)
        dr.backward(dr.sum(image, axis=None))
        dr.eval(dr.grad(parameters[key]))
        dr.sync_thread()

    return call


def fitting(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    views: Views,
    albedo: Float[np.ndarray, " 3"],
    seconds: float,
    rate: float,
) -> Iterator[Snapshot]:
    """Snapshots of a mesh and its one albedo, fitted to views until the processor has worked for `seconds`.

    Adam with one step size for all coordinates and a falling rate from `rate`; the views of an iteration are drawn at
    random. What is done with a snapshot does not count.
    """
    started = time.process_time()
    cameras = Cameras.from_views(views)
    scene = _scene(vertices, faces, cameras[[0]])
    parameters = mi.traverse(scene)
    shape, colour = "object.vertex_positions", "object.bsdf.reflectance.value"
    solver = mi.ad.LargeSteps(parameters[shape], parameters["object.faces"], LAMBDA)
    mesh = mi.ad.Adam(lr=rate, uniform=True)
    mesh["u"] = solver.to_differential(parameters[shape])
    paint = mi.ad.Adam(lr=0.02)
    paint["log"] = dr.log(mi.Color3f(*albedo.tolist()))
    images = [mi.TensorXf(np.ascontiguousarray(image, dtype=np.float32)) for image in views.images]
    random, iteration, spent = np.random.default_rng(0), 0, 0.0
    while (spent := spent + time.process_time() - started) < seconds:
        started = time.process_time()
        fraction = spent / seconds
        mesh.set_learning_rate(rate * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * fraction))))
        parameters[shape] = solver.from_differential(mesh["u"])
        parameters[colour] = dr.exp(paint["log"])
        for view in random.choice(len(views), VIEWS_PER_ITERATION, replace=False):
            _look(parameters, cameras[[int(view)]])
            image = mi.render(scene, parameters, spp=SAMPLES, seed=iteration * VIEWS_PER_ITERATION + int(view))
            dr.backward(dr.mean(dr.abs(image - images[view]), axis=None), dr.ADFlag.ClearInterior)
        mesh.step()
        paint.step()
        iteration += 1
        if iteration & (iteration - 1) == 0:
            spent += time.process_time() - started
            yield _snapshot(spent, solver, mesh, paint)
            started = time.process_time()
    yield _snapshot(spent, solver, mesh, paint)


def _snapshot(seconds: float, solver: Any, mesh: Any, paint: Any) -> Snapshot:
    vertices = np.array(solver.from_differential(mesh["u"])).reshape(-1, 3)
    return Snapshot(seconds, vertices, np.array(dr.exp(paint["log"])).ravel())


def _scene(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], camera: Cameras) -> Any:
    """The mesh, smooth and grey, in the flash of a camera: light of intensity pi, as recon's albedo has it."""
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict({"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.5}})
    mesh = mi.Mesh("object", len(vertices), len(faces), properties, has_vertex_normals=True)
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = vertices.ravel().astype(np.float32)
    parameters["faces"] = faces.ravel().astype(np.uint32)
    parameters.update()
    return mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "direct_projective"},
            "sensor": _sensor(camera),
            "light": {
                "type": "point",
                "position": camera.centers[0].tolist(),
                "intensity": {"type": "rgb", "value": float(np.pi)},
            },
            "object": mesh,
        }
    )


def _sensor(camera: Cameras) -> dict[str, Any]:
    height, width = camera.height, camera.width
    (focal, _, x), (_, _, y), _ = camera.intrinsics[0].tolist()
    return {
        "type": "perspective",
        "fov": float(np.degrees(2 * np.arctan(width / (2 * focal)))),
        "fov_axis": "x",
        "principal_point_offset_x": x / width - 0.5,
        "principal_point_offset_y": y / height - 0.5,
        "near_clip": 0.01,
        "far_clip": 100.0,
        "to_world": _to_world(camera),
        "film": {
            "type": "hdrfilm",
            "width": width,
            "height": height,
            "pixel_format": "rgb",
            "component_format": "float32",
            "rfilter": {"type": "box"},
            "sample_border": True,
        },
        "sampler": {"type": "independent"},
    }


def _to_world(camera: Cameras) -> Any:
    """From Mitsuba's axes of a camera, x left and y up, to the world."""
    pose = camera.camera_to_world[0].double().numpy() @ np.diag([-1.0, -1, 1, 1])
    return mi.ScalarTransform4f(pose)


def _look(parameters: Any, camera: Cameras) -> None:
    """Move camera and flash."""
    parameters["sensor.to_world"] = mi.Transform4f(_to_world(camera).matrix)
    parameters["light.position"] = mi.Point3f(*camera.centers[0].tolist())
    parameters.update()

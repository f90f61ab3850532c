"""The shader and its shadows beside a path tracer, Mitsuba 3, on the same mesh, materials and lights.

Both have one light, of intensity pi, so that an attribute of the surface is its reflectance. Mitsuba's `diffuse` is
Lambert's; `roughconductor` of the material "none" reflects all light in GGX's lobe; a `principled` metal adds Schlick's
Fresnel factor, and takes the roughness whose square is alpha. All have Smith's separable shadowing.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from trimesh import Trimesh

from benchmarks.shapes import cup, star
from recon.camera import Cameras, intrinsics_from_fov, look_at
from recon.config import RunConfig
from recon.model.reflectance import LOBES, MicrofacetReflectance
from recon.render.lighting import cast
from recon.render.normals import vertex_normals
from recon.render.renderer import render

INTENSITY = np.pi
FIELD_OF_VIEW = 36.0
EYE = np.array([2.1, -1.5, 1.1])
BESIDE = np.array([-1.2, -2.2, 1.2])
"""74 degrees beside the camera, seen from the object: a tenth of the star that the camera sees lies in cast shadows."""

LIGHTS = {"light at the camera": EYE, "beside it": BESIDE}

PAINT = "vertex_paint"
"""The name of the vertices' colours in Mitsuba."""

GGX = (0.1, 0.25, 0.5)
"""Alpha, the square of the roughness."""

BASE = 0.4
"""Specular colour of the metal, at normal incidence."""


class Material(NamedTuple):
    """The same for both: parameters of `MicrofacetReflectance`, of all vertices or of each, and what Mitsuba takes."""

    name: str
    attributes: Float[Tensor, "v k"] | Float[Tensor, " k"]
    bsdf: dict[str, Any]


class Difference(NamedTuple):
    """Over the pixels that the surface fills: the mean absolute difference relative to the mean radiance."""

    material: str
    light: str
    mean: float


def materials(vertices: Float[Tensor, "v 3"]) -> list[Material]:
    diffuse = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.7}}
    found = [Material("diffuse", torch.tensor([0.7] * 3 + [0.0] * LOBES + [0.5] * LOBES), diffuse)]
    for alpha in GGX:
        bsdf = {"type": "roughconductor", "material": "none", "distribution": "ggx", "alpha": alpha}
        found.append(Material(f"GGX, alpha {alpha}", _lobe(1.0, alpha), bsdf))
    metal = {"type": "principled", "metallic": 1.0, "roughness": 0.5, "base_color": {"type": "rgb", "value": BASE}}
    found.append(Material("metal of roughness 0.5 (Schlick)", _lobe(BASE, 0.25), metal))
    paint = {"type": "diffuse", "reflectance": {"type": "mesh_attribute", "name": PAINT}}
    coat = {"type": "roughconductor", "material": "none", "distribution": "ggx", "alpha": 0.25}
    painted = _lobe(0.5, 0.25).repeat(len(vertices), 1)
    painted[:, :3] = 0.5 * _paint(vertices)
    return [*found, Material("stripes of paint and GGX, alpha 0.25", painted, _half_of_each(paint, coat))]


def shader() -> str:
    """The table of docs/relighting.md."""
    started = time.perf_counter()
    columns = [list(differences(mesh, 256, 36)) for mesh in (star(6), cup())]
    head = [f"| material | {' | '.join(f'{shape}, {light}' for shape in ('star', 'cup') for light in LIGHTS)} |"]
    head.append("| --- | --- | --- | --- | --- |")
    found = {(i, d.material, d.light): d.mean for i, column in enumerate(columns) for d in column}
    rows = [
        f"| {material} | {' | '.join(f'{found[i, material, light]:.2%}' for i in (0, 1) for light in LIGHTS)} |"
        for material in dict.fromkeys(d.material for d in columns[0])
    ]
    return "\n".join([*head, *rows, f"shader: {time.perf_counter() - started:.0f} s"])


def differences(mesh: Trimesh, size: int, samples: int) -> Iterator[Difference]:
    """All materials in both lights.

    Args:
        mesh: in the unit sphere.
        size: of the pictures, in pixels.
        samples: of Mitsuba, a pixel; a square.
    """
    vertices = torch.from_numpy(np.asarray(mesh.vertices)).float()
    faces = torch.from_numpy(np.asarray(mesh.faces))
    for light, where in LIGHTS.items():
        for material in materials(vertices):
            ours, inside = _ours(vertices, faces, size, material, where)
            theirs = _theirs(vertices, faces, size, material, where, samples)
            difference = np.abs(ours - theirs)[inside].mean() / theirs[inside].mean()
            yield Difference(material.name, light, float(difference))


def _lobe(specular: float, alpha: float) -> Float[Tensor, " k"]:
    """Attributes of a surface with one lobe."""
    return torch.tensor([0.0] * 3 + [specular] + [0.0] * (LOBES - 1) + [alpha**0.5] * LOBES)


def _paint(vertices: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
    """Reflectances of stripes, between 0.15 and 0.8, each colour across another axis."""
    return 0.475 + 0.325 * (12 * vertices).sin()


def _half_of_each(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {"type": "blendbsdf", "weight": 0.5, "one": one, "other": other}


def _ours(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    size: int,
    material: Material,
    light: Float[np.ndarray, " 3"],
) -> tuple[Float[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    pose = look_at(EYE[None], np.zeros(3), np.array([0, 0, 1.0]))
    intrinsics = intrinsics_from_fov(FIELD_OF_VIEW, size, size)
    cameras = Cameras(torch.from_numpy(pose).float(), torch.from_numpy(intrinsics[None]).float(), size, size)
    lights = torch.tensor([[*light, 1.0]], dtype=torch.float32)
    at_camera = np.array_equal(light, EYE)
    rendered = render(
        vertices,
        faces,
        cameras,
        albedo=material.attributes.expand(len(vertices), -1),
        shader=MicrofacetReflectance(1.0, RunConfig()).reflect,
        samples=4,
        lighting=None if at_camera else cast(vertices, faces, lights, torch.ones(1, 3), 2048, kernel=1),
    )
    return rendered.radiance[0].detach().numpy(), (rendered.alpha[0] > 0.999).numpy()


def _theirs(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    size: int,
    material: Material,
    light: Float[np.ndarray, " 3"],
    samples: int,
) -> Float[np.ndarray, "h w 3"]:
    import mitsuba as mi

    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(material.bsdf)
    mesh = mi.Mesh("mesh", len(vertices), len(faces), properties, has_vertex_normals=True)
    mesh.add_attribute(PAINT, 3, _paint(vertices).flatten().numpy())
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = vertices.flatten().numpy()
    parameters["vertex_normals"] = vertex_normals(vertices, faces).contiguous().flatten().numpy()
    parameters["faces"] = faces.flatten().numpy().astype(np.uint32)
    parameters.update()
    scene = mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "direct", "emitter_samples": 1, "bsdf_samples": 0},
            "sensor": {
                "type": "perspective",
                "fov": FIELD_OF_VIEW,
                "fov_axis": "x",
                "to_world": mi.ScalarTransform4f().look_at(EYE.tolist(), [0, 0, 0], [0, 0, 1]),
                "film": {
                    "type": "hdrfilm",
                    "width": size,
                    "height": size,
                    "pixel_format": "rgb",
                    "component_format": "float32",
                    "rfilter": {"type": "box"},
                },
                "sampler": {"type": "multijitter", "sample_count": samples, "seed": 0},
            },
            "light": {
                "type": "point",
                "position": light.tolist(),
                "intensity": {"type": "rgb", "value": float(INTENSITY)},
            },
            "object": mesh,
        }
    )
    return np.array(mi.render(scene))

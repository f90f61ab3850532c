"""Light from elsewhere than the camera, with the shadows that one part of a surface casts on another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.camera import Cameras
from recon.render.shade import separate_irradiance
from recon.render.shadows import DepthMap, depth_map, mean_bend

PART = 1 << 16
"""Points that all lights shine on before the next ones: what they need stays in the processor's caches."""


SMALLEST_MAP, LARGEST_MAP = 256, 1024
"""Texels along a side of a depth map in training."""


@runtime_checkable
class Lighting(Protocol):
    """What takes the place of the flash in `recon.render.renderer.render`."""

    def __call__(
        self,
        points: Float[Tensor, "p 3"],
        normals: Float[Tensor, "p 3"],
        centers: Float[Tensor, "p 3"],
        attributes: Float[Tensor, "p k"],
        shader: Callable[..., Float[Tensor, "p 3"]],
        /,
    ) -> Float[Tensor, "p 3"]:
        """Radiance that points of the surface send to the cameras.

        Args:
            points: in the world.
            normals: unit, in the world.
            centers: of the camera that sees each point, in the world.
            attributes: of the surface there, as `shader` takes them.
            shader: see `recon.render.renderer.Shader`.
        """


@dataclass(frozen=True, eq=False)
class ShadowedLights:
    """`s` lights, which all shine on everything, each with its depth map.

    Attributes:
        lights: homogeneous, in the world, as `Cameras.lights` has them.
        colors: intensity of each light, relative to the flash; of distant ones, irradiance on a surface that faces it.
        maps: of the lights, in the same order.
        parameters_of: what the shader takes of the surface's attributes, looked up once for all lights; None: them.
    """

    lights: Float[Tensor, "s 4"]
    colors: Float[Tensor, "s 3"]
    maps: Sequence[DepthMap]
    parameters_of: Callable[..., Float[Tensor, "p k"]] | None = None

    def __call__(
        self,
        points: Float[Tensor, "p 3"],
        normals: Float[Tensor, "p 3"],
        centers: Float[Tensor, "p 3"],
        attributes: Float[Tensor, "p k"],
        shader: Callable[..., Float[Tensor, "p 3"]],
        /,
    ) -> Float[Tensor, "p 3"]:
        parts = [slice(start, start + PART) for start in range(0, len(points), PART)]
        lit = [self._lit(points[each], normals[each], centers[each], attributes[each], shader) for each in parts]
        return torch.cat(lit) if lit else torch.zeros_like(points)

    def _lit(
        self,
        points: Float[Tensor, "p 3"],
        normals: Float[Tensor, "p 3"],
        centers: Float[Tensor, "p 3"],
        attributes: Float[Tensor, "p k"],
        shader: Callable[..., Float[Tensor, "p 3"]],
    ) -> Float[Tensor, "p 3"]:
        radiance = torch.zeros_like(points)
        if self.parameters_of is not None:
            attributes = self.parameters_of(attributes)
        for light, color, shadow in zip(self.lights, self.colors, self.maps, strict=True):
            here = (((light[:3] - light[3] * points) * normals).sum(1) > 0).nonzero().squeeze(1)
            facing = points[here], normals[here]
            irradiance, cosine, angles = separate_irradiance(*facing, centers[here], light.expand(len(here), 4))
            lit = shader(attributes[here], irradiance * shadow.visibility(*facing), cosine, angles)
            radiance.index_add_(0, here, lit * color)
        return radiance


@dataclass(frozen=True, eq=False)
class ShadowedFlash:
    """The light of one view, with gradient to where it is, in place of `recon.render.shade.illuminate`.

    Shadows have no gradient: they follow the surface from one iteration to the next.

    Attributes:
        light: homogeneous, in the world.
        shadows: its depth map.
    """

    light: Float[Tensor, " 4"]
    shadows: DepthMap

    def __call__(
        self,
        points: Float[Tensor, "p 3"],
        normals: Float[Tensor, "p 3"],
        centers: Float[Tensor, "p 3"],
        attributes: Float[Tensor, "p k"],
        shader: Callable[..., Float[Tensor, "p 3"]],
        /,
    ) -> Float[Tensor, "p 3"]:
        irradiance, cosine, angles = separate_irradiance(points, normals, centers, self.light.expand(len(points), 4))
        with torch.no_grad():
            facing = (cosine > 0).nonzero().squeeze(1)
            visible = self.shadows.visibility(points[facing], normals[facing])
            share = torch.ones_like(cosine).index_copy(0, facing, visible)
        return shader(attributes, irradiance * share, cosine, angles)


def shadowed_flashes(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], cameras: Cameras
) -> list[ShadowedFlash]:
    """The lights of the views, one by one, with the depth maps that they see of a mesh.

    A map has twice as many texels along a side as the view would have pixels along the mesh, wholly seen, from
    `SMALLEST_MAP` to `LARGEST_MAP`: of a crop as many as of the whole.
    """
    assert cameras.lights is not None
    vertices = vertices.detach()
    bend, radius = mean_bend(vertices, faces), vertices.norm(dim=1).max()
    pixels = 2 * radius * cameras.intrinsics[:, 0, 0] / cameras.centers.norm(dim=1)
    sizes = (2 * pixels).clamp(SMALLEST_MAP, LARGEST_MAP).round().int().tolist()
    return [
        ShadowedFlash(light, depth_map(vertices, faces, light.detach(), size, bend=bend))
        for light, size in zip(cameras.lights, sizes, strict=True)
    ]


def cast(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    lights: Float[Tensor, "s 4"],
    colors: Float[Tensor, "s 3"],
    size: int,
    kernel: int,
    parameters_of: Callable[..., Float[Tensor, "p k"]] | None = None,
) -> ShadowedLights:
    """Lights with the depth maps that they see of a mesh; arguments as of `depth_map` and `ShadowedLights`."""
    bend = mean_bend(vertices, faces)
    maps = [depth_map(vertices, faces, light, size, kernel, bend) for light in lights]
    return ShadowedLights(lights, colors, maps, parameters_of)

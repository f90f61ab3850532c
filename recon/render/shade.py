"""Irradiance of each view's light: the camera's flash, a near point light, or a distant light.

A surface that turns away from its light is dark (attached shadows). Shadows that one part of the
surface casts on another are not here: the camera's own flash casts none that it sees, and lights near the camera cast
narrow ones. `recon.render.lighting` adds them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.camera import Cameras
from recon.render.intersect import of_views


class Angles(NamedTuple):
    """Cosines that a reflectance needs beside the light's own, where light and camera are apart.

    `view` and `half`: of the surface's normal with the direction to the camera and with the half
    vector; `difference`: of the half vector with either direction.
    """

    view: Float[Tensor, " p"]
    half: Float[Tensor, " p"]
    difference: Float[Tensor, " p"]


def collocated_irradiance(
    points: Float[Tensor, "p 3"], normals: Float[Tensor, "p 3"], light: Float[Tensor, "p 3"]
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Irradiance of point lights of unit intensity, one a point of the surface (inverse-square and cosine law).

    Args:
        points: in the world.
        normals: unit, in the world.
        light: where each point's light is, in the world.

    Returns:
        cos(theta) / r^2, with r in units of the world, and cos(theta). Both are 0 where the surface turns away.

    Times albedo / pi the irradiance is the radiance of a diffuse surface. The learned albedo takes up pi and the
    flash's intensity, which images alone cannot tell from it.
    """
    offset = light - points
    squared = (offset * offset).sum(-1)
    cosine = ((offset * normals).sum(-1) * squared.rsqrt()).clamp(min=0)
    return cosine / squared, cosine


def illuminate(
    points: Float[Tensor, "p 3"], normals: Float[Tensor, "p 3"], cameras: Cameras, view: Int[Tensor, " p"]
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"], Angles | None]:
    """Light that arrives at points of the surface from the lights of their views.

    Args:
        points: in the world.
        normals: unit, in the world.
        cameras: with their lights.
        view: the camera that sees each point.

    Returns:
        Irradiance of a light of unit intensity; the cosine of its angle with the normal, 0 where the surface turns
        away; and the further angles, None where the light is the camera's flash, for then all directions are one.
    """
    centers = of_views(cameras.centers, view).T
    if cameras.lights is None:
        return (*collocated_irradiance(points, normals, centers), None)
    return separate_irradiance(points, normals, centers, of_views(cameras.lights, view).T)


def separate_irradiance(
    points: Float[Tensor, "p 3"],
    normals: Float[Tensor, "p 3"],
    centers: Float[Tensor, "p 3"],
    lights: Float[Tensor, "p 4"],
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"], Angles]:
    """As `collocated_irradiance`, from lights apart from the cameras.

    Args:
        points: in the world.
        normals: unit, in the world.
        centers: of the camera that sees each point, in the world.
        lights: of each point, homogeneous (see `Cameras.lights`).

    Returns:
        Irradiance, which falls with the squared distance from a point light and is cos(theta) of a distant one;
        cos(theta), 0 where the surface turns away from the light; and the angles with camera and half vector.
    """
    near = lights[:, 3:]
    # From the point to a near light (w = 1), or the direction itself of a distant one (w = 0).
    offset = lights[:, :3] - near * points
    squared = (offset * offset).sum(-1)
    to_light = offset * squared.rsqrt()[:, None]
    to_camera = torch.nn.functional.normalize(centers - points, dim=-1)
    half = torch.nn.functional.normalize(to_light + to_camera, dim=-1)
    cosine = (to_light * normals).sum(-1).clamp(min=0)
    irradiance = cosine / torch.where(near.squeeze(-1) > 0, squared, 1)
    view, middle = (to_camera * normals).sum(-1), (half * normals).sum(-1)
    return irradiance, cosine, Angles(view, middle, (half * to_camera).sum(-1))

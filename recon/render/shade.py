"""Shading under a point light: the camera's flash, collocated with the camera."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def vertex_normals(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "v 3"]:
    """Unit normals at the vertices: face normals weighted by area, outward for outward faces."""
    crossed = face_normals(vertices, faces)
    summed = torch.zeros_like(vertices)
    for corner in faces.unbind(1):
        summed = summed.index_add(0, corner, crossed)
    return torch.nn.functional.normalize(summed, dim=1)


def face_normals(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "f 3"]:
    """Outward normals of the faces, twice as long as the face's area."""
    a, b, c = vertices.index_select(0, faces.T.reshape(-1)).view(3, -1, 3)
    return torch.linalg.cross(b - a, c - a)


def collocated_irradiance(
    points: Float[Tensor, "p 3"], normals: Float[Tensor, "p 3"], light: Float[Tensor, "p 3"]
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Irradiance cos(theta) / r^2 of unit-intensity point lights, one a point, and cos(theta).

    Both are 0 where the surface turns away. Times albedo / pi the irradiance is the radiance of a
    diffuse surface. The learned albedo takes up pi and the flash's intensity, which images alone
    cannot tell from it.
    """
    offset = light - points
    squared = (offset * offset).sum(-1)
    cosine = ((offset * normals).sum(-1) * squared.rsqrt()).clamp(min=0)
    return cosine / squared, cosine

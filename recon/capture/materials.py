"""What the objects of a declared scene are made of: paint in a pattern, and a glossy layer over it.

Radiance of a point in the light of a flash of intensity I at distance r and angle theta:

    (albedo + F0 pi D G / (4 cos^2 theta)) I cos theta / r^2

with GGX's D, Smith's G and alpha = roughness^2: what `recon.model.reflectance` learns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.scene import ObjectConfig, Pattern
from recon.model.reflectance import collocated_microfacet
from recon.render.shade import Angles

PLACE = slice(3, 6)
"""Columns of the vertices' attributes: where the vertex is in its object's own frame. Before it: the linear albedo."""

MATERIAL = 6
"""Column with the number of the object's material."""

SMOOTHEST = 0.05
"""Roughness of what has no glossy layer, whose lobe counts nothing: a number, where 0 would give none."""


class Material(NamedTuple):
    """What an object is made of.

    Attributes:
        pattern: paint, in place of the albedo of the vertices; None: there is none.
        colored: the vertices have colours of their own.
        roughness: of the glossy layer; None: all is diffuse.
        specular: what that layer reflects of light that comes and goes along the normal (F0).
    """

    pattern: Pattern | None = None
    colored: bool = False
    roughness: float | None = None
    specular: float = 0.0

    @classmethod
    def of(cls, config: ObjectConfig) -> "Material":
        pattern = config.albedo if isinstance(config.albedo, Pattern) else None
        specular = 0.0 if config.roughness is None else config.specular
        return cls(pattern, config.albedo == "vertex", config.roughness, specular)


class Materials:
    """The shader of some materials, for vertex attributes [albedo, place, number of the material].

    Attributes:
        intensity: of the flash; albedo and radiance are of its light.
    """

    def __init__(self, materials: Sequence[Material], intensity: float = 1.0) -> None:
        self._materials = materials
        self.intensity = intensity
        self._roughness = torch.tensor([each.roughness or 0.0 for each in materials])
        self._specular = intensity * torch.tensor([each.specular for each in materials])

    @property
    def plain(self) -> bool:
        """Whether the albedo of the vertices says all."""
        return not any(each.pattern or each.roughness for each in self._materials)

    @property
    def varied(self) -> bool:
        """Whether there is more to know of some material than one colour."""
        return not self.plain or any(each.colored for each in self._materials)

    def albedo(self, attributes: Float[Tensor, "p k"]) -> Float[Tensor, "p 3"]:
        """Linear diffuse albedo times the flash's intensity."""
        albedo, number = attributes[:, :3].clone(), _number(attributes)
        for i, material in enumerate(self._materials):
            if material.pattern is not None:
                here = number == i
                albedo[here] = self.intensity * paint(material.pattern, attributes[here, PLACE])
        return albedo

    def roughness(self, attributes: Float[Tensor, "p k"]) -> Float[Tensor, " p"]:
        """Of the glossy layer; 0 where there is none."""
        return self._roughness[_number(attributes)]

    def shade(
        self,
        attributes: Float[Tensor, "p k"],
        irradiance: Float[Tensor, " p"],
        cosine: Float[Tensor, " p"],
        angles: Angles | None = None,
    ) -> Float[Tensor, "p 3"]:
        """Radiance in the light of the camera's flash (`recon.render.renderer.Shader`)."""
        roughness = self.roughness(attributes).clamp(min=SMOOTHEST)[:, None]
        gloss = self._specular[_number(attributes), None] * collocated_microfacet(cosine[:, None], roughness)
        return (self.albedo(attributes) + gloss) * irradiance[:, None]


def paint(pattern: Pattern, place: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
    """Linear albedo at points of an object's own frame, of which the pattern's lengths are shares of a unit."""
    first, second = (torch.tensor(color, dtype=place.dtype) for color in pattern.colors)
    return torch.lerp(first, second, _share(pattern, place)[:, None])


def _share(pattern: Pattern, place: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
    """How much of the second colour there is, 0 to 1."""
    along = place[:, "xyz".index(pattern.axis)]
    match pattern.pattern:
        case "checker":
            return (place / pattern.size).floor().sum(dim=1).remainder(2)
        case "stripes":
            return (along / pattern.size).floor().remainder(2)
        case "half":
            return (along < 0).to(place.dtype)
        case "gradient":
            return (along / (2 * pattern.size) + 0.5).clamp(0, 1)


def _number(attributes: Float[Tensor, "p k"]) -> Tensor:
    return attributes[:, MATERIAL].round().long()  # interpolation leaves an integer to rounding errors

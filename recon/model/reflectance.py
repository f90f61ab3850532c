"""What the surface does with the light: attributes of the sphere's points, and a shader of attributes.

A reflectance is called with points of the unit sphere (v, 3) and returns attributes (v, k), which are interpolated over
the mesh like colours. Its method `shade` makes radiance of them. Roughness r is that of the field's tools: GGX's
alpha = r^2 (Burley 2012).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.config import SurfaceConfig
from recon.render.shade import Angles
from recon.surface.velocity import NEGATIVE_SLOPE, PositionalEncoding

LOBES = 3
"""Cook-Torrance lobes of the microfacet reflectance."""

WIDTH = 64
"""Units of the hidden layers of the reflectance networks."""

MIN_ROUGHNESS = 0.05

DIELECTRIC = 0.04
"""What a surface of refractive index 1.5 reflects straight on; it reflects all at grazing incidence."""

GRAZING = 1e-3
"""Least cosine with the normal; the lobes have no value at 0."""


class ConstantReflectance(nn.Module):
    """One diffuse albedo for the whole surface, times the flash's intensity and 1 / pi."""

    def __init__(self, brightness: float) -> None:
        super().__init__()
        self.log_albedo = nn.Parameter(torch.full((3,), brightness).log())

    def forward(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        return self.log_albedo.exp().expand(len(sphere), 3)

    def albedo(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        """The diffuse albedo that is written to meshes."""
        return self(sphere)

    def shade(
        self,
        attributes: Float[Tensor, "p k"],
        irradiance: Float[Tensor, " p"],
        cosine: Float[Tensor, " p"],
        angles: Angles | None = None,
    ) -> Float[Tensor, "p 3"]:
        """Reflected radiance, for irradiance at angle `cosine` from the camera's own direction, or from
        another one, which `angles` tells."""
        return attributes * irradiance[:, None]


class VaryingReflectance(ConstantReflectance):
    """A diffuse albedo that varies over the sphere: the constant one times exp of a small network."""

    channels = 3

    def __init__(self, brightness: float, surface: SurfaceConfig) -> None:
        super().__init__(brightness)
        encoding = PositionalEncoding(surface)
        self.network = nn.Sequential(
            encoding,
            nn.Linear(encoding.channels, WIDTH),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Linear(WIDTH, WIDTH),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )
        self.output = nn.Linear(WIDTH, self.channels)
        nn.init.zeros_(self.output.weight)  # starts as the constant albedo
        nn.init.zeros_(self.output.bias)

    def forward(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        return (self.log_albedo + self.output(self.network(sphere))).exp()


class MicrofacetReflectance(VaryingReflectance):
    """The paper's network on the sphere: diffuse RGB and `LOBES` Cook-Torrance lobes a point.

    Attributes of a point: 3 diffuse, then a specular weight and a roughness for each lobe.
    """

    channels = 3 + 2 * LOBES

    def __init__(self, brightness: float, surface: SurfaceConfig) -> None:
        super().__init__(brightness, surface)
        roughness = torch.linspace(0.2, 0.6, LOBES)
        with torch.no_grad():
            self.output.bias[3 : 3 + LOBES] = -4.0
            self.output.bias[3 + LOBES :] = torch.logit(roughness)

    def forward(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v 9"]:
        raw = self.output(self.network(sphere))
        diffuse = (self.log_albedo + raw[:, :3]).exp()
        specular = self.log_albedo.exp().mean() * torch.nn.functional.softplus(raw[:, 3 : 3 + LOBES])
        roughness = MIN_ROUGHNESS + (1 - MIN_ROUGHNESS) * torch.sigmoid(raw[:, 3 + LOBES :])
        return torch.cat([diffuse, specular, roughness], dim=1)

    def albedo(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        return self(sphere)[:, :3]

    def shade(
        self,
        attributes: Float[Tensor, "p 9"],
        irradiance: Float[Tensor, " p"],
        cosine: Float[Tensor, " p"],
        angles: Angles | None = None,
    ) -> Float[Tensor, "p 3"]:
        specular, roughness = attributes[:, 3 : 3 + LOBES], attributes[:, 3 + LOBES :]
        if angles is None:
            lobe = specular * collocated_microfacet(cosine[:, None], roughness)
        else:
            scale = self.log_albedo.exp().mean()
            lobe = microfacet(cosine, angles, roughness) * schlick(specular, scale, angles.difference)
        return (attributes[:, :3] + lobe.sum(dim=1, keepdim=True)) * irradiance[:, None]


def collocated_microfacet(cosine: Float[Tensor, "p 1"], roughness: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """Cook-Torrance lobe with light and camera in one direction, relative to its specular colour.

    There the half vector is that direction too: Schlick's Fresnel factor is the specular colour
    itself, and pi times the lobe is D G / (4 cos^2) with GGX's D (alpha = roughness^2, times pi) and
    Smith's separable G = G1^2 (Walter et al. 2007, equations 33 and 34; constants go to the colour).
    """
    alpha2 = roughness.pow(4)
    cos2 = cosine.clamp(min=GRAZING).pow(2)
    return _distribution(cos2, alpha2) * _shadowing(cos2, alpha2).pow(2) / (4 * cos2)


def microfacet(cosine: Float[Tensor, " p"], angles: Angles, roughness: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """Cook-Torrance lobe for light at angle `cosine` and a camera elsewhere, without the Fresnel factor.

    pi times it is D G1(light) G1(camera) / (4 cos cos), of which `collocated_microfacet` is a case.
    """
    alpha2 = roughness.pow(4)
    light, view = (each.clamp(min=GRAZING)[:, None] for each in (cosine, angles.view))
    shadowing = _shadowing(light.pow(2), alpha2) * _shadowing(view.pow(2), alpha2)
    return _distribution(angles.half.pow(2)[:, None], alpha2) * shadowing / (4 * light * view)


def schlick(
    specular: Float[Tensor, "p k"], white: Float[Tensor, ""], difference: Float[Tensor, " p"]
) -> Float[Tensor, "p k"]:
    """Schlick's Fresnel factor (1994, equation 15) of lobes that share one interface.

    At grazing incidence they reflect `white` together, in proportion to their specular colours; less than that where
    they are fainter than a dielectric straight on (`DIELECTRIC`), and nothing where there is no lobe. So glTF has it,
    too (KHR_materials_specular).
    """
    total = specular.sum(dim=1, keepdim=True)
    grazing = (white / total.clamp(min=torch.finfo(total.dtype).tiny)).clamp(min=1, max=1 / DIELECTRIC)
    return specular * (1 + (grazing - 1) * (1 - difference.clamp(0, 1)).pow(5)[:, None])


def _distribution(cos2: Float[Tensor, "p 1"], alpha2: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """GGX's D times pi."""
    return alpha2 / (cos2 * (alpha2 - 1) + 1).pow(2)


def _shadowing(cos2: Float[Tensor, "p 1"], alpha2: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """Smith's G1."""
    return 2 / (1 + (1 + alpha2 * (1 - cos2) / cos2).sqrt())

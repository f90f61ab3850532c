"""What the surface does with the light: parameters of the sphere's points, and a shader of them.

A reflectance is called with points of the unit sphere (v, 3) and returns its parameters there (v, k). Rendering
interpolates its `attributes` over the mesh, and its method `shade` makes radiance of them: attributes are the
parameters themselves where these are known at vertices, and places on the sphere where they are textures, which are
looked up in every pixel. Roughness r is that of the field's tools: GGX's alpha = r^2 (Burley 2012).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.config import RunConfig, SurfaceConfig
from recon.model.texture import SphereTexture
from recon.render.shade import Angles
from recon.surface.velocity import NEGATIVE_SLOPE, PositionalEncoding

LOBES = 3
"""Cook-Torrance lobes of the paper's network."""

WIDTH = 64
"""Units of the hidden layers of the reflectance networks."""

MIN_ROUGHNESS = 0.05

GLOSS_SIZES = (4, 8, 16, 32)
"""Of the textures of a glossy layer: highlights wander over an object and tell little of single places."""

SMOOTHEST, ROUGHEST = 0.2, 0.8
"""Roughness of a glossy layer in textures. A rougher lobe is hardly another than the diffuse one, and a smoother one
is seen in too few pixels of a few dozen photographs to be told."""

DIELECTRIC = 0.04
"""What a surface of refractive index 1.5 reflects straight on; it reflects all at grazing incidence."""

GRAZING = 1e-3
"""Least cosine with the normal; the lobes have no value at 0."""


class ConstantReflectance(nn.Module):
    """One diffuse albedo for the whole surface, times the flash's intensity and 1 / pi."""

    uniform = True
    """Whether one albedo is all there is."""

    textured = False
    """Whether textures over the sphere hold what varies."""

    def __init__(self, brightness: float) -> None:
        super().__init__()
        self.log_albedo = nn.Parameter(torch.full((3,), brightness).log())

    def forward(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v k"]:
        """The parameters at points of the sphere: here the albedo, (v, 3)."""
        return self.log_albedo.exp().expand(len(sphere), 3)

    def albedo(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        """The diffuse albedo that is written to meshes."""
        return self(sphere)[:, :3]

    def attributes(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v a"]:
        """What rendering interpolates between vertices that come from these points of the sphere."""
        return self(sphere)

    def parameters_of(self, attributes: Float[Tensor, "p a"]) -> Float[Tensor, "p k"]:
        """The parameters where `attributes` were interpolated."""
        return attributes

    def textures(self) -> list[nn.Parameter]:
        """The textures that make the albedo vary, from coarse to fine."""
        return []

    def shade(
        self,
        attributes: Float[Tensor, "p a"],
        irradiance: Float[Tensor, " p"],
        cosine: Float[Tensor, " p"],
        angles: Angles | None = None,
    ) -> Float[Tensor, "p 3"]:
        """Reflected radiance, for irradiance at angle `cosine` from the camera's own direction, or from
        another one, which `angles` tells."""
        return self.reflect(self.parameters_of(attributes), irradiance, cosine, angles)

    def reflect(
        self,
        parameters: Float[Tensor, "p k"],
        irradiance: Float[Tensor, " p"],
        cosine: Float[Tensor, " p"],
        angles: Angles | None = None,
    ) -> Float[Tensor, "p 3"]:
        """As `shade`, where the parameters are known: many lights look them up once."""
        return parameters * irradiance[:, None]


class VaryingReflectance(ConstantReflectance):
    """A diffuse albedo that varies over the sphere: the constant one times exp of textures, or of a small network.

    Attributes:
        uniform: the textures are laid aside, and the constant albedo is all there is. They hold zeros then, by which
            weights that are loaded tell it.
    """

    def __init__(self, brightness: float, config: RunConfig) -> None:
        super().__init__(brightness)
        self.uniform = False
        self.textured = config.surface.representation == "grid"
        if self.textured:
            self.paint = SphereTexture(config.texture.sizes, config.texture.falloff, 3)
        else:
            self.network = SphereNetwork(config.surface, self._outputs)
        self.register_load_state_dict_post_hook(_see_whether_uniform)

    _outputs = 3
    """Values of the network."""

    @property
    def may_be_uniform(self) -> bool:
        """Whether one albedo is what is left of it without its textures."""
        return self.textured

    @torch.no_grad()
    def make_uniform(self, log_albedo: Float[Tensor, " 3"]) -> None:
        """Have one albedo in place of what the textures hold."""
        self.uniform = True
        self.log_albedo.copy_(log_albedo)
        for texture in self.textures():
            texture.zero_()

    def forward(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v k"]:
        if self.uniform:
            return super().forward(sphere)
        return (self.log_albedo + (self.paint if self.textured else self.network)(sphere)).exp()

    def attributes(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v a"]:
        return sphere if self.textured and not self.uniform else self(sphere)

    def parameters_of(self, attributes: Float[Tensor, "p a"]) -> Float[Tensor, "p k"]:
        return self(attributes) if self.textured and not self.uniform else attributes

    def textures(self) -> list[nn.Parameter]:
        return list(self.paint.textures) if self.textured else []


class MicrofacetReflectance(VaryingReflectance):
    """Diffuse RGB and Cook-Torrance lobes: one glossy layer in textures, or the paper's network with `LOBES` of them.

    Parameters of a point: 3 diffuse, then a specular weight for each lobe, then a roughness for each.
    """

    _outputs = 3 + 2 * LOBES

    @property
    def may_be_uniform(self) -> bool:
        return False

    def __init__(self, brightness: float, config: RunConfig) -> None:
        super().__init__(brightness, config)
        if self.textured:
            self.layer = SphereTexture(GLOSS_SIZES, config.texture.falloff, 2)
            self.first_gloss = nn.Parameter(torch.tensor([-4.0, 0.0]))
        else:
            with torch.no_grad():
                self.network.output.bias[3 : 3 + LOBES] = -4.0
                self.network.output.bias[3 + LOBES :] = torch.logit(torch.linspace(0.2, 0.6, LOBES))

    def forward(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v k"]:
        if self.textured:
            raw, (low, high) = self.paint(sphere), (SMOOTHEST, ROUGHEST)
            specular, roughness = (self.first_gloss + self.layer(sphere)).split(1, dim=1)
        else:
            low, high = MIN_ROUGHNESS, 1.0
            raw, specular, roughness = self.network(sphere).split([3, LOBES, LOBES], dim=1)
        diffuse = (self.log_albedo + raw).exp()
        specular = self.log_albedo.exp().mean() * torch.nn.functional.softplus(specular)
        return torch.cat([diffuse, specular, low + (high - low) * torch.sigmoid(roughness)], dim=1)

    def reflect(
        self,
        parameters: Float[Tensor, "p k"],
        irradiance: Float[Tensor, " p"],
        cosine: Float[Tensor, " p"],
        angles: Angles | None = None,
    ) -> Float[Tensor, "p 3"]:
        specular, roughness = _lobes(parameters)
        if angles is None:
            lobe = specular * collocated_microfacet(cosine[:, None], roughness)
        else:
            scale = self.log_albedo.exp().mean()
            lobe = microfacet(cosine, angles, roughness) * schlick(specular, scale, angles.difference)
        return (parameters[:, :3] + lobe.sum(dim=1, keepdim=True)) * irradiance[:, None]


def _see_whether_uniform(reflectance: VaryingReflectance, _: object) -> None:
    textures = reflectance.textures()
    reflectance.uniform = reflectance.may_be_uniform and not any(texture.any() for texture in textures)


class SphereNetwork(nn.Module):
    """The paper's network on the sphere, 0 everywhere to begin with."""

    def __init__(self, surface: SurfaceConfig, channels: int) -> None:
        super().__init__()
        encoding = PositionalEncoding(surface)
        self.layers = nn.Sequential(
            encoding,
            nn.Linear(encoding.channels, WIDTH),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Linear(WIDTH, WIDTH),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )
        self.output = nn.Linear(WIDTH, channels)
        nn.init.zeros_(self.output.weight)  # starts as the constant albedo
        nn.init.zeros_(self.output.bias)

    def forward(self, sphere: Float[Tensor, "v 3"]) -> Float[Tensor, "v c"]:
        return self.output(self.layers(sphere))


def _lobes(parameters: Float[Tensor, "p k"]) -> tuple[Float[Tensor, "p l"], Float[Tensor, "p l"]]:
    """Specular weights and roughnesses."""
    specular, roughness = parameters[:, 3:].chunk(2, dim=1)
    return specular, roughness


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

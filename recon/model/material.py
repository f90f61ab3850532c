"""A reflectance as glTF's material has it: base colour, one specular lobe, its roughness.

glTF's dielectric (Khronos, glTF 2.0, appendix B, with KHR_materials_specular) reflects (1 - F) base / pi + F D G /
(4 cos cos), with GGX's D of alpha = roughness^2, as our lobes have it. Under the flash F is F0. Our radiance, in units
of flash intensity / pi, is `diffuse` + the sum of some lobes. Of them the nearest sum of a constant and one lobe is
taken: in the least squares of radiance over the pixels of a sphere that the flash lights, so with the weight
cos^3 sin of the angle. A lobe of large roughness is hardly told from a diffuse colour by images, and becomes one here.
The single lobe has Smith's height-correlated G, as viewers and Blender have; ours is separable.
"""

from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.model import Model
from recon.model.reflectance import (
    MIN_ROUGHNESS,
    ConstantReflectance,
    MicrofacetReflectance,
    collocated_microfacet,
)

CHUNK = 1 << 14
"""Points that are evaluated at once."""

ANGLES = 180
"""At which lobes are compared, between facing the flash and turning away."""

ROUGHNESSES = 48
"""Lobes among which the nearest is sought, before a parabola goes through three."""

MAX_ROUGHNESS = 0.8
"""Of the lobe that is sought. Rougher ones are hardly told from a diffuse colour: they become one."""

RIDGE = 3e-3
"""Price of a lobe: its squared F0 against the squared radiance that is missed. A broad one would else be brighter than
a mirror for the small difference that it makes."""

QUANTILE = 0.999
"""Of the points, which are not brighter than white."""

SHARP = 1024
"""Steps of the roughness of the lobes that are replaced."""


class Material(NamedTuple):
    """What is known of points, in units of which images do not tell the flash's intensity / pi apart.

    Attributes:
        diffuse: albedo, without the lobe.
        specular: the lobe's F0.
        roughness: GGX's alpha is its square; 1 where the reflectance has no lobes.
    """

    diffuse: Float[Tensor, "n 3"]
    specular: Float[Tensor, " n"]
    roughness: Float[Tensor, " n"]

    @property
    def white(self) -> float:
        """The unit in which base colour and F0 are at most 1: the flash's intensity / pi, as far as images tell it.
        What is brighter on a thousandth of the sphere, where often no camera looked, does not count."""
        brightest = self.diffuse.amax(dim=1) + self.specular
        return max(float(brightest.quantile(QUANTILE)), torch.finfo(torch.float32).tiny)

    def base_color(self, white: float) -> Float[Tensor, "n 3"]:
        """glTF's base colour, linear: the diffuse part is what the lobe lets through, 1 - F0."""
        return (self.diffuse / (white - self.specular[:, None]).clamp(min=0.01 * white)).clamp(max=1)

    def f0(self, white: float) -> Float[Tensor, " n"]:
        """The lobe's reflectance at normal incidence."""
        return (self.specular / white).clamp(max=1)


@torch.no_grad()
def material(model: Model, sphere: Float[Tensor, "n 3"]) -> Material:
    """The material at points of the unit sphere, on the CPU."""
    reflectance = model.reflectance
    parts = [material_of(reflectance, reflectance(part.to(model.device))) for part in sphere.split(CHUNK)]
    return Material(*(torch.cat(each) for each in zip(*parts, strict=True)))


def material_of(reflectance: ConstantReflectance, parameters: Float[Tensor, "n k"]) -> Material:
    """The material at points with these parameters of the reflectance, on the CPU."""
    parameters = parameters.detach().cpu()
    if isinstance(reflectance, MicrofacetReflectance):
        return nearest_lobe(parameters[:, :3], *parameters[:, 3:].chunk(2, dim=1))
    return Material(parameters, parameters.new_zeros(len(parameters)), parameters.new_ones(len(parameters)))


def nearest_lobe(
    diffuse: Float[Tensor, "n 3"], specular: Float[Tensor, "n k"], roughness: Float[Tensor, "n k"]
) -> Material:
    """The diffuse colour and single lobe whose radiance under the flash is nearest to that of k lobes over `diffuse`.

    With f the sum of the lobes and l a lobe of the roughness r, (a, s) of f ~ a + s l are a ridge regression: s is
    cov(f, l) / (var(l) + RIDGE), and r the one that explains most, cov(f, l)^2 / (var(l) + RIDGE).
    """
    table = _tables()
    row = ((roughness - MIN_ROUGHNESS) / (1 - MIN_ROUGHNESS) * (SHARP - 1)).round().long().clamp(0, SHARP - 1)
    covariance = specular.new_zeros(len(specular), ROUGHNESSES)
    for k in range(specular.shape[1]):
        covariance.addcmul_(specular[:, k, None], table.covariance.index_select(0, row[:, k]))
    mean = (specular * table.mean[row]).sum(dim=1)
    explained = covariance.clamp(min=0).square() / table.variance
    best = explained.argmax(dim=1).clamp(1, ROUGHNESSES - 2)[:, None]
    # The top of the parabola through the best and its neighbours.
    before, here, after = (explained.gather(1, best + k)[:, 0] for k in (-1, 0, 1))
    bend = (before - 2 * here + after).clamp(max=-torch.finfo(torch.float32).tiny)
    place = best[:, 0] + ((before - after) / (2 * bend)).clamp(-1, 1)
    weight = _between(covariance / table.variance, place).clamp(min=0)
    offset = mean - weight * _between(table.lobe_mean.expand_as(covariance), place)
    chosen = MIN_ROUGHNESS + (MAX_ROUGHNESS - MIN_ROUGHNESS) * place / (ROUGHNESSES - 1)
    chosen = torch.where(weight > 0, chosen, MAX_ROUGHNESS)  # where there is no lobe, nothing tells it
    return Material((diffuse + offset[:, None]).clamp(min=0), weight, chosen)


class _Tables(NamedTuple):
    """Moments over the angles of lobes of ours, a row each, and of the lobes to choose from, a column each."""

    covariance: Float[Tensor, "s r"]
    variance: Float[Tensor, " r"]
    mean: Float[Tensor, " s"]
    lobe_mean: Float[Tensor, " r"]


@cache
def _tables() -> _Tables:
    theta = (torch.arange(ANGLES, dtype=torch.float64) + 0.5) * (torch.pi / 2 / ANGLES)
    cosine = theta.cos()
    weight = cosine**3 * theta.sin()
    weight /= weight.sum()
    known = torch.linspace(MIN_ROUGHNESS, 1, SHARP, dtype=torch.float64).expand(ANGLES, SHARP)
    ours = collocated_microfacet(cosine[:, None], known)
    theirs = correlated_microfacet(
        cosine[:, None], torch.linspace(MIN_ROUGHNESS, MAX_ROUGHNESS, ROUGHNESSES, dtype=torch.float64)
    )
    mean, lobe_mean = weight @ ours, weight @ theirs
    centered = theirs - lobe_mean
    covariance = (ours - mean).T @ (weight[:, None] * centered)
    variance = weight @ centered.square() + RIDGE
    return _Tables(covariance.float(), variance.float(), mean.float(), lobe_mean.float())


def correlated_microfacet(cosine: Float[Tensor, "p 1"], roughness: Float[Tensor, " k"]) -> Float[Tensor, "p k"]:
    """As `collocated_microfacet`, with Smith's height-correlated masking and shadowing (Heitz 2014, equation 99)."""
    alpha2, cos2 = roughness.pow(4), cosine.square()
    distribution = alpha2 / (cos2 * (alpha2 - 1) + 1).square()
    return distribution / (1 + alpha2 * (1 - cos2) / cos2).sqrt() / (4 * cos2)


def _between(values: Float[Tensor, "n r"], place: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Of each row the value at a place between columns."""
    left = place.floor().long().clamp(0, values.shape[1] - 2)[:, None]
    low, high = values.gather(1, left)[:, 0], values.gather(1, left + 1)[:, 0]
    return torch.lerp(low, high, place - left[:, 0])

import math

import pytest
import torch

from recon.config import RunConfig, SurfaceConfig
from recon.model.reflectance import (
    MicrofacetReflectance,
    VaryingReflectance,
    collocated_microfacet,
    microfacet,
    schlick,
)
from recon.render.shade import Angles, separate_irradiance
from recon.surface.icosphere import icosphere

BOTH = [RunConfig(surface=SurfaceConfig(representation=each)) for each in ("grid", "mlp")]


def test_a_new_albedo_is_the_brightness_everywhere() -> None:
    sphere = icosphere(1).vertices
    for reflectance in (kind(2.5, config) for kind in (VaryingReflectance, MicrofacetReflectance) for config in BOTH):
        torch.testing.assert_close(reflectance.albedo(sphere), torch.full((42, 3), 2.5))


def test_lobe_at_normal_incidence_is_that_of_ggx() -> None:
    roughness = torch.tensor([[0.3, 0.7]])
    # D = 1 / (pi alpha^2), G = 1 and f = D G / 4, here without pi.
    torch.testing.assert_close(
        collocated_microfacet(torch.ones(1, 1), roughness), 1 / (4 * roughness**4), rtol=1e-4, atol=0
    )


def test_ggx_distribution_integrates_to_one() -> None:
    roughness = torch.full((20001, 1), 0.5)
    cosine = torch.linspace(1e-3, 1, 20001)[:, None]
    shadowing = 2 / (1 + (1 + roughness**4 * (1 - cosine**2) / cosine**2).sqrt())
    distribution = collocated_microfacet(cosine, roughness) * 4 * cosine**2 / shadowing**2 / torch.pi
    integral = torch.trapezoid((distribution * cosine * 2 * torch.pi).squeeze(), cosine.squeeze())
    assert integral.item() == pytest.approx(1, abs=1e-3)


def test_lobe_of_one_direction_is_the_collocated_one() -> None:
    cosine, roughness = torch.linspace(0.05, 1, 9), torch.tensor([[0.2, 0.5, 0.9]]).expand(9, 3)
    together = microfacet(cosine, Angles(cosine, cosine, torch.ones(9)), roughness)
    torch.testing.assert_close(together, collocated_microfacet(cosine[:, None], roughness))


def test_lobe_is_reciprocal_and_peaks_in_the_mirror_direction() -> None:
    """The half vector of light and camera at 30 degrees on either side is the normal."""
    light, camera, normal = (torch.tensor([[math.sin(a), 0, math.cos(a)]]) for a in (0.52, -0.52, 0.0))
    roughness = torch.full((1, 1), 0.3)

    def lobe(to_light: torch.Tensor, to_camera: torch.Tensor) -> float:
        _, cosine, angles = separate_irradiance(
            torch.zeros(1, 3), normal, to_camera, torch.nn.functional.pad(to_light, (0, 1))
        )
        return microfacet(cosine, angles, roughness).item()

    tilted = torch.nn.functional.normalize(camera + torch.tensor([[0.0, 0.3, 0]]), dim=1)
    assert lobe(light, tilted) == pytest.approx(lobe(tilted, light), rel=1e-5)
    assert lobe(light, camera) > 1.3 * lobe(light, tilted)


def test_fresnel_at_grazing_light_is_white_for_all_lobes_together() -> None:
    specular, white = torch.tensor([[0.1, 0.2]]), torch.tensor(2.0)
    torch.testing.assert_close(schlick(specular, white, torch.ones(1)), specular)
    torch.testing.assert_close(schlick(specular, white, torch.zeros(1)), torch.tensor([[2 / 3, 4 / 3]]))
    torch.testing.assert_close(schlick(2 * specular, torch.tensor(0.5), torch.zeros(1)), 2 * specular)  # brighter


def test_what_has_no_lobe_stays_matt_at_grazing_light_and_a_faint_one_is_like_half_a_dielectric() -> None:
    """As glTF has it: specular 0.5 of refractive index 1.5 reflects 2% straight on and 50% at grazing incidence."""
    specular = torch.tensor([[0.0, 0.0], [0.02, 0.0]])
    reflected = schlick(specular, torch.tensor(1.0), torch.zeros(2))
    torch.testing.assert_close(reflected, torch.tensor([[0.0, 0.0], [0.5, 0.0]]))


@pytest.mark.parametrize("config", BOTH)
def test_a_glossy_surface_peaks_where_it_faces_the_flash(config: RunConfig) -> None:
    reflectance = MicrofacetReflectance(1.0, config)
    attributes = reflectance.attributes(icosphere(0).vertices[:1]).expand(2, -1)
    cosine = torch.tensor([1.0, 0.6])
    facing, turned = reflectance.shade(attributes, cosine, cosine)[:, 0] / cosine
    assert facing > turned > 1


@pytest.mark.parametrize("reflectance", ["constant", "varying", "microfacet"])
def test_every_reflectance_has_gradient(reflectance: str) -> None:
    from recon.model.model import Model

    model = Model(RunConfig(reflectance=reflectance), torch.eye(4).double().numpy(), 1.0)
    attributes = model.reflectance.attributes(icosphere(1).vertices)
    shade = model.reflectance.shade(attributes, torch.full((42,), 0.5), torch.full((42,), 0.7))
    shade.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.reflectance.parameters())


def test_what_is_rendered_is_what_the_parameters_say() -> None:
    """A texture is looked up in every pixel, where attributes are places on the sphere, of whatever length."""
    for config in BOTH:
        reflectance = MicrofacetReflectance(1.0, config)
        sphere = icosphere(1).vertices
        torch.testing.assert_close(reflectance.parameters_of(reflectance.attributes(sphere)), reflectance(sphere))

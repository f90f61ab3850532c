import pytest
import torch

from recon.config import RunConfig, SurfaceConfig
from recon.surface.icosphere import icosphere
from recon.surface.reflectance import MicrofacetReflectance, VaryingReflectance, collocated_microfacet


def test_a_new_albedo_is_the_brightness_everywhere() -> None:
    sphere = icosphere(1).vertices
    for reflectance in (VaryingReflectance(2.5, SurfaceConfig()), MicrofacetReflectance(2.5, SurfaceConfig())):
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


def test_a_glossy_surface_peaks_where_it_faces_the_flash() -> None:
    reflectance = MicrofacetReflectance(1.0, SurfaceConfig())
    attributes = reflectance(icosphere(0).vertices[:1]).expand(2, -1)
    cosine = torch.tensor([1.0, 0.6])
    facing, turned = reflectance.shade(attributes, cosine, cosine)[:, 0] / cosine
    assert facing > turned > 1


@pytest.mark.parametrize("reflectance", ["constant", "varying", "microfacet"])
def test_every_reflectance_has_gradient(reflectance: str) -> None:
    from recon.surface.model import Model

    model = Model(RunConfig(reflectance=reflectance), torch.eye(4).double().numpy(), 1.0)
    attributes = model.reflectance(icosphere(1).vertices)
    shade = model.reflectance.shade(attributes, torch.full((42,), 0.5), torch.full((42,), 0.7))
    shade.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.reflectance.parameters())

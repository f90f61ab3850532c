import numpy as np
import pytest
import torch
from shapes import ring

from recon.config import LossConfig, RunConfig
from recon.model.model import Model, SurfaceMesh
from recon.render.renderer import Rendering
from recon.surface.icosphere import icosphere
from recon.training.data import Batch
from recon.training.draws import Draws
from recon.training.losses import (
    distortion_loss,
    edge_loss,
    fold_loss,
    image_loss,
    laplacian_loss,
    loss_terms,
    normal_loss,
    relative_weights,
    sample_path,
    weighted_mean,
)


def draws() -> Draws:
    return Draws(torch.Generator().manual_seed(0), torch.device("cpu"))


def scalings(along_x: list[float]) -> torch.Tensor:
    """Derivatives along x, y and z of maps that scale x."""
    derivatives = torch.eye(3)[:, None].repeat(1, len(along_x), 1)
    derivatives[0, :, 0] = torch.tensor(along_x)
    return derivatives


def mesh(level: int = 2) -> SurfaceMesh:
    vertices, faces = icosphere(level)
    return SurfaceMesh(vertices, faces, torch.ones_like(vertices))


def test_image_loss_leaves_out_what_is_saturated_in_both() -> None:
    prediction = torch.tensor([1.5, 1.5, 0.5]).view(1, 1, 1, 3)
    target = torch.tensor([1.0, 0.5, 0.25]).view(1, 1, 1, 3)
    assert image_loss(prediction, target).item() == pytest.approx((0 + 1.0 + 0.25) / 3)


def test_fold_loss_is_zero_for_healthy_steps() -> None:
    assert fold_loss(scalings([0.5, 1.2, 0.2])).item() == pytest.approx(0, abs=1e-7)
    assert fold_loss(scalings([1.0, -0.1])).item() == pytest.approx(0.15)


def test_distortion_is_of_shape_and_not_of_size() -> None:
    assert distortion_loss(0.01 * scalings([1.0])).item() == 0
    pressed = 0.25 / ((2 + 0.25**2) / 3) ** 1.5
    assert distortion_loss(scalings([0.25])).item() == pytest.approx(0.75 - pressed)
    assert distortion_loss(scalings([-1.0])).item() == pytest.approx(1.75)


def test_sampled_points_lie_on_the_path_before_its_end() -> None:
    path = [torch.full((4, 3), float(i), requires_grad=True) for i in range(4)]
    points = sample_path(path, 200, draws())
    assert points.shape == (200, 3)
    assert set(points[:, 0].tolist()) == {0.0, 1.0, 2.0}
    assert not points.requires_grad


def test_regularisers_vanish_on_what_they_prefer() -> None:
    assert edge_loss(mesh(0)).item() == pytest.approx(0, abs=1e-10)  # all edges of an icosahedron are equal
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    flat = SurfaceMesh(square, torch.tensor([[0, 1, 2], [2, 1, 3]]), torch.ones(4, 3))
    assert normal_loss(flat).item() == pytest.approx(0, abs=1e-7)


def test_normal_loss_of_an_icosahedron_is_its_dihedral_angle() -> None:
    assert normal_loss(mesh(0)).item() == pytest.approx(1 - 5**0.5 / 3, abs=1e-5)


def test_laplacian_loss_grows_with_noise() -> None:
    smooth = mesh(3)
    noise = 0.05 * torch.randn(smooth.vertices.shape, generator=torch.Generator().manual_seed(0))
    assert laplacian_loss(smooth._replace(vertices=smooth.vertices + noise)) > 3 * laplacian_loss(smooth)


def test_only_terms_with_a_weight_are_computed() -> None:
    image = torch.zeros(1, 2, 2, 3)
    rendering = Rendering(image, torch.full((1, 2, 2), 0.25), torch.zeros(1, 2, 2), image)
    path = [mesh().vertices, mesh().vertices]

    def terms(config: LossConfig, masks: torch.Tensor | None) -> dict[str, torch.Tensor]:
        model = Model(RunConfig(loss=config), np.eye(4), 1.0)
        return loss_terms(
            model,
            rendering,
            Batch(ring(1, 2, 2), image, masks, torch.tensor([0])),
            mesh(),
            model.flow(),
            path,
            draws(),
        )

    assert set(terms(LossConfig(), None)) == {"image", "velocity", "fold", "distortion"}
    everything = LossConfig(fold=1, distortion=0, silhouette=1, edge=1, normal=1, laplacian=1)
    found = terms(everything, torch.ones(1, 2, 2))
    assert set(found) == {"image", "velocity", "fold", "silhouette", "edge", "normal", "laplacian"}
    assert found["silhouette"].item() == pytest.approx(0.75)


def test_dark_parts_of_the_surface_count_more() -> None:
    """Seen wholly, by a half, in the dark beyond four times, not at all, and before a bright wall."""
    alpha = torch.tensor([[[1.0, 1, 0.5, 1, 0, 0.5]]])
    surface = torch.tensor([0.8, 0.2, 0.1, 0.08, 0.0, 0.4]).view(1, 1, 6, 1).expand(-1, -1, -1, 3)
    mean = (0.8 + 0.2 + 0.2 + 0.08 + 0.8) / 5
    black = Rendering(surface, alpha, alpha, surface)
    expected = torch.tensor([1.0, mean / 0.2, mean / 0.2, 4.0, 1.0, 1.0])
    torch.testing.assert_close(relative_weights(black, 1.0), expected.view(1, 1, 6))
    root = torch.tensor([1.0, (mean / 0.2) ** 0.5, (mean / 0.2) ** 0.5, (mean / 0.08) ** 0.5, 1.0, 1.0])
    torch.testing.assert_close(relative_weights(black, 0.5), root.view(1, 1, 6))
    wall = black._replace(radiance=surface + (1 - alpha)[..., None] * 0.9, surface=surface)
    assert torch.equal(relative_weights(wall, 1.0), relative_weights(black, 1.0))


def test_relative_weights_are_for_paint() -> None:
    """With one albedo dark is what turns away, and counts as it is."""
    alpha = torch.ones(1, 1, 2)
    radiance = torch.tensor([0.8, 0.2]).view(1, 1, 2, 1).expand(-1, -1, -1, 3)
    rendering = Rendering(radiance, alpha, alpha, radiance)
    batch = Batch(ring(1, 1, 2), radiance + 0.1, None, torch.tensor([0]))
    painted, plain = (
        loss_terms(model, rendering, batch, mesh(), model.flow(), [mesh().vertices] * 2, draws())["image"].item()
        for model in (Model(RunConfig(reflectance=kind), np.eye(4), 1.0) for kind in ("varying", "constant"))
    )
    assert plain == pytest.approx(0.1)
    assert painted == pytest.approx(0.1 * (1 + 2.5) / 2)


def test_a_robust_loss_counts_large_errors_less_and_less() -> None:
    prediction = torch.zeros(1, 1, 4, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0.001, 0.05, 0.5, 0.9], dtype=torch.float64)[None, None, :, None].expand(1, 1, 4, 3)
    loss = image_loss(prediction, target, robust=0.05)
    expected = sum(e / (1 + e / 0.05) for e in (0.001, 0.05, 0.5, 0.9)) / 4
    assert loss.item() == pytest.approx(expected)
    (slope,) = torch.autograd.grad(loss, prediction)
    weight = -4 * slope[0, 0].sum(dim=1)
    torch.testing.assert_close(weight, (1 + target[0, 0, :, 0] / 0.05) ** -2)
    assert loss.item() < 0.05


def test_without_a_scale_the_loss_is_what_it_was() -> None:
    prediction, target = torch.rand(2, 5, 4, 3), torch.rand(2, 5, 4, 3)
    assert torch.equal(image_loss(prediction, target), (prediction - target).abs().mean(dim=3).mean())
    assert torch.equal(image_loss(prediction, target, robust=0.0), image_loss(prediction, target))


def test_a_pixel_is_saturated_from_one_on_in_both() -> None:
    prediction = torch.tensor([1.0, 2.0, 0.5]).view(1, 1, 1, 3)
    target = torch.tensor([2.0, 1.0, 1.5]).view(1, 1, 1, 3)
    assert image_loss(prediction, target).item() == pytest.approx(1 / 3)
    assert image_loss(target, prediction).item() == pytest.approx(1 / 3)


def test_weights_are_of_pixels() -> None:
    error = torch.tensor([[[0.5, 0.25]]])
    weights = torch.tensor([[[2.0, 0.5]]])
    assert weighted_mean(error, None).item() == pytest.approx(0.375)
    assert weighted_mean(error, weights).item() == pytest.approx((1 + 0.125) / 2)
    image = error[..., None].expand(-1, -1, -1, 3)
    assert image_loss(torch.zeros_like(image), image, weights).item() == pytest.approx((1 + 0.125) / 2)


def test_hinges_are_means() -> None:
    assert fold_loss(scalings([-0.1, 1, 1, -0.3])).item() == pytest.approx((0.3 + 0.5) / 4)
    assert distortion_loss(scalings([-1.0, 1, 1, 1])).item() == pytest.approx(1.75 / 4)


def test_the_edges_and_the_centroids_of_a_square() -> None:
    """Four sides of length 1 and a diagonal; the corners at the diagonal's ends have three neighbours."""
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    flat = SurfaceMesh(square, torch.tensor([[0, 1, 2], [2, 1, 3]]), torch.ones(4, 3))
    lengths = np.array([1, 1, 1, 1, 2**0.5])
    assert edge_loss(flat).item() == pytest.approx(np.mean((lengths / lengths.mean() - 1) ** 2))
    # From 0 and 3 to the middle of 1 and 2; from 1 and 2 to the centroid of three corners.
    assert laplacian_loss(flat).item() == pytest.approx((2 * 0.5**0.5 + 4 * 2**0.5 / 3) / 4)


def test_no_term_but_those_with_a_weight() -> None:
    image = torch.zeros(1, 2, 2, 3)
    rendering = Rendering(image, torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), image)
    names = ["image", "velocity", "fold", "distortion", "silhouette", "edge", "normal", "laplacian"]
    nothing = dict.fromkeys(names, 0.0)
    for name in names:
        model = Model(RunConfig(loss=LossConfig(**{**nothing, name: 1.0})), np.eye(4), 1.0)
        batch = Batch(ring(1, 2, 2), image, torch.ones(1, 2, 2), torch.tensor([0]))
        path = [mesh().vertices, mesh().vertices]
        assert set(loss_terms(model, rendering, batch, mesh(), model.flow(), path, draws())) == {name}


def test_without_masks_there_is_no_silhouette_term() -> None:
    image = torch.zeros(1, 2, 2, 3)
    rendering = Rendering(image, torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), image)
    model = Model(RunConfig(loss=LossConfig(silhouette=1)), np.eye(4), 1.0)
    batch = Batch(ring(1, 2, 2), image, None, torch.tensor([0]))
    path = [mesh().vertices, mesh().vertices]
    assert "silhouette" not in loss_terms(model, rendering, batch, mesh(), model.flow(), path, draws())


def test_edges_are_drawn_towards_a_mean_that_stands_still() -> None:
    """So a mesh that grows as a whole changes the loss, by twice the variance of its relative lengths."""
    scale = torch.tensor(1.0, requires_grad=True)
    some = mesh(1)
    loss = edge_loss(some._replace(vertices=scale * some.vertices))
    (gradient,) = torch.autograd.grad(loss, scale)
    assert gradient.item() == pytest.approx(2 * loss.item(), rel=1e-4)

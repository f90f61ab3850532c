import pytest
import torch

from recon.config import SurfaceConfig
from recon.surface.flow import determinant, flow, jacobian_determinants, step_derivatives, trajectory
from recon.surface.icosphere import icosphere
from recon.surface.velocity import NetworkFlow, PositionalEncoding, VelocityNetwork, laplacian


def smooth_field(frequencies: int = 4) -> VelocityNetwork:
    torch.manual_seed(0)
    field = VelocityNetwork(SurfaceConfig(frequencies=frequencies, width=16)).double()
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return field


def test_encoding_is_that_of_the_paper() -> None:
    encoding = PositionalEncoding(SurfaceConfig(frequencies=3))
    x = torch.tensor([[0.3, -0.2, 0.7]])
    columns = [f(x[0, axis] * 1.5**i) * 1.3**-i for f in (torch.sin, torch.cos) for axis in range(3) for i in range(3)]
    torch.testing.assert_close(encoding(x)[0], torch.stack(columns))


def test_new_field_leaves_the_sphere_in_place() -> None:
    torch.manual_seed(0)
    sphere = icosphere(2).vertices
    moved = flow(VelocityNetwork(SurfaceConfig()), sphere, steps=10)
    assert (moved - sphere).norm(dim=1).max() < 0.05


@pytest.mark.parametrize(("integrator", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_integrators_converge_with_their_order(integrator: str, order: int) -> None:
    def rotation(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([-x[:, 1], x[:, 0], 0.5 * x[:, 2]], dim=1)

    start = torch.tensor([[1.0, 0.5, 0.25]], dtype=torch.float64)
    t = torch.tensor(2.0, dtype=torch.float64)
    exact = torch.stack([t.cos() - 0.5 * t.sin(), t.sin() + 0.5 * t.cos(), 0.25 * t.exp().sqrt()])
    errors = [(flow(rotation, start, steps, integrator)[0] - exact).norm() for steps in (40, 80)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_trajectory_starts_on_the_sphere_and_has_every_step() -> None:
    sphere = icosphere(1).vertices.double()
    path = trajectory(smooth_field(), sphere, steps=5)
    assert len(path) == 6
    assert path[0] is sphere


def test_jacobian_of_a_linear_field_is_exact() -> None:
    matrix = torch.tensor([[0.1, 0.2, 0.0], [0.0, -0.3, 0.1], [0.2, 0.0, 0.4]], dtype=torch.float64)
    points = icosphere(1).vertices.double()
    found = jacobian_determinants(lambda x: x @ matrix.T, points, steps=8)
    expected = torch.linalg.det(torch.eye(3, dtype=torch.float64) + 2 / 8 * matrix) ** 8
    torch.testing.assert_close(found, expected.expand(len(points)))


def test_the_steps_determinants_multiply_to_the_flows() -> None:
    field, points = smooth_field(), icosphere(1).vertices.double()
    for integrator in ("euler", "midpoint", "rk4"):
        path = trajectory(field, points, 4, integrator)
        product = torch.stack([determinant(*step_derivatives(field, x, 4, integrator)) for x in path[:-1]]).prod(0)
        torch.testing.assert_close(product, jacobian_determinants(field, points, 4, integrator))


def test_laplacian_against_finite_differences() -> None:
    field, points, h = smooth_field(), torch.rand(6, 3, dtype=torch.float64), 1e-4
    found = laplacian(field, points)
    axes = h * torch.eye(3, dtype=torch.float64)
    expected = sum((field(points + e) + field(points - e) - 2 * field(points)) / h**2 for e in axes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_laplacian_has_gradient_to_the_weights() -> None:
    field = smooth_field()
    curvature = laplacian(field, torch.rand(4, 3, dtype=torch.float64))
    curvature.square().sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for n, p in field.named_parameters() if n != "output.bias"
    )


def test_the_energy_of_a_quadratic_field_is_exact() -> None:
    # v = (x^2, y^2, z^2) has Laplacian (2, 2, 2).
    points = torch.rand(5, 3, dtype=torch.float64)
    field = smooth_field()
    field.forward = lambda x: x**2  # type: ignore[method-assign]
    carried = NetworkFlow(field, SurfaceConfig())
    torch.testing.assert_close(carried.energy(0.1, points), (points**2 - 0.1 * 2).pow(2).sum(-1).mean())
    torch.testing.assert_close(carried.energy(0.0, points), (points**2).pow(2).sum(-1).mean())

import numpy as np
import pytest
import torch

from recon.config import RunConfig, SurfaceConfig
from recon.model.model import Model
from recon.surface.flow import Flow, determinant, flow
from recon.surface.grid import VelocityGrid, laplacian
from recon.surface.icosphere import icosphere
from recon.surface.spline import HALF_WIDTH
from recon.surface.velocity import VelocityNetwork
from recon.training.losses import fold_loss


def rough(size: float = 0.3, **keys: object) -> VelocityGrid:
    torch.manual_seed(0)
    grid = VelocityGrid(SurfaceConfig(cells=(2, 4), **keys)).double()
    for parameter in grid.parameters():
        torch.nn.init.normal_(parameter, 0, size)
    return grid


def test_a_new_grid_leaves_the_sphere_in_place() -> None:
    sphere = icosphere(2).vertices
    torch.testing.assert_close(VelocityGrid(SurfaceConfig()).flow().trajectory(sphere)[-1], sphere)


def test_no_point_is_faster_than_one_along_an_axis() -> None:
    at = 2.4 * torch.rand(500, 3, dtype=torch.float64) - 1.2
    assert rough(size=10.0).flow().spline(at).abs().max() <= 1


def test_coarse_grids_move_more_for_the_same_step() -> None:
    grid = VelocityGrid(SurfaceConfig(cells=(2, 4), falloff=2.0))
    with torch.no_grad():
        grid.grids[1].fill_(0.1)
        fine = grid.coefficients().max()
        grid.grids[1].zero_()
        grid.grids[0].fill_(0.1)
        coarse = grid.coefficients().max()
    assert coarse.atanh() / fine.atanh() == pytest.approx(4, rel=1e-5)


def test_the_energy_of_a_quadratic_field_is_exact_inside() -> None:
    # c = (x^2, 0, 0) at the coefficients has the Laplacian (2, 0, 0).
    side, cells = 10, 8
    at = torch.linspace(-HALF_WIDTH, HALF_WIDTH, side, dtype=torch.float64)
    at = at * (side - 1) / cells  # coefficients are a cell apart
    field = torch.zeros(3, side, side, side, dtype=torch.float64)
    field[0] = (at**2)[:, None, None]
    inside = laplacian(field, cells)[:, 1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(inside[0], torch.full_like(inside[0], 2.0))
    assert inside[1:].abs().max() == 0


def test_the_energy_of_a_constant_field_is_its_square() -> None:
    grid = VelocityGrid(SurfaceConfig(cells=(2, 4)))
    with torch.no_grad():
        grid.grids[0].fill_(0.5)
    expected = 3 * torch.tensor(0.5).tanh() ** 2
    torch.testing.assert_close(grid.flow().energy(0.01, torch.empty(0, 3)), expected)


@pytest.mark.parametrize("integrator", ["euler", "midpoint", "rk4"])
def test_the_flows_determinant_is_that_of_its_derivative(integrator: str) -> None:
    grid = rough(integrator=integrator, steps=3)
    at = icosphere(0).vertices.double()
    carried = grid.flow()

    def end(x: torch.Tensor) -> torch.Tensor:
        return flow(lambda y: carried.spline(y), x, 3, integrator)  # type: ignore[arg-type]

    jacobian = torch.autograd.functional.jacobian(end, at)
    expected = torch.stack([torch.linalg.det(jacobian[i, :, i]) for i in range(len(at))])
    torch.testing.assert_close(carried.jacobian_determinants(at), expected)
    torch.testing.assert_close(carried.trajectory(at)[-1], end(at))


def test_the_fold_terms_gradient_unfolds() -> None:
    grid = rough(size=4.0, steps=2)
    at = icosphere(2).vertices.double()
    folded = [fold_loss(grid.flow().step_derivatives(at))]
    optimizer = torch.optim.Adam(grid.parameters(), lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        folded[-1].backward()
        optimizer.step()
        folded.append(fold_loss(grid.flow().step_derivatives(at)))
    assert folded[0] > 0.003
    assert folded[-1] < 0.3 * folded[0]


@pytest.mark.parametrize("representation", ["grid", "mlp"])
def test_both_representations_are_one_interface(representation: str) -> None:
    surface = SurfaceConfig(representation=representation, width=8, cells=(2, 4), steps=3)  # type: ignore[arg-type]
    model = Model(RunConfig(surface=surface), np.eye(4), 1.0)
    assert isinstance(model.velocity, VelocityGrid if representation == "grid" else VelocityNetwork)
    carried: Flow = model.flow()
    sphere = icosphere(1).vertices
    assert len(carried.trajectory(sphere)) == 4
    for determinants in (determinant(*carried.step_derivatives(sphere)), model.jacobian_determinants(1)):
        torch.testing.assert_close(determinants, torch.ones(len(sphere)), atol=0.05, rtol=0)
    assert carried.energy(0.01, sphere).item() == pytest.approx(0, abs=1e-3)


def test_a_new_grid_moves_nothing_at_a_fine_level_either() -> None:
    points = icosphere(6).vertices
    grid = VelocityGrid(SurfaceConfig())
    with torch.no_grad():
        end = grid.flow().trajectory(points)[-1]
    assert torch.equal(end, points)

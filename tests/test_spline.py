import pytest
import torch

from recon.surface.flow import flow, jacobian_determinants
from recon.surface.spline import HALF_WIDTH, Spline, refined, refinement

DEGREES = [1, 2, 3]
INTEGRATORS = ["euler", "midpoint", "rk4"]


def coefficients(degree: int, cells: int = 6, size: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(degree)
    return size * torch.randn(3, *[cells + degree] * 3, dtype=torch.float64, generator=generator)


def points(count: int = 20) -> torch.Tensor:
    return 1.6 * torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.8


def linear_coefficients(degree: int, cells: int = 6) -> torch.Tensor:
    """Of v(x, y, z) = (x, 2 y, -z): a B-spline is centred on its coefficient."""
    at = (torch.arange(cells + degree, dtype=torch.float64) - (degree - 1) / 2) * 2 * HALF_WIDTH / cells - HALF_WIDTH
    x, y, z = torch.meshgrid(at, at, at, indexing="ij")
    return torch.stack([x, 2 * y, -z])


@pytest.mark.parametrize("degree", DEGREES)
def test_linear_fields_are_reproduced_with_their_jacobian(degree: int) -> None:
    value, jacobian = Spline.of(linear_coefficients(degree), degree).with_jacobian(points())
    slopes = torch.tensor([1.0, 2, -1], dtype=torch.float64)
    torch.testing.assert_close(value, points() * slopes)
    torch.testing.assert_close(jacobian, torch.diag(slopes).expand(20, 3, 3))


@pytest.mark.parametrize("degree", DEGREES)
def test_the_jacobian_is_the_derivative(degree: int) -> None:
    spline, h = Spline.of(coefficients(degree), degree), 1e-6
    axes = h * torch.eye(3, dtype=torch.float64)
    expected = torch.stack([(spline(points() + e) - spline(points() - e)) / (2 * h) for e in axes], dim=2)
    torch.testing.assert_close(spline.with_jacobian(points())[1], expected, rtol=1e-5, atol=1e-6)


def test_beyond_the_cube_the_field_goes_on_as_at_its_border() -> None:
    spline = Spline.of(coefficients(2), 2)
    border = torch.tensor([[HALF_WIDTH, 0.2, -0.1]], dtype=torch.float64)
    beyond = border + torch.tensor([[0.5, 0.0, 0.0]])
    torch.testing.assert_close(spline(beyond), spline(border))
    assert spline.with_jacobian(beyond)[1][0, :, 0].abs().max() == 0


def test_what_is_not_a_number_is_found_to_be_none() -> None:
    spline = Spline.of(coefficients(2), 2)
    nowhere = torch.tensor([[torch.nan, 0, 0], [torch.inf, 0, 0]], dtype=torch.float64)
    value = spline(nowhere)
    assert value[0].isnan().all()
    torch.testing.assert_close(value[1], spline(torch.tensor([[HALF_WIDTH, 0, 0]], dtype=torch.float64))[0])


@pytest.mark.parametrize("degree", DEGREES)
def test_a_refined_field_is_the_same_field(degree: int) -> None:
    coarse = coefficients(degree)
    fine = refined(coarse, refinement(6, degree, coarse))
    assert fine.shape == (3, *[12 + degree] * 3)
    torch.testing.assert_close(Spline.of(fine, degree)(points()), Spline.of(coarse, degree)(points()))


@pytest.mark.parametrize("degree", DEGREES)
def test_gradients_of_values_and_jacobians_against_finite_differences(degree: int) -> None:
    free, at = coefficients(degree, cells=1).requires_grad_(), points(2)

    def looked_up(c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return Spline.of(c, degree).with_jacobian(at)

    assert torch.autograd.gradcheck(looked_up, free)
    fixed = Spline.of(coefficients(degree, cells=1), degree)
    assert torch.autograd.gradcheck(lambda x: fixed(x), at.clone().requires_grad_())


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("degree", DEGREES)
def test_the_trajectorys_gradient_is_that_of_its_steps_one_by_one(degree: int, integrator: str) -> None:
    free, start = coefficients(degree).requires_grad_(), points().requires_grad_()
    weights = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    spline = Spline.of(free, degree)
    path = spline.trajectory(start, 2 / 3, 3, integrator)  # type: ignore[arg-type]
    one_by_one = flow(lambda x: spline(x), start, 3, integrator)  # type: ignore[arg-type]
    assert len(path) == 4
    torch.testing.assert_close(path[0], start)
    torch.testing.assert_close(path[-1], one_by_one)
    found = torch.autograd.grad((path[-1] * weights).sum(), [free, start], retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad((one_by_one * weights).sum(), [free, start]))


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_a_steps_jacobian_is_its_derivative(integrator: str) -> None:
    spline = Spline.of(coefficients(2), 2)
    end, jacobian = spline.step_jacobians(points(), 2 / 5, integrator)  # type: ignore[arg-type]
    expected = torch.autograd.functional.jacobian(lambda x: _step(spline, x, integrator), points(4))
    diagonal = torch.stack([expected[i, :, i] for i in range(4)])
    torch.testing.assert_close(jacobian[:4], diagonal)
    torch.testing.assert_close(end, _step(spline, points(), integrator))


def _step(spline: Spline, x: torch.Tensor, integrator: str) -> torch.Tensor:
    return spline.trajectory(x, 2 / 5, 1, integrator)[-1]  # type: ignore[arg-type]


def test_determinants_agree_with_forward_mode_of_a_linear_field() -> None:
    spline = Spline.of(linear_coefficients(2), 2)
    near = 0.1 * points()
    _, derivative = spline.step_jacobians(near, 2 / 5, "euler")
    linear = torch.tensor([1.0, 2, -1], dtype=torch.float64)
    expected = jacobian_determinants(lambda x: 0.2 * x * linear, near, steps=1)
    torch.testing.assert_close(torch.linalg.det(derivative), expected)

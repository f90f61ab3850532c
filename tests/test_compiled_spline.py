"""The flow by Numba's loops against the same in torch."""

import subprocess
import sys
from typing import Any

import pytest
import torch

import recon.processor as processor
from recon.surface.compiled import SMALLEST_PART, CompiledSpline
from recon.surface.grid import spline
from recon.surface.spline import Spline
from recon.surface.trial import check


def draw(count: int, *, degree: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients of a field, and points, of which some lie beyond it."""
    generator = torch.Generator().manual_seed(degree)
    coefficients = 0.3 * torch.randn(3, *[4 + degree] * 3, generator=generator)
    return coefficients, 0.7 * torch.randn(count, 3, generator=generator)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize(("integrator", "steps"), [("euler", 3), ("midpoint", 2), ("rk4", 2)])
def test_trajectories_and_their_gradients_are_those_of_torch(degree: int, integrator: Any, steps: int) -> None:
    coefficients, points = draw(40, degree=degree)
    weights = torch.randn(40, 3, generator=torch.Generator().manual_seed(9))
    results = []
    for kind in (Spline, CompiledSpline):
        leaves = [coefficients.clone().requires_grad_(), points.clone().requires_grad_()]
        *path, end = kind.of(leaves[0], degree).trajectory(leaves[1], 0.4, steps, integrator)
        gradients = torch.autograd.grad((end * weights).sum(), leaves)
        results.append([torch.stack(path), end.detach(), *gradients])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_jacobians_and_their_gradients_are_those_of_torch(degree: int) -> None:
    coefficients, points = draw(40, degree=degree)
    generator = torch.Generator().manual_seed(9)
    of_value, of_jacobian = torch.randn(40, 3, generator=generator), torch.randn(40, 3, 3, generator=generator)
    results = []
    for kind in (Spline, CompiledSpline):
        leaves = [coefficients.clone().requires_grad_(), points.clone().requires_grad_()]
        value, jacobian = kind.of(leaves[0], degree).with_jacobian(leaves[1])
        gradients = torch.autograd.grad((value * of_value).sum() + (jacobian * of_jacobian).sum(), leaves)
        results.append([value.detach(), jacobian.detach(), *gradients])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    coefficients, points = draw(2 * SMALLEST_PART + 1)

    def gradient(threads: int) -> tuple[torch.Tensor, torch.Tensor]:
        monkeypatch.setattr(processor, "_for_loops", threads)
        leaf = coefficients.clone().requires_grad_()
        end = CompiledSpline.of(leaf, 2).trajectory(points, 0.4, 2, "midpoint")[-1]
        return end.detach(), torch.autograd.grad(end.square().sum(), leaf)[0]

    for alone, shared in zip(gradient(1), gradient(2), strict=True):
        assert torch.equal(alone, shared)


def test_points_that_are_no_numbers_stay_so() -> None:
    points = torch.tensor([[0.0, torch.nan, 0.0], [0.1, 0.2, 0.3]])
    end = CompiledSpline.of(torch.ones(3, 6, 6, 6), 2).trajectory(points, 0.4, 1, "midpoint")[-1]
    assert end[0].isnan().any() and end[1].isfinite().all()


def test_no_points_go_nowhere() -> None:
    leaf = torch.ones(3, 6, 6, 6, requires_grad=True)
    end = CompiledSpline.of(leaf, 2).trajectory(torch.zeros(0, 3), 0.4, 1, "midpoint")[-1]
    assert end.shape == (0, 3)
    assert not torch.autograd.grad(end.sum(), leaf)[0].any()


def test_a_grid_is_looked_up_by_compiled_loops_in_single_precision() -> None:
    assert isinstance(spline(torch.zeros(3, 6, 6, 6), 2), CompiledSpline)
    assert isinstance(spline(torch.zeros(3, 6, 6, 6, dtype=torch.float64), 2), Spline)


@torch.no_grad()
def test_a_trial_has_its_own_gradients() -> None:
    """The first look at a field may be for a picture, which needs none."""
    check(torch.device("cpu"), CompiledSpline.of)


def test_a_trial_notices_a_wrong_loop() -> None:
    with pytest.raises(RuntimeError, match="is not that of torch"):
        check(torch.device("cpu"), lambda coefficients, degree: CompiledSpline.of(1.01 * coefficients, degree))


def test_torch_serves_where_numba_does_not() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import torch\n"
        "from recon.surface.grid import spline\n"
        "print(type(spline(torch.zeros(3, 6, 6, 6), 2)).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "Spline\n"
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("recon: the flow in plain torch, more slowly, as Numba does not serve here: ")

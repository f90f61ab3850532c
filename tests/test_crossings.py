import numpy as np
import pytest
import torch

from recon.config import RunConfig, load_config
from recon.geometry.self_intersection import self_intersections
from recon.model.model import Model
from recon.training.crossings import GAP, LOOKS, Crossings, crossing_loss

FLAT = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]


def pair(depth: float) -> torch.Tensor:
    """A flat triangle, and an upright one whose lowest corner lies `depth` under it."""
    upright = [[0.2, 0.2, -depth], [0.2, 0.2, 1.0], [0.3, 0.3, 1.0]]
    return torch.tensor([[FLAT, upright]], dtype=torch.float64)


def test_the_depth_is_the_way_that_parts_them() -> None:
    assert crossing_loss(pair(0.1)).item() == pytest.approx(0.1 / 1.1 + GAP, rel=1e-6)
    assert crossing_loss(pair(-0.5)).item() == 0


def test_following_the_gradient_parts_them() -> None:
    triangles = pair(0.1).requires_grad_()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(crossing_loss(triangles), triangles)
        triangles = (triangles - 0.01 * gradient).detach().requires_grad_()
    vertices = triangles.detach().reshape(-1, 3).numpy()
    assert len(self_intersections(vertices, np.arange(6).reshape(2, 3))) == 0


def test_flat_triangles_in_one_plane_are_finite() -> None:
    both = torch.tensor([[FLAT, FLAT]], requires_grad=True)
    (gradient,) = torch.autograd.grad(crossing_loss(both), both)
    assert gradient.isfinite().all()


def crumpled() -> Model:
    """A model whose mesh crosses itself: a velocity that is rough for its number of steps."""
    config = load_config(None, ["surface.cells=[4,8]", "surface.steps=2", "train.levels=[3]"])
    model = Model(config, np.eye(4), 1.0)
    torch.manual_seed(0)
    with torch.no_grad():
        for grid in model.velocity.parameters():
            grid.normal_(0, 0.5)
    return model


def crossing_pairs(model: Model) -> int:
    with torch.no_grad():
        vertices, faces, _ = model.mesh(model.export_level)
    return len(self_intersections(vertices.numpy(), faces.numpy()))


def test_the_mesh_of_a_crumpled_flow_is_parted() -> None:
    model, crossings = crumpled(), Crossings()
    before = crossing_pairs(model)
    assert before > 20
    optimizer = torch.optim.Adam(model.velocity.parameters(), lr=3e-3)
    for fraction in np.repeat(LOOKS, 25):
        crossings.look(model, float(fraction))
        optimizer.zero_grad()
        crossings.loss(model).backward()
        optimizer.step()
    assert crossing_pairs(model) < before / 4


def test_looks_are_few_and_late() -> None:
    model, crossings = crumpled(), Crossings()
    crossings.look(model, 0.5)
    assert len(crossings.pairs) == 0
    crossings.look(model, LOOKS[0])
    found = crossings.pairs
    assert len(found) > 20
    with torch.no_grad():
        for grid in model.velocity.parameters():
            grid.zero_()
    crossings.look(model, LOOKS[0] + 1e-6)
    assert crossings.looks == 1
    crossings.look(model, 1.0)
    assert crossings.looks == len(LOOKS)
    assert torch.equal(crossings.pairs, found.unique(dim=0))  # what was parted stays apart


def test_of_very_many_pairs_a_part_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.training.crossings.MOST", 20)
    model, crossings = crumpled(), Crossings()
    crossings.look(model, LOOKS[0])
    assert 10 < len(crossings.pairs) <= 20


def test_the_state_goes_on() -> None:
    model, crossings, again = crumpled(), Crossings(), Crossings()
    crossings.look(model, 1.0)
    again.load_state_dict(crossings.state_dict())
    assert torch.equal(again.loss(model), crossings.loss(model))
    assert again.looks == crossings.looks


def test_a_network_has_no_such_term_unless_asked() -> None:
    assert RunConfig().loss.crossing > 0
    assert load_config(None, ["surface.representation=mlp"]).loss.crossing == 0

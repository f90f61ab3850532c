"""Loss terms. Each is a mean, so that weights keep their meaning at any resolution."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recon.background.field import Surroundings
from recon.background.rays import Rays
from recon.background.visual_hull import ALIKE
from recon.background.volume import Passage
from recon.model.model import Model, SurfaceMesh
from recon.render.edges import mesh_edges
from recon.render.normals import face_normals
from recon.render.renderer import Rendering
from recon.surface.flow import Flow, determinant
from recon.training.data import Batch

SAFE_DETERMINANT = 0.2
"""Volume change of one step below which folding is near; usual steps keep more than half."""

EVEN = 0.75
"""Evenness of one step below which pleats are near: one direction is halved, and the others are kept."""

LARGEST_WEIGHT = 4.0
"""Of an outline pixel: what is behind it is not known to better than a few hundredths."""

FAINT = 1e-3
"""Coverage below which a pixel does not say what the surface looks like."""

LIT = 0.1
"""Radiance of surroundings at which their explanation counts half."""

WITHIN = 0.5
"""Price of opacity in the unit sphere, relative to that in front of it; more would make fog of the object."""

BEYOND = 0.05
"""Price of opacity behind or beside it."""


def loss_terms(
    model: Model,
    rendering: Rendering,
    batch: Batch,
    mesh: SurfaceMesh,
    flow: Flow,
    path: list[Float[Tensor, "v 3"]],
    generator: torch.Generator,
) -> dict[str, Float[Tensor, ""]]:
    """The terms whose weight is not zero, unweighted, by their configuration key.

    `path` is the trajectory of the mesh's vertices through the flow.
    """
    config = model.config.loss
    terms = {}
    if config.image:
        terms["image"] = image_loss(rendering.radiance, batch.images, batch.weights)
    points = sample_path(path, config.velocity_points, generator)
    if config.velocity:
        terms["velocity"] = flow.energy(config.velocity_alpha, points)
    if config.fold or config.distortion:
        derivatives = flow.step_derivatives(points)
        if config.fold:
            terms["fold"] = fold_loss(derivatives)
        if config.distortion:
            terms["distortion"] = distortion_loss(derivatives)
    if config.silhouette and batch.masks is not None:
        terms["silhouette"] = weighted_mean((rendering.coverage - batch.masks).abs(), batch.weights)
    if config.edge:
        terms["edge"] = edge_loss(mesh)
    if config.normal:
        terms["normal"] = normal_loss(mesh)
    if config.laplacian:
        terms["laplacian"] = laplacian_loss(mesh)
    return terms


def image_loss(
    prediction: Float[Tensor, "n h w 3"],
    target: Float[Tensor, "n h w 3"],
    weights: Float[Tensor, "n h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean absolute error, with pixels saturated in both left out (Cheng et al. 2022, section 3.4)."""
    saturated = (prediction >= 1) & (target >= 1)
    return weighted_mean(torch.where(saturated, 0, (prediction - target).abs()).mean(dim=3), weights)


def weighted_mean(error: Float[Tensor, "n h w"], weights: Float[Tensor, "n h w"] | None) -> Float[Tensor, ""]:
    """Mean over pixels of weights * error; the weights of windows average to one only in expectation."""
    return (error if weights is None else weights * error).mean()


def fold_loss(derivatives: Float[Tensor, "3 k 3"]) -> Float[Tensor, ""]:
    """How far steps of the flow are from keeping orientation: a mean hinge on the determinant of their derivatives
    below `SAFE_DETERMINANT`.

    With positive determinants throughout, the discrete flow is as much a diffeomorphism as the exact
    one, and its image of the sphere does not fold.
    """
    return (SAFE_DETERMINANT - determinant(*derivatives)).clamp(min=0).mean()


def distortion_loss(derivatives: Float[Tensor, "3 k 3"]) -> Float[Tensor, ""]:
    """How unevenly steps of the flow stretch: a mean hinge on det J / (|J|^2 / 3)^(3/2) below `EVEN`.

    The quotient is 1 for a similarity, whatever its scale, and falls to 0 as one direction is pressed flat (the mean
    ratio of Knupp 2001, "Algebraic mesh quality metrics", for matrices of three rows). So the surface may shrink as far
    as it likes, but has no pleats: sheets that are pressed on one another, whose triangles would cross.
    """
    evenness = determinant(*derivatives) / (derivatives.pow(2).sum((0, 2)) / 3).pow(1.5)
    return (EVEN - evenness).clamp(min=0).mean()


def sample_path(path: list[Float[Tensor, "v 3"]], count: int, generator: torch.Generator) -> Float[Tensor, "k 3"]:
    """Random points of the trajectories at random pseudo-times, without gradient to how they got there."""
    stages = path[:-1]
    where = torch.randint(len(stages) * len(stages[0]), (count,), generator=generator)
    stage, vertex = where // len(stages[0]), where % len(stages[0])
    vertex = vertex.to(stages[0].device)
    # One gather a stage, not a stack of all: the trajectory of a fine mesh is large.
    rows = [points.detach()[vertex[stage.to(vertex.device) == i]] for i, points in enumerate(stages)]
    return torch.cat(rows)


def guide_loss(coverage: Float[Tensor, "b h w"], guide: Float[Tensor, "b h w 2"]) -> Float[Tensor, ""]:
    """Mean absolute difference between the surface's coverage and what the field makes of it, times
    how sure that is; `guide` holds the two."""
    return ((coverage - guide[..., 0]).abs() * guide[..., 1]).mean()


@torch.no_grad()
def outline_weights(rendering: Rendering, around: Surroundings, pixel: Int[Tensor, " r"]) -> Float[Tensor, "b h w"]:
    """|S| / |S - B| on outline pixels, 1 to `LARGEST_WEIGHT`, and 1 elsewhere.

    With coverage a in place of a', a pixel of surface S and surroundings B has the error |S - B| |a - a'|, and before
    black |S| |a - a'|. So weighted, an outline is pulled before a wall of nearly its brightness as before black.
    `rendering` is the surface before nothing; `pixel` as in `surplus_loss`.
    """
    seen = rendering.coverage.flatten().index_select(0, pixel)
    surface = rendering.radiance.flatten(0, 2).index_select(0, pixel) / seen.clamp(min=FAINT)[:, None]
    contrast = (surface - around.behind.radiance).abs().mean(1)
    weight = (surface.mean(1) / contrast.clamp(min=1e-6)).clamp(1, LARGEST_WEIGHT)
    weight = torch.where((seen > FAINT) & (seen < 1), weight, 1)
    return torch.ones_like(rendering.coverage).flatten().index_copy(0, pixel, weight).view(rendering.coverage.shape)


def surplus_loss(
    coverage: Float[Tensor, "b h w"],
    around: Surroundings,
    pixel: Int[Tensor, " r"],
    images: Float[Tensor, "b h w 3"],
    alike: float = ALIKE,
) -> Float[Tensor, ""]:
    """Mean coverage of outline pixels that the surroundings explain without the surface.

    A membrane that is as bright as the wall behind it has no error, and so no gradient of the images'.
    `pixel` are those, as flat indices into (b, h, w), that `around` belongs to; `alike` is the difference of
    radiance at which the price has fallen to 1/e.
    """
    seen = coverage.flatten().index_select(0, pixel)
    with torch.no_grad():
        alone = around.alone
        difference = (alone - images.flatten(0, 2).index_select(0, pixel)).abs().mean(1)
        # Before black the image error alone moves outlines, and a price would eat what is dark itself.
        lit = alone.mean(1) / (alone.mean(1) + LIT)
        price = lit * torch.exp(-((difference / alike) ** 2)) * (seen < 1)
    return (price * seen).sum() / coverage.numel()


def veil_loss(rays: Rays, around: Surroundings, volume: Passage | None = None) -> Float[Tensor, ""]:
    """Mean opacity of the field: in front of the unit sphere, and less dear, in it and elsewhere.

    Where black explains black, only this clears it; and what inside and outside explain alike is
    left to the outside.
    """
    price = torch.where(rays.leave > rays.enter, 1.0, BEYOND)
    loss = (price * (1 - around.front.transmittance)).mean()
    loss = loss + BEYOND * (1 - around.behind.transmittance).mean()
    return loss if volume is None else loss + WITHIN * (1 - volume.transmittance).mean()


def spread_loss(stretches: Sequence[Passage]) -> Float[Tensor, ""]:
    """How far apart along rays the field stops light: mean sum_ij w_i w_j |s_i - s_j| + sum_i w_i^2 / 3k_i.

    `stretches` follow one another, and each counts as one unit of length. Surfaces have none of it and
    fog has much (Barron et al. 2022, mip-NeRF 360, equation 15).
    """
    weights, through = [], torch.ones_like(stretches[0].transmittance)
    for part in stretches:
        weights.append(through[:, None] * part.weights)
        through = through * part.transmittance
    weight = torch.cat(weights, dim=1)
    counts = torch.tensor([part.weights.shape[1] for part in stretches])
    width = (1 / counts).repeat_interleave(counts).to(weight)
    place = width.cumsum(0) - width / 2
    moment = weight * place
    between = weight * (place * (weight.cumsum(1) - weight) - (moment.cumsum(1) - moment))
    return (2 * between + weight**2 * width / 3).sum(1).mean()


def edge_loss(mesh: SurfaceMesh) -> Float[Tensor, ""]:
    """Mean squared deviation of edge lengths from their mean, relative to it."""
    length = _edge_vectors(mesh).norm(dim=1)
    return ((length / length.mean().detach() - 1) ** 2).mean()


def normal_loss(mesh: SurfaceMesh) -> Float[Tensor, ""]:
    """Mean of 1 - cos of the angle between the normals of adjacent faces."""
    normals = nn.functional.normalize(face_normals(mesh.vertices, mesh.faces), dim=1)
    first, second = mesh_edges(mesh.faces).faces.unbind(1)
    return (1 - (normals[first] * normals[second]).sum(-1)).mean()


def laplacian_loss(mesh: SurfaceMesh) -> Float[Tensor, ""]:
    """Mean distance of the vertices from the centroid of their neighbours."""
    edges = mesh_edges(mesh.faces).vertices
    vectors = _edge_vectors(mesh)
    total = torch.zeros_like(mesh.vertices).index_add(0, edges[:, 0], vectors)
    total = total.index_add(0, edges[:, 1], -vectors)
    degree = torch.bincount(edges.flatten(), minlength=len(mesh.vertices))
    return (total / degree[:, None]).norm(dim=1).mean()


def _edge_vectors(mesh: SurfaceMesh) -> Float[Tensor, "e 3"]:
    start, end = mesh_edges(mesh.faces).vertices.unbind(1)
    return mesh.vertices[end] - mesh.vertices[start]

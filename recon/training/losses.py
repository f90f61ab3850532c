"""Loss terms. Each is a mean, so that weights keep their meaning at any resolution."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.model.model import Model, SurfaceMesh
from recon.render.edges import mesh_edges
from recon.render.normals import face_normals
from recon.render.renderer import Rendering
from recon.surface.flow import Flow, determinant
from recon.training.data import Batch
from recon.training.draws import Draws

SAFE_DETERMINANT = 0.2
"""Volume change of one step below which folding is near; usual steps keep more than half."""

LARGEST_WEIGHT = 4.0
"""Most that a dark pixel of the object counts, relative to one of mean radiance: in what is darker there is more noise
than shading."""

LIT = 3e-3
"""Radiance of the surface below which it has no shading to follow."""

EVEN = 0.75
"""Evenness of one step below which pleats are near: one direction is halved, and the others are kept."""


def loss_terms(
    model: Model,
    rendering: Rendering,
    batch: Batch,
    mesh: SurfaceMesh,
    flow: Flow,
    path: list[Float[Tensor, "v 3"]],
    draws: Draws,
) -> dict[str, Float[Tensor, ""]]:
    """The terms whose weight is not zero, unweighted, by their configuration key.

    `path` is the trajectory of the mesh's vertices through the flow.
    """
    config = model.config.loss
    terms = {}
    if config.image:
        weights = batch.weights
        if config.relative and not model.reflectance.uniform:
            relative = relative_weights(rendering, config.relative)
            weights = relative if weights is None else relative * weights
        terms["image"] = image_loss(rendering.radiance, batch.images, weights, config.robust)
    points = sample_path(path, config.velocity_points, draws)
    if config.velocity:
        terms["velocity"] = flow.energy(config.velocity_alpha, points)
    if config.fold or config.distortion:
        derivatives = flow.step_derivatives(points)
        if config.fold:
            terms["fold"] = fold_loss(derivatives)
        if config.distortion:
            terms["distortion"] = distortion_loss(derivatives)
    if config.silhouette and batch.masks is not None:
        terms["silhouette"] = weighted_mean((rendering.alpha - batch.masks).abs(), batch.weights)
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
    robust: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean absolute error, with pixels saturated in both left out (Cheng et al. 2022, section 3.4).

    With a scale `robust` s the error e of a pixel counts as e / (1 + e / s): as it is where it is small, never more
    than s, and its gradient falls with the square. That is the function of Geman and McClure (1985, "Bayesian image
    analysis"), of the error in place of its square.
    """
    saturated = (prediction >= 1) & (target >= 1)
    error = torch.where(saturated, 0, (prediction - target).abs()).mean(dim=3)
    return weighted_mean(error / (1 + error / robust) if robust else error, weights)


@torch.no_grad()
def relative_weights(rendering: Rendering, exponent: float) -> Float[Tensor, "n h w"]:
    """(mean radiance of the surface / its radiance)^exponent, 1 to `LARGEST_WEIGHT`, and 1 where there is none.

    The shading of dark paint has as small errors as it is dark, and what keeps the flow regular would outweigh them:
    the shape would be less true there. Compare the relative loss of Mildenhall et al. 2022, "NeRF in the Dark",
    equation 4. Bright parts keep their weight.
    """
    seen = rendering.radiance if rendering.surface is None else rendering.surface
    surface = seen.mean(dim=3) / rendering.alpha.clamp(min=LIT)
    lit = (rendering.alpha > LIT) & (surface > LIT)
    mean = torch.where(lit, surface, 0).sum() / lit.sum().clamp(min=1)
    weights = (mean / surface.clamp(min=LIT)).pow(exponent).clamp(1, LARGEST_WEIGHT)
    return torch.where(lit, weights, 1)


def weighted_mean(error: Float[Tensor, "n h w"], weights: Float[Tensor, "n h w"] | None) -> Float[Tensor, ""]:
    """Mean over pixels of weights * error; the weights of crops average to one only in expectation."""
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


def sample_path(path: list[Float[Tensor, "v 3"]], count: int, draws: Draws) -> Float[Tensor, "k 3"]:
    """Random points of the trajectories at random pseudo-times, without gradient to how they got there."""
    stages = [points.detach() for points in path[:-1]]
    vertices = len(stages[0])
    where = draws.take(lambda generator: torch.randint(len(stages) * vertices, (count,), generator=generator))
    stage, vertex = where // vertices, where % vertices
    if draws.static:
        return torch.stack(stages)[stage, vertex]
    # One gather a stage, not a stack of all: the trajectory of a fine mesh is large.
    return torch.cat([points[vertex[stage == i]] for i, points in enumerate(stages)])


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

"""What can be proven of a triangle mesh: that it is closed, manifold, of which genus, and free of folds."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recon.geometry.self_intersection import self_intersections


@dataclass(frozen=True)
class Certificate:
    """Properties of a triangle mesh.

    Attributes:
        vertices, faces: their numbers; vertices that no face uses are left out.
        watertight: every edge joins exactly two faces, which run through it in opposite directions.
        edge_manifold: no edge has more than two faces.
        vertex_manifold: the faces around every vertex form one fan.
        components: pieces connected along edges.
        genus: number of handles, summed over the components, from the Euler characteristic; None
            unless the mesh is watertight and manifold, where it means nothing.
        smallest_jacobian_determinant: of the flow over the model's vertices; above 0 the flow preserves
            orientation and is locally invertible there. None where no flow is known.
        self_intersections: pairs of triangles that cross or overlap beyond what they share.
    """

    vertices: int
    faces: int
    watertight: bool
    edge_manifold: bool
    vertex_manifold: bool
    components: int
    genus: int | None
    smallest_jacobian_determinant: float | None
    self_intersections: int

    def as_dict(self) -> dict[str, int | float | bool | None]:
        return asdict(self)

    def sentence(self) -> str:
        """In words, for a terminal."""
        determinant = self.smallest_jacobian_determinant
        facts = [
            "watertight" if self.watertight else "not watertight",
            "manifold" if self.edge_manifold and self.vertex_manifold else "not manifold",
            "of unknown genus" if self.genus is None else f"genus {self.genus}",
            *([] if determinant is None else [f"smallest Jacobian determinant {determinant:.3g}"]),
            f"{self.self_intersections} self-intersecting pairs of {self.faces} triangles",
        ]
        return ", ".join(facts)


def certify(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    jacobian_determinants: Float[np.ndarray, " u"] | None = None,
) -> Certificate:
    """The certificate of a mesh; connectivity is taken as it is given, no vertices are merged.

    `jacobian_determinants` are of the flow, at the vertices of the model's own mesh.
    """
    used = np.unique(faces)
    edges, twins = _half_edges(faces)
    per_edge = np.bincount(twins)
    # Two directed copies of one edge that agree in direction cancel nothing: their signs add to 2.
    orientation = np.abs(np.bincount(twins, weights=np.where(edges[:, 0] < edges[:, 1], 1, -1)))
    watertight = bool((per_edge == 2).all() and (orientation == 0).all())
    edge_manifold = bool((per_edge <= 2).all())
    vertex_manifold = _count_fans(faces, edges, twins) == len(used)
    components = _count_components(faces, twins)
    euler = len(used) - len(per_edge) + len(faces)
    closed = watertight and edge_manifold and vertex_manifold
    return Certificate(
        vertices=len(used),
        faces=len(faces),
        watertight=watertight,
        edge_manifold=edge_manifold,
        vertex_manifold=vertex_manifold,
        components=components,
        genus=components - euler // 2 if closed else None,
        smallest_jacobian_determinant=None if jacobian_determinants is None else float(jacobian_determinants.min()),
        self_intersections=len(self_intersections(vertices, faces)),
    )


def _half_edges(faces: Int[np.ndarray, "f 3"]) -> tuple[Int[np.ndarray, "h 2"], Int[np.ndarray, " h"]]:
    """The directed edges of all faces, edge k of face f at 3 f + k, and the undirected edge of each."""
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)
    _, undirected = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    return edges, undirected.reshape(-1)


def _pairs(keys: Int[np.ndarray, " h"]) -> Int[np.ndarray, "p 2"]:
    """Pairs of positions that link all entries of equal key into a chain."""
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def _count_components(faces: Int[np.ndarray, "f 3"], twins: Int[np.ndarray, " h"]) -> int:
    links = _pairs(twins) // 3
    graph = coo_array((np.ones(len(links), dtype=bool), (links[:, 0], links[:, 1])), shape=(len(faces),) * 2)
    return int(connected_components(graph, directed=False)[0])


def _count_fans(faces: Int[np.ndarray, "f 3"], edges: Int[np.ndarray, "h 2"], twins: Int[np.ndarray, " h"]) -> int:
    """Fans over all vertices: corners of faces, joined where they share a vertex and an edge at it."""
    first, second = _pairs(twins).T
    # Corner 3 f + k is vertex k of face f, which starts half-edge 3 f + k and ends the one before.
    start = np.arange(len(edges))
    end = start - start % 3 + (start + 1) % 3
    aligned: Bool[np.ndarray, " p"] = edges[first, 0] == edges[second, 0]
    joins = np.concatenate(
        [
            np.stack([start[first], np.where(aligned, start[second], end[second])], axis=1),
            np.stack([end[first], np.where(aligned, end[second], start[second])], axis=1),
        ]
    )
    graph = coo_array((np.ones(len(joins), dtype=bool), (joins[:, 0], joins[:, 1])), shape=(faces.size,) * 2)
    return int(connected_components(graph, directed=False)[0])

"""Triangle meshes: files, primitives, and their place in the unit sphere."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import trimesh
from jaxtyping import Float
from trimesh import Trimesh

from recon.errors import ReconError
from recon.geometry.glb import source_from_gltf

SUFFIXES = (".ply", ".obj", ".stl", ".glb", ".gltf", ".off")
MERGED = 1e-9
"""Share of a mesh's extent within which vertices are one; a fixed length would depend on the unit."""
LARGEST = 1e100
"""Coordinate that still has areas and volumes."""
COARSE = 1e-2
"""Step between 32-bit coordinates, as a share of a mesh's extent, from which its shape is lost."""

Primitive = Literal["sphere", "cube", "cylinder", "capsule", "torus"]

_PRIMITIVES: dict[Primitive, Callable[[], Trimesh]] = {
    "sphere": lambda: trimesh.creation.icosphere(subdivisions=5),
    "cube": lambda: trimesh.creation.box(),
    "cylinder": lambda: trimesh.creation.cylinder(radius=0.5, height=1.5, sections=96),
    "capsule": lambda: trimesh.creation.capsule(height=1, radius=0.5, count=(48, 48)),
    "torus": lambda: trimesh.creation.torus(0.7, 0.25, major_sections=96, minor_sections=48),
}


def load_mesh(path: str | Path) -> Trimesh:
    """The triangle mesh in a file, in double precision; the parts of a file that holds several are joined.

    Equal vertices are merged, so that a closed STL, which stores every corner apart, is closed, and so is a GLB, which
    is cut where its texture is. A GLB that recon wrote is brought back to its source's axes and unit, so that it lies
    where the PLY does; one of another program has the coordinates that it holds.

    Raises:
        ReconError: no such file, an unknown or broken format, no triangles, a coordinate that is not finite,
            a triangle of vertices that are not there.
    """
    mesh = read_mesh(path)
    merge_equal(mesh)
    _warn_of_coarse_coordinates(mesh, Path(path))
    return mesh


def read_mesh(path: str | Path) -> Trimesh:
    """The mesh as it is in the file, every vertex kept; else as `load_mesh`."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ReconError(f"{path}: not a mesh file that recon reads ({', '.join(SUFFIXES)})")
    if not path.is_file():
        raise ReconError(f"{path}: no such mesh file")
    try:
        mesh = trimesh.load_mesh(path, process=False)  # processing would hide bad vertices
    except Exception as error:  # trimesh's readers raise whatever a broken file makes them stumble over
        raise ReconError(f"{path}: not a readable {path.suffix} mesh: {' '.join(str(error).split())}") from error
    if not isinstance(mesh, Trimesh) or len(mesh.faces) == 0:
        raise ReconError(f"{path}: holds no triangles")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        face = np.argwhere((mesh.faces < 0) | (mesh.faces >= len(mesh.vertices)))[0][0]
        raise ReconError(f"{path}: face {face} names a vertex that is not there: the file has {len(mesh.vertices)}")
    if not np.isfinite(mesh.vertices).all():
        vertex = np.argwhere(~np.isfinite(mesh.vertices))[0][0]
        raise ReconError(f"{path}: vertex {vertex} has a coordinate that is not finite")
    if np.abs(mesh.vertices).max() > LARGEST:
        vertex = np.argwhere(np.abs(mesh.vertices) > LARGEST)[0][0]
        raise ReconError(f"{path}: vertex {vertex} has a coordinate above {LARGEST:g}, whose square is no number")
    if path.suffix.lower() in (".glb", ".gltf"):
        mesh.vertices = np.asarray(mesh.vertices) @ source_from_gltf(path).T
    return mesh


def merge_equal(mesh: Trimesh) -> None:
    """Make equal vertices one, and drop those that no face uses, in place."""
    used = np.unique(mesh.faces)
    places = np.asarray(mesh.vertices)[used]
    lowest = places.min(axis=0)
    step = MERGED * (places - lowest).max() or 1.0
    # trimesh merges within 1e-8 of whatever unit, which makes one point of an object of micrometres in metres.
    cells = np.rint((places - lowest) / step).astype(np.int64)
    _, first, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # keeps the order of the file
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    of_vertex = np.zeros(len(mesh.vertices), dtype=np.int64)
    of_vertex[used] = rank[inverse.reshape(-1)]
    mesh.update_vertices(mask=used[first[order]], inverse=of_vertex)


def _warn_of_coarse_coordinates(mesh: Trimesh, path: Path) -> None:
    """Say where a mesh lies so far from the origin that 32-bit numbers cannot tell its vertices apart."""
    vertices = np.asarray(mesh.vertices)
    extent, farthest = float(np.ptp(vertices, axis=0).max()), np.abs(vertices).max()
    if farthest >= np.finfo(np.float32).max or (vertices.astype(np.float32) != vertices).any():
        return
    step = float(np.spacing(np.float32(farthest)))
    if step > COARSE * extent > 0:
        print(
            f"recon: warning: {path}: 32-bit coordinates up to {farthest:.6g} from the origin are {step:.2g} apart, "
            f"and the mesh is {extent:.3g} across: its shape may be lost; "
            "expected double precision, or coordinates about the origin",
            file=sys.stderr,
        )


def primitive(name: Primitive) -> Trimesh:
    """A closed primitive about the origin, of a size near 1."""
    return _PRIMITIVES[name]()


def bounding_sphere(points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, " 3"], float]:
    """Centre and radius of the smallest sphere around `points`."""
    center, _ = trimesh.nsphere.minimum_nsphere(points)
    return center, float(np.linalg.norm(points - center, axis=1).max())


def similarity(center: Float[np.ndarray, " 3"], scale: float) -> Float[np.ndarray, "4 4"]:
    """x -> scale x + center, which carries the unit sphere to the sphere of that centre and radius."""
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = center
    return matrix


def fit_to_sphere(mesh: Trimesh, radius: float) -> tuple[Trimesh, Float[np.ndarray, "4 4"]]:
    """`mesh` moved and scaled so that its smallest enclosing sphere has `radius` and lies about the
    origin, and the similarity that carries the result back to where the mesh was.

    Raises:
        ReconError: the mesh is a single point.
    """
    center, enclosing = bounding_sphere(np.asarray(mesh.vertices))
    if enclosing == 0:
        raise ReconError("the mesh has no extent: all its vertices coincide")
    fitted = mesh.copy()
    # The centre goes first: far from the origin a matrix would take the difference of two large numbers.
    fitted.vertices = (np.asarray(mesh.vertices) - center) * (radius / enclosing)
    return fitted, similarity(center, enclosing / radius)


def check_inside_unit_sphere(mesh: Trimesh, name: str) -> None:
    """Raise `ReconError`, naming `name`, where a vertex lies on or outside the unit sphere."""
    distance = np.linalg.norm(mesh.vertices, axis=1)
    if distance.max() >= 1:
        raise ReconError(
            f"{name}: the mesh leaves the unit sphere: vertex {distance.argmax()} lies "
            f"{distance.max():.4g} from the origin, expected less than 1"
        )


def check_outside_unit_sphere(mesh: Trimesh, name: str) -> None:
    """Raise `ReconError`, naming `name`, where a triangle enters the unit sphere."""
    nearest = trimesh.triangles.closest_point(mesh.triangles, np.zeros((len(mesh.faces), 3)))
    distance = np.linalg.norm(nearest, axis=1)
    if distance.min() <= 1:
        raise ReconError(
            f"{name}: the mesh enters the unit sphere: face {distance.argmin()} comes within "
            f"{distance.min():.4g} of the origin, expected more than 1"
        )

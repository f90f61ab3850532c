"""Triangle meshes: files, primitives, and their place in the unit sphere."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import trimesh
from jaxtyping import Float
from trimesh import Trimesh

from recon.errors import ReconError

SUFFIXES = (".ply", ".obj", ".stl", ".glb", ".gltf", ".off")
Primitive = Literal["sphere", "cube", "cylinder", "capsule", "torus"]

_PRIMITIVES: dict[Primitive, Callable[[], Trimesh]] = {
    "sphere": lambda: trimesh.creation.icosphere(subdivisions=5),
    "cube": lambda: trimesh.creation.box(),
    "cylinder": lambda: trimesh.creation.cylinder(radius=0.5, height=1.5, sections=96),
    "capsule": lambda: trimesh.creation.capsule(height=1, radius=0.5, count=(48, 48)),
    "torus": lambda: trimesh.creation.torus(0.7, 0.25, major_sections=96, minor_sections=48),
}


def load_mesh(path: str | Path) -> Trimesh:
    """The triangle mesh in a file; the parts of a file that holds several are joined.

    Equal vertices are merged, so that a closed STL, which stores every corner apart, is closed.

    Raises:
        ReconError: no such file, an unknown or broken format, no triangles, a coordinate that is not finite.
    """
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
    if not np.isfinite(mesh.vertices).all():
        vertex = np.argwhere(~np.isfinite(mesh.vertices))[0][0]
        raise ReconError(f"{path}: vertex {vertex} has a coordinate that is not finite")
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    return mesh


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
    source_from_unit = similarity(center, enclosing / radius)
    fitted = mesh.copy()
    fitted.apply_transform(np.linalg.inv(source_from_unit))
    return fitted, source_from_unit


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

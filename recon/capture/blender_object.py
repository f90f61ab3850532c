"""Which meshes of a foreign scene are the object, and where the unit sphere around it lies."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from trimesh import Trimesh

from recon.capture.normalise import nearest_point
from recon.errors import ReconError
from recon.geometry.meshes import bounding_sphere, check_outside_unit_sphere, similarity

FILL = 0.9
"""Radius in the unit sphere of an object that does not lie in it already."""


def place_object(
    meshes: list[Trimesh],
    names: list[str],
    collections: list[list[str]],
    camera_to_world: Float[np.ndarray, "n 4 4"],
    name: str | None,
    path: Path,
) -> tuple[Bool[np.ndarray, " m"], Float[np.ndarray, "4 4"]]:
    """Which of the meshes are the object, and `world_from_unit`.

    A scene that keeps to our convention is left as it is: the cameras look into the unit sphere at the
    origin, meshes inside it are the object, and all others lie outside. In any other the object is the
    smallest mesh whose bounding box holds the point where the optical axes meet, or else the mesh
    nearest to it; the unit sphere is its enclosing sphere, widened by 1 / FILL, and other meshes within
    belong to the object.

    Args:
        name: an object, or a collection of objects: then these are the object.

    Raises:
        ReconError: nothing is called `name`, or another mesh reaches into the unit sphere.
    """
    if name is not None:
        chosen = np.array([name == own or name in inside for own, inside in zip(names, collections, strict=True)])
        if not chosen.any():
            known = dict.fromkeys([*names, *(c for inside in collections for c in inside)])
            raise ReconError(f"{path}: no mesh or collection is called '{name}'; there are: {', '.join(known)}")
    else:
        chosen = _inside(meshes, np.eye(4))
    focus = nearest_point(camera_to_world[:, :3, 3], camera_to_world[:, :3, 2])
    frame = np.eye(4)
    kept = chosen.any() and _inside(meshes, frame)[chosen].all() and _entering(meshes, chosen, frame) is None
    if not kept or (name is None and np.linalg.norm(focus) >= 1):
        if name is None:
            chosen = _looked_at(meshes, focus)
        center, radius = bounding_sphere(np.concatenate([meshes[i].vertices for i in np.flatnonzero(chosen)]))
        if radius == 0:
            raise ReconError(f"{path}: '{names[chosen.argmax()]}' has no extent: all its vertices coincide")
        frame = similarity(center, radius / FILL)
        if name is None:
            chosen |= _inside(meshes, frame)
    other = _entering(meshes, chosen, frame)
    if other is not None:
        first = names[chosen.argmax()]
        raise ReconError(
            f"{path}: '{names[other]}' enters the unit sphere around the object '{first}': hide it from renders, "
            "move it away, or say with --object which object or collection is to be reconstructed"
        )
    return chosen, frame


def _in_unit_frame(mesh: Trimesh, world_from_unit: Float[np.ndarray, "4 4"]) -> Trimesh:
    return mesh.copy().apply_transform(np.linalg.inv(world_from_unit))


def _inside(meshes: list[Trimesh], world_from_unit: Float[np.ndarray, "4 4"]) -> Bool[np.ndarray, " m"]:
    placed = [_in_unit_frame(mesh, world_from_unit) for mesh in meshes]
    return np.array([np.linalg.norm(mesh.vertices, axis=1).max() < 1 for mesh in placed])


def _entering(
    meshes: list[Trimesh], chosen: Bool[np.ndarray, " m"], world_from_unit: Float[np.ndarray, "4 4"]
) -> int | None:
    """The first mesh that is not chosen but reaches into the unit sphere."""
    for i in np.flatnonzero(~chosen):
        try:
            check_outside_unit_sphere(_in_unit_frame(meshes[i], world_from_unit), "")
        except ReconError:
            return int(i)
    return None


def _looked_at(meshes: list[Trimesh], focus: Float[np.ndarray, " 3"]) -> Bool[np.ndarray, " m"]:
    low, high = (np.array([mesh.bounds[k] for mesh in meshes]) for k in (0, 1))
    away = np.linalg.norm(np.maximum(0, np.maximum(low - focus, focus - high)), axis=1)
    size = np.linalg.norm(high - low, axis=1)
    return np.arange(len(meshes)) == np.lexsort((size, away))[0]

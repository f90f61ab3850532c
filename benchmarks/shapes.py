"""Closed shapes of genus 0, each hard for a surface in its own way, made by formulas."""

from collections.abc import Callable

import numpy as np
import trimesh
from trimesh import Trimesh


def star(level: int = 5) -> Trimesh:
    """A ball with six spikes, from the icosphere of a level."""
    ball = trimesh.creation.icosphere(subdivisions=level)
    spikes = np.array([[1, 0.2, 0.1], [-1, 0.1, -0.2], [0.1, 1, 0.2], [-0.2, -1, 0.1], [0.2, 0.1, 1], [0, -0.2, -1]])
    spikes /= np.linalg.norm(spikes, axis=1, keepdims=True)
    radius = 0.38 + 0.6 * np.exp(-14 * (1 - ball.vertices @ spikes.T)).sum(axis=1)
    return Trimesh(ball.vertices * radius[:, None], ball.faces, process=False)


def cup() -> Trimesh:
    """A goblet, hollow to below its middle: most of its inside is seen from above alone."""
    angle = np.linspace(0, np.pi, 12)
    rim = np.stack([0.5 + 0.06 * np.cos(angle), 0.6 + 0.06 * np.sin(angle)], axis=1)
    outside = [[0, -0.6], [0.36, -0.6], [0.40, -0.56], [0.42, -0.3], [0.48, 0.1]]
    inside = [[0.38, 0.0], [0.33, -0.25], [0.27, -0.36], [0.15, -0.42], [0, -0.44]]
    corners = np.concatenate([outside, rim, inside])
    length = np.concatenate([[0], np.linalg.norm(np.diff(corners, axis=0), axis=1).cumsum()])
    even = np.union1d(length, np.arange(0, length[-1], 0.03))
    profile = np.stack([np.interp(even, length, axis) for axis in corners.T], axis=1)
    mesh = trimesh.creation.revolve(profile, sections=96)
    mesh.merge_vertices()
    mesh.apply_transform(trimesh.transformations.rotation_matrix(0.45, [0, 1, 0]))
    return mesh


def bracket() -> Trimesh:
    """An L of two bars: flat faces, sharp edges, and a corner that points inward."""
    outline = np.array([[0, 0], [1.4, 0], [1.4, 0.45], [0.45, 0.45], [0.45, 1.2], [0, 1.2]])
    low, high = (np.column_stack([outline, np.full(6, z)]) for z in (0.0, 0.6))
    fan = np.array([[0, i, i + 1] for i in range(1, 5)])
    i = np.arange(6)
    j = (i + 1) % 6
    sides = np.concatenate([np.stack([i, j, j + 6], axis=1), np.stack([i, j + 6, i + 6], axis=1)])
    mesh = Trimesh(np.concatenate([low, high]), np.concatenate([fan[:, ::-1], fan + 6, sides]))
    for _ in range(4):
        mesh = mesh.subdivide()
    mesh.apply_transform(trimesh.transformations.euler_matrix(0.5, 0.3, 0.4))
    return mesh


def hook() -> Trimesh:
    """A rod bent by 250 degrees: its ends look at each other."""
    ball = trimesh.creation.icosphere(subdivisions=5)
    along = ball.vertices[:, 0]
    across = ball.vertices[:, 1:] / np.maximum(np.linalg.norm(ball.vertices[:, 1:], axis=1, keepdims=True), 1e-9)
    thickness = 0.24 * np.sqrt(np.maximum(0, 1 - np.abs(along) ** 6))
    angle, radius = np.radians(125) * along, 0.6 + thickness * across[:, 0]
    bent = np.stack([radius * np.cos(angle), radius * np.sin(angle), thickness * across[:, 1]], axis=1)
    mesh = Trimesh(bent, ball.faces[:, ::-1], process=False)
    mesh.apply_transform(trimesh.transformations.euler_matrix(0.6, 0.4, 2.2))
    return mesh


SHAPES: dict[str, Callable[[], Trimesh]] = {"star": star, "cup": cup, "bracket": bracket, "hook": hook}

"""The Stanford bunny, from the scan that the pymeshfix wheel carries.

This is the only module that imports pymeshfix, which is GPL: nothing but the scenes `bunny` and
`bunny_head` needs it. Scan: Stanford Computer Graphics Laboratory, The Stanford 3D Scanning Repository.
"""

from functools import cache
from pathlib import Path

import numpy as np
import trimesh
from trimesh import Trimesh

from recon.errors import ReconError

GAZE = np.radians(238.0)
"""Azimuth to which the scanned face is turned; z is up in this copy of the scan."""

NECK = np.array([-12.0, 0.0, 27.8])
"""A point on the plane that separates head and ears from back and breast, in the scan's frame (cm / 3)."""

NECK_NORMAL = np.array([-0.539, -0.196, 0.819])
"""Leans over the back, so that the ears, which reach behind the neck, stay whole."""


def bunny() -> Trimesh:
    """The whole bunny, closed and of genus 0 (50,879 vertices), z up, face towards +x; scan's size.

    Raises:
        ReconError: pymeshfix is not installed, or its wheel carries no scan.
    """
    return _facing_x(_repaired_scan())


def bunny_head() -> Trimesh:
    """Head and ears, cut above the neck and closed, of genus 0, z up, face towards +x; scan's size."""
    scan = _repaired_scan()
    vertices, faces, _ = trimesh.intersections.slice_faces_plane(scan.vertices, scan.faces, NECK_NORMAL, NECK)
    # Trimesh merges the doubled vertices along the cut, without which every cut edge were a hole.
    return _facing_x(_repair(Trimesh(vertices, faces)))


@cache
def _repaired_scan() -> Trimesh:
    try:
        import pymeshfix
    except ImportError:
        raise ReconError("the bunny needs pymeshfix: pip install -e '.[scene]' in recon's checkout") from None
    path = Path(pymeshfix.__file__).parent / "examples" / "StanfordBunny.ply"
    if not path.is_file():
        raise ReconError(
            f"{path}: this release of pymeshfix carries no bunny: pip install -U -e '.[scene]' in recon's checkout"
        )
    return _repair(trimesh.load_mesh(path, process=False))


def _repair(mesh: Trimesh) -> Trimesh:
    from pymeshfix import MeshFix

    fix = MeshFix(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    fix.repair()
    return Trimesh(fix.points, fix.faces, process=False)


def _facing_x(mesh: Trimesh) -> Trimesh:
    turned = mesh.copy()
    turned.apply_transform(trimesh.transformations.rotation_matrix(-GAZE, [0, 0, 1]))
    return turned

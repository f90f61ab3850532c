"""Meshes from files and primitives, their place in the unit sphere, and the bunny."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import trimesh

from recon.capture.bunny import bunny, bunny_head
from recon.errors import ReconError
from recon.geometry.meshes import (
    Primitive,
    bounding_sphere,
    check_inside_unit_sphere,
    check_outside_unit_sphere,
    fit_to_sphere,
    load_mesh,
    primitive,
)


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "glb", "off"])
def test_every_format_comes_back_closed(tmp_path: Path, suffix: str) -> None:
    box = trimesh.creation.box(extents=(1, 2, 3))
    box.export(tmp_path / f"box.{suffix}")
    mesh = load_mesh(tmp_path / f"box.{suffix}")
    assert mesh.is_watertight
    assert np.isclose(mesh.volume, 6)


def test_parts_of_a_file_are_joined(tmp_path: Path) -> None:
    parts = [trimesh.creation.box(), trimesh.creation.box().apply_translation([5, 0, 0])]
    trimesh.Scene(parts).export(tmp_path / "two.glb")
    assert np.isclose(load_mesh(tmp_path / "two.glb").volume, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ply", None, "no such mesh file"),
        ("a.xyz", b"0 0 0", "not a mesh file that recon reads"),
        ("a.ply", b"nonsense", r"not a readable \.ply mesh"),
        ("a.glb", b"glTF", r"not a readable \.glb mesh"),
        ("a.obj", b"v 0 0 0\n", "holds no triangles|not a readable"),
        ("a.obj", b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ReconError, match=message) as caught:
        load_mesh(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("name", get_args(Primitive))
def test_primitives_are_closed_and_outward(name: Primitive) -> None:
    mesh = primitive(name)
    assert mesh.is_watertight and mesh.volume > 0
    assert mesh.euler_number == (0 if name == "torus" else 2)


def test_fit_touches_the_sphere_from_within_and_can_be_undone() -> None:
    box = trimesh.creation.box(extents=(1, 2, 3)).apply_translation([10, 20, 30])
    fitted, source_from_unit = fit_to_sphere(box, 0.95)
    assert np.isclose(np.linalg.norm(fitted.vertices, axis=1).max(), 0.95)
    assert np.allclose(trimesh.transform_points(fitted.vertices, source_from_unit), box.vertices)
    assert np.allclose(bounding_sphere(fitted.vertices)[0], 0, atol=1e-9)


def test_inside_and_outside_of_the_unit_sphere() -> None:
    ball = trimesh.creation.icosphere(radius=0.99)
    check_inside_unit_sphere(ball, "ball")
    with pytest.raises(ReconError, match="big: the mesh leaves the unit sphere: vertex .* 1.01"):
        check_inside_unit_sphere(trimesh.creation.icosphere(radius=1.01), "big")
    # All corners of the slab lie outside, its face cuts the sphere.
    slab = trimesh.creation.box(extents=(1, 9, 9)).apply_translation([1.4, 0, 0])
    with pytest.raises(ReconError, match="slab: the mesh enters the unit sphere: face .* 0.9"):
        check_outside_unit_sphere(slab, "slab")
    check_outside_unit_sphere(slab.apply_translation([0.2, 0, 0]), "slab")


def test_the_bunny_is_closed_of_genus_0_and_upright() -> None:
    mesh = bunny()
    assert len(mesh.vertices) == 50_879
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.euler_number == 2 and mesh.volume > 0
    low, high = mesh.bounds
    ears = mesh.vertices[mesh.vertices[:, 2] > high[2] - 0.1 * (high[2] - low[2])]
    assert len(ears) < 0.05 * len(mesh.vertices)  # the top is the ears' tips, the bottom the broad base


def test_the_head_is_closed_of_genus_0_and_smaller() -> None:
    head = bunny_head()
    assert head.is_watertight and head.is_winding_consistent and head.euler_number == 2
    assert 0 < head.volume < 0.25 * bunny().volume

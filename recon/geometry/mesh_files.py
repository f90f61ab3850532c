"""Triangle meshes as files: PLY and OBJ, with all digits of the source's coordinates.

trimesh writes the vertices of a PLY in 32 bits, and of an OBJ with eight decimals: far from the origin the first
flattens a shape to a sheet, and the second one of micrometres.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8


def ply_bytes(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], colors: UInt8[np.ndarray, "v 3"]
) -> bytes:
    """A binary PLY: coordinates as doubles, `colors` in sRGB as every reader of PLY expects them."""
    vertex = np.zeros(len(vertices), dtype=[("place", "<f8", 3), ("color", "<u1", 4)])
    vertex["place"] = vertices
    vertex["color"] = 255
    vertex["color"][:, :3] = colors
    face = np.zeros(len(faces), dtype=[("count", "<u1"), ("index", "<i4", 3)])
    face["count"] = 3
    face["index"] = faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment recon: coordinates of the source, in double precision",
        f"element vertex {len(vertex)}",
        *(f"property double {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue", "alpha")),
        f"element face {len(face)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return "\n".join([*header, ""]).encode() + vertex.tobytes() + face.tobytes()


@dataclass(frozen=True)
class ObjMaterial:
    """What an MTL file says: the linear base colour, GGX's roughness (alpha is its square), the lobe's F0, and the
    names of picture files beside it, which stand in place of these where there are any."""

    base_color: tuple[float, float, float]
    roughness: float
    f0: float
    base_color_file: str | None = None
    roughness_file: str | None = None
    normal_file: str | None = None


def obj_bytes(
    vertices: Float[np.ndarray, "u 3"],
    normals: Float[np.ndarray, "u 3"],
    coordinates: Float[np.ndarray, "w 2"],
    faces: Int[np.ndarray, "f 3"],
    on_texture: Int[np.ndarray, "f 3"],
    mtl: str,
) -> bytes:
    """An OBJ whose vertices are written with the 17 digits that a double has.

    Args:
        coordinates: on textures, from their upper left corner; OBJ counts from the lower one.
        faces: of vertices and normals. on_texture: the same faces, of coordinates.
        mtl: name of the file with the material, beside it.
    """
    upwards = coordinates * (1, -1) + (0, 1)
    corners = np.stack([faces, on_texture, faces], axis=-1) + 1
    return b"".join(
        [
            f"# recon: coordinates of the source\nmtllib {mtl}\nusemtl {MATERIAL}\n".encode(),
            _lines("v %.17g %.17g %.17g\n", vertices),
            _lines("vt %.7g %.7g\n", upwards),
            _lines("vn %.6g %.6g %.6g\n", normals),
            _lines("f %d/%d/%d %d/%d/%d %d/%d/%d\n", corners.reshape(-1, 9)),
        ]
    )


MATERIAL = "recon"
"""Name of the material in MTL files."""


def mtl_bytes(material: ObjMaterial) -> bytes:
    """The material, with the usual extension for physically based rendering (Pr, Pm, map_Pr, norm).

    A map is multiplied with the value beside it. Readers without the extension have Phong's: an exponent of
    2 / alpha^2 - 2 has a highlight as wide (Walter et al. 2007).
    """
    alpha2 = material.roughness**4
    lines = [
        f"newmtl {MATERIAL}",
        "Kd {:.6g} {:.6g} {:.6g}".format(*(material.base_color if material.base_color_file is None else (1, 1, 1))),
        f"Ks {material.f0:.6g} {material.f0:.6g} {material.f0:.6g}",
        f"Ns {min(max(2 / alpha2 - 2, 0), 1000):.6g}",
        f"illum {2 if material.f0 else 1}",
        f"Pr {material.roughness if material.roughness_file is None else 1:.6g}",
        "Pm 0",
    ]
    maps = {
        "map_Kd": material.base_color_file,
        "map_Pr": material.roughness_file,
        "norm": material.normal_file,
    }
    lines += [f"{key} {file}" for key, file in maps.items() if file is not None]
    return "\n".join([*lines, ""]).encode()


def _lines(form: str, rows: np.ndarray) -> bytes:
    """A line for each row."""
    return (form * len(rows) % tuple(rows.reshape(-1).tolist())).encode()

"""Triangle meshes as files: PLY in double precision, GLB as glTF 2.0 has it, and what of either is ours.

trimesh writes the vertices of both in 32 bits, and of a GLB the colours in bytes: far from the origin the
first flattens a shape to a sheet, and the second bands in the dark.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

GLTF_FROM_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Turns z up into glTF's y up: (x, y, z) -> (x, z, -y)."""

_MAGIC, _JSON, _BINARY = b"glTF", b"JSON", b"BIN\0"
_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963


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


def glb_bytes(
    vertices: Float32[np.ndarray, "v 3"],
    normals: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    linear: Float[np.ndarray, "v 3"],
    source_from_local: Float[np.ndarray, "4 4"],
    y_up: bool,
) -> bytes:
    """A GLB of one node, whose matrix carries the vertices to the source's frame: JSON has doubles, buffers have not.

    Args:
        vertices, normals: in a frame about the object, where 32 bits suffice; normals of length 1.
        linear: colour in [0, 1], as glTF defines COLOR_0; kept in 16 bits.
        source_from_local: a similarity.
        y_up: turn the source's z to glTF's y, and say so in the file, so that `source_is_turned` knows.
    """
    # A vertex whose triangles have no area has no normal, and glTF wants one of length 1.
    normals = np.where(np.linalg.norm(normals, axis=1, keepdims=True) > 0.5, normals, (0, 0, 1))
    color = np.full((len(vertices), 4), 65535, dtype="<u2")  # four, for an element has to fill 32-bit words
    color[:, :3] = np.rint(linear * 65535)
    parts: list[tuple[np.ndarray, dict[str, Any]]] = [
        (
            vertices.astype("<f4"),
            {
                "componentType": _FLOAT,
                "type": "VEC3",
                "min": vertices.min(axis=0).tolist(),
                "max": vertices.max(axis=0).tolist(),
            },
        ),
        (normals.astype("<f4"), {"componentType": _FLOAT, "type": "VEC3"}),
        (color, {"componentType": _USHORT, "type": "VEC4", "normalized": True}),
        (faces.astype("<u4").reshape(-1, 1), {"componentType": _UINT, "type": "SCALAR"}),
    ]
    sizes = [array.nbytes for array, _ in parts]
    targets = [_VERTEX_BUFFER] * 3 + [_INDEX_BUFFER]
    matrix = GLTF_FROM_Z_UP @ source_from_local if y_up else source_from_local
    tree = {
        "asset": {"version": "2.0", "generator": "recon", "extras": {"recon": {"source_up": "z" if y_up else None}}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        # By columns. A matrix of doubles: a shape of centimetres stays one at millions of metres.
        "nodes": [{"name": "recon", "mesh": 0, "matrix": matrix.T.reshape(-1).tolist()}],
        "meshes": [
            {
                "name": "recon",
                "primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0}],
            }
        ],
        # Without a material glTF's metallic factor is 1, and the object a mirror.
        "materials": [
            {
                "name": "albedo",
                "pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1},
                "doubleSided": False,
            }
        ],
        "buffers": [{"byteLength": sum(sizes)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": sum(sizes[:i]), "byteLength": size, "target": target}
            for i, (size, target) in enumerate(zip(sizes, targets, strict=True))
        ],
        "accessors": [{"bufferView": i, "count": len(array), **accessor} for i, (array, accessor) in enumerate(parts)],
    }
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode()
    chunks = [(_JSON, text + b" " * (-len(text) % 4)), (_BINARY, b"".join(array.tobytes() for array, _ in parts))]
    body = b"".join(struct.pack("<I4s", len(content), kind) + content for kind, content in chunks)
    return struct.pack("<4sII", _MAGIC, 2, 12 + len(body)) + body


def source_is_turned(path: Path) -> bool:
    """Whether the GLB or glTF file is one of ours whose source's z was turned to y; False where it is anything else."""
    try:
        asset = _gltf_tree(path).get("asset")
        return asset["extras"]["recon"]["source_up"] == "z"  # type: ignore[index]
    except (KeyError, TypeError, ValueError, AttributeError, struct.error):
        return False


def _gltf_tree(path: Path) -> dict[str, Any]:
    """The JSON of a GLB or glTF file."""
    with open(path, "rb") as file:
        start = file.read(12)
        if start[:4] != _MAGIC:
            return json.loads(start + file.read())
        length, kind = struct.unpack("<I4s", file.read(8))
        return json.loads(file.read(length)) if kind == _JSON else {}

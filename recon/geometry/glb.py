"""GLB files: a mesh with its material as glTF 2.0 has it, and what of one is ours.

trimesh writes no tangents and no extensions of materials, and rounds a node's place to 32 bits.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, Int64

GLTF_FROM_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Turns z up into glTF's y up: (x, y, z) -> (x, z, -y)."""

DIELECTRIC_F0 = 0.04
"""Of a dielectric at normal incidence, in glTF: KHR_materials_specular counts in units of it."""

_MAGIC, _JSON, _BINARY = b"glTF", b"JSON", b"BIN\0"
_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_LINEAR, _TRILINEAR, _CLAMPED = 9729, 9987, 33071
_ONE_BUT_LAST = 65534
"""Index up to which 16 bits serve: the last may restart a primitive."""


@dataclass(frozen=True, eq=False)
class GltfMesh:
    """Triangles about the object, where 32 bits suffice.

    Attributes:
        normals: of length 1. tangents: of length 1, unmirrored (w = 1); None where there is no normal map.
        coordinates: on the textures, from their upper left corner.
    """

    vertices: Float32[np.ndarray, "v 3"]
    normals: Float32[np.ndarray, "v 3"]
    tangents: Float32[np.ndarray, "v 3"] | None
    coordinates: Float[np.ndarray, "v 2"]
    faces: Int64[np.ndarray, "f 3"]


@dataclass(frozen=True, eq=False)
class GltfMaterial:
    """A dielectric. Textures are PNG files.

    Attributes:
        base_color: sRGB texture or linear factor. roughness: texture (of which green counts) or factor.
        f0: largest reflectance at normal incidence; 0: a matt surface.
        specular: texture of F0 relative to that, of which alpha counts.
    """

    base_color: bytes | tuple[float, float, float]
    roughness: bytes | float = 1.0
    f0: float = 0.0
    specular: bytes | None = None
    normal_map: bytes | None = None


def glb_bytes(
    mesh: GltfMesh,
    material: GltfMaterial,
    source_from_local: Float[np.ndarray, "4 4"],
    y_up: bool,
    metres: float = 1.0,
) -> bytes:
    """A GLB of one node, whose matrix carries the vertices to the source's frame: JSON has doubles, buffers have not.

    Args:
        source_from_local: a similarity.
        y_up: turn the source's z to glTF's y.
        metres: a unit of the source, as glTF's unit is the metre.

    The file says both, so that `source_from_gltf` knows.
    """
    file = _File()
    primitive = {"attributes": _attributes(file, mesh), "indices": _indices(file, mesh.faces), "material": 0}
    described = _material(file, material)
    matrix = (GLTF_FROM_Z_UP if y_up else np.eye(4)) @ np.diag([metres, metres, metres, 1]) @ source_from_local
    tree = {
        "asset": {
            "version": "2.0",
            "generator": "recon",
            "extras": {"recon": {"source_up": "z" if y_up else None, "metres": metres}},
        },
        "extensionsUsed": ["KHR_materials_specular"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        # By columns. A matrix of doubles: a shape of centimetres stays one at millions of metres.
        "nodes": [{"name": "recon", "mesh": 0, "matrix": matrix.T.reshape(-1).tolist()}],
        "meshes": [{"name": "recon", "primitives": [primitive]}],
        "materials": [described],
        **file.tree(),
    }
    return _chunks(tree, file.content)


class _File:
    """Parts of the binary chunk, each with what JSON says of it."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._views: list[dict[str, int]] = []
        self._accessors: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []

    def accessor(self, array: np.ndarray, target: int, **about: Any) -> int:
        """Add numbers; returns the index of their accessor."""
        self._accessors.append({"bufferView": self._view(array.tobytes(), target=target), "count": len(array), **about})
        return len(self._accessors) - 1

    def texture(self, name: str, png: bytes) -> dict[str, int]:
        """Add a picture; returns a reference to its texture."""
        self._images.append({"name": name, "mimeType": "image/png", "bufferView": self._view(png)})
        return {"index": len(self._images) - 1}

    def tree(self) -> dict[str, Any]:
        """What JSON says of all parts."""
        found = {
            "buffers": [{"byteLength": len(self.content)}],
            "bufferViews": self._views,
            "accessors": self._accessors,
        }
        if not self._images:
            return found
        return found | {
            "images": self._images,
            "samplers": [{"magFilter": _LINEAR, "minFilter": _TRILINEAR, "wrapS": _CLAMPED, "wrapT": _CLAMPED}],
            "textures": [{"source": i, "sampler": 0} for i in range(len(self._images))],
        }

    def _view(self, data: bytes, **about: int) -> int:
        self._views.append({"buffer": 0, "byteOffset": len(self.content), "byteLength": len(data), **about})
        self.content += data + b"\0" * (-len(data) % 4)
        return len(self._views) - 1


def _attributes(file: _File, mesh: GltfMesh) -> dict[str, int]:
    def vectors(array: np.ndarray, kind: str, **about: Any) -> int:
        return file.accessor(array.astype("<f4"), _VERTEX_BUFFER, componentType=_FLOAT, type=kind, **about)

    lowest, highest = (bound(mesh.vertices, axis=0).tolist() for bound in (np.min, np.max))
    found = {
        "POSITION": vectors(mesh.vertices, "VEC3", min=lowest, max=highest),
        "NORMAL": vectors(mesh.normals, "VEC3"),
        "TEXCOORD_0": vectors(mesh.coordinates, "VEC2"),
    }
    if mesh.tangents is not None:
        unmirrored = np.concatenate([mesh.tangents, np.ones((len(mesh.tangents), 1))], axis=1)
        found["TANGENT"] = vectors(unmirrored, "VEC4")
    return found


def _indices(file: _File, faces: Int[np.ndarray, "f 3"]) -> int:
    small = faces.max() <= _ONE_BUT_LAST
    array = faces.astype("<u2" if small else "<u4").reshape(-1, 1)
    return file.accessor(array, _INDEX_BUFFER, componentType=_USHORT if small else _UINT, type="SCALAR")


def _material(file: _File, material: GltfMaterial) -> dict[str, Any]:
    # Without a material, or with its defaults, glTF's metallic factor is 1, and the object a mirror.
    surface: dict[str, Any] = {"metallicFactor": 0}
    if isinstance(material.base_color, bytes):
        surface["baseColorTexture"] = file.texture("base color", material.base_color)
    else:
        surface["baseColorFactor"] = [*material.base_color, 1]
    if isinstance(material.roughness, bytes):
        surface["metallicRoughnessTexture"] = file.texture("roughness", material.roughness)
    else:
        surface["roughnessFactor"] = material.roughness
    found = {"name": "recon", "pbrMetallicRoughness": surface, "doubleSided": False}
    if material.normal_map is not None:
        found["normalTexture"] = file.texture("normals", material.normal_map)
    return found | {"extensions": {"KHR_materials_specular": _specular(file, material)}}


def _specular(file: _File, material: GltfMaterial) -> dict[str, Any]:
    if material.f0 == 0:
        return {"specularFactor": 0}  # else every dielectric shines
    found: dict[str, Any] = {"specularColorFactor": 3 * [material.f0 / DIELECTRIC_F0]}
    if material.specular is not None:
        # The weight of the lobe rather than its colour: where there is none, grazing light is not reflected either.
        found["specularTexture"] = file.texture("specular", material.specular)
    return found


def _chunks(tree: dict[str, Any], binary: bytes | bytearray) -> bytes:
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode()
    parts = [(_JSON, text + b" " * (-len(text) % 4)), (_BINARY, bytes(binary))]
    body = b"".join(struct.pack("<I4s", len(content), kind) + content for kind, content in parts)
    return struct.pack("<4sII", _MAGIC, 2, 12 + len(body)) + body


def source_from_gltf(path: Path) -> Float[np.ndarray, "3 3"]:
    """What carries the coordinates of a GLB or glTF file to its source's axes and unit; of a file that is not ours,
    nothing is known, and it is the identity."""
    try:
        about = _gltf_tree(path)["asset"]["extras"]["recon"]
        metres = float(about.get("metres", 1.0))
        turned = about["source_up"] == "z"
    except (KeyError, TypeError, ValueError, AttributeError, struct.error):
        return np.eye(3)
    if not (np.isfinite(metres) and metres > 0):
        return np.eye(3)
    return (GLTF_FROM_Z_UP[:3, :3].T if turned else np.eye(3)) / metres


def _gltf_tree(path: Path) -> dict[str, Any]:
    """The JSON of a GLB or glTF file."""
    with open(path, "rb") as file:
        start = file.read(12)
        if start[:4] != _MAGIC:
            return json.loads(start + file.read())
        length, kind = struct.unpack("<I4s", file.read(8))
        return json.loads(file.read(length)) if kind == _JSON else {}

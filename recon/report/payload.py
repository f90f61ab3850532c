"""Arrays and pictures as text inside a page: quantised, compressed, and each content once."""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int


class Payload:
    """The binary parts of a page, base64 by a key made of their content; equal ones are kept once."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}

    def picture(self, encoded: bytes) -> str:
        """Keep an encoded picture; returns its key."""
        return self._add(encoded)

    def file(self, content: bytes) -> str:
        """Keep a file as it is; returns its key."""
        return self._add(content)

    def indices(self, values: Int[np.ndarray, "*shape"]) -> dict[str, Any]:
        """Keep indices exactly."""
        small = values.max(initial=0) < 2**16
        return self._array(values.astype(np.uint16 if small else np.uint32))

    def quantised(self, values: Float[np.ndarray, "*shape"], bits: int = 16) -> dict[str, Any]:
        """Keep values as integers between their least and their largest: error at most half a step."""
        low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
        levels = 2**bits - 1
        steps = np.rint((values.astype(np.float64) - low) / max(high - low, np.finfo(float).tiny) * levels)
        return self._array(steps.astype(np.uint16 if bits > 8 else np.uint8)) | {"low": low, "high": high}

    def mesh(
        self, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], **values: Float[np.ndarray, " v"]
    ) -> dict[str, Any]:
        """Keep a mesh with values at its vertices."""
        return {
            "vertices": self.quantised(vertices),
            "faces": self.indices(faces),
            "values": {name: self.quantised(each, bits=8) for name, each in values.items()},
        }

    def _array(self, array: np.ndarray) -> dict[str, Any]:
        little = array.astype(array.dtype.newbyteorder("<"))
        return {"key": self._add(zlib.compress(little.tobytes(), 9)), "type": array.dtype.name}

    def _add(self, content: bytes) -> str:
        key = hashlib.sha256(content).hexdigest()[:16]
        self.parts[key] = base64.b64encode(content).decode()
        return key


def restored(payload: Payload, array: Mapping[str, Any]) -> np.ndarray:
    """What the page reads back: for tests, and as the definition of the format."""
    content = zlib.decompress(base64.b64decode(payload.parts[array["key"]]))
    values = np.frombuffer(content, dtype=np.dtype(array["type"]).newbyteorder("<"))
    if "low" not in array:
        return values
    levels = np.iinfo(values.dtype).max
    return array["low"] + values / levels * (array["high"] - array["low"])

"""Where Numba keeps what it compiled: in a folder that is called by all that goes into it.

Numba itself compiles a function anew where the function's own file has changed. Not so where another file has, from
which it takes a helper or a constant: whoever updates recon would go on with loops of before.
"""

import hashlib
import os
import shutil
from pathlib import Path

from numba import config

PACKAGE = Path(__file__).parents[2]

LOOPS = ("render/compiled/*.py", "*/compiled.py")
CONSTANTS = (
    "background/contraction.py",
    "background/rays.py",
    "render/normals.py",
    "render/rasterize.py",
    "surface/spline.py",
)
"""Modules that compiled loops take numbers from."""


def folder(package: Path = PACKAGE) -> Path:
    """The folder for loops as they are in `package` now."""
    digest = hashlib.sha256()
    for pattern in (*LOOPS, *CONSTANTS):
        for path in sorted(package.glob(pattern)):
            digest.update(path.read_bytes())
    return package / "__pycache__" / f"numba-{digest.hexdigest()[:16]}"


def keep_by_content() -> None:
    """Have Numba use that folder from now on, unless a person has said another (`NUMBA_CACHE_DIR`).

    Where it cannot be written Numba takes the user's own cache.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    ours = folder()
    config.CACHE_DIR = str(ours)  # type: ignore[attr-defined]
    for other in ours.parent.glob("numba-*"):
        if other != ours:
            shutil.rmtree(other, ignore_errors=True)

"""Where a viewpoint set comes from, for its metadata."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recon import __version__


def provenance(
    set_name: str, source: Path, files: Iterable[Path], settings: dict[str, Any], packages: Iterable[str]
) -> dict[str, Any]:
    """Metadata of a viewpoint set: its name, the source and the SHA-256 of all `files` that went in,
    the settings, and the versions of recon and of `packages`."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return {
        "set": set_name,
        "source": source.name,
        "sha256": digest.hexdigest(),
        "settings": settings,
        "versions": {"recon": __version__}
        | {name: number for name in ("numpy", *packages) if (number := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

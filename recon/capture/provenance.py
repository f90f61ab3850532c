"""Where a viewpoint set comes from, for its metadata."""

import hashlib
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recon import __version__


def provenance(
    set_name: str,
    source: Path,
    files: Iterable[Path],
    settings: dict[str, Any],
    packages: Iterable[str],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Metadata of a viewpoint set: its name, the source and the SHA-256 of all `files` that went in,
    the settings, the versions of recon and of `packages`, and as `warnings` what was worth a line (`notes`)."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    versions = {"recon": __version__} | {name: found for name in ("numpy", *packages) if (found := _version(name))}
    return {
        "set": set_name,
        "source": source.name,
        "sha256": digest.hexdigest(),
        "settings": settings,
        "versions": versions,
        **({"warnings": list(notes)} if notes else {}),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

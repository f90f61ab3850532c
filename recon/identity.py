"""What makes two training runs the same run: everything that changes the result, and nothing else.

A run's name, threads, memory and verbosity leave its identity alone, so a renamed run is not trained
again and a checkpoint is taken up by a job with more memory. The learning rate does not.
"""

import hashlib
import json
from typing import Any

from recon.config import RunConfig, flatten

IDENTITY_FIELDS = (
    "surface",
    "reflectance",
    "texture",
    "background",
    "field",
    "cameras",
    "light",
    "render",
    "loss",
    "train",
    "export",
)
"""Keys and sections of the training configuration that change what a run leaves.

A section stands for all its keys, those of later versions included. A new key outside these sections is
listed either here or in `OTHER_FIELDS`; a test holds the two to `RunConfig`.
"""

OTHER_FIELDS = ("train.save_every",)
"""Keys and sections that change nothing of the result, also within the sections above."""

LENGTH = 12
"""Hexadecimal digits of an identity: 48 bits, so two of a million runs collide once in 500 sweeps."""


def run_identity(config: RunConfig, views_digest: str, max_minutes: float | None = None) -> str:
    """Identity of a training on the data of `views_digest`, bounded by `max_minutes` of wall clock.

    Args:
        views_digest: of everything read that changes the result: the training views, and with early
            stopping the viewpoint set it watches.
        max_minutes: the budget as `recon train` got it; None for a run of `train.iterations`.

    Returns:
        `LENGTH` hexadecimal digits.
    """
    return _digest({**_row(config, max_minutes), "views": views_digest})


def row_identity(config: RunConfig, max_minutes: float | None = None) -> str:
    """Identity of a row of the table of experiments, before any data exists; the data has its own file times."""
    return _digest(_row(config, max_minutes))


def identity_fields(config: RunConfig) -> dict[str, Any]:
    """Dotted keys and values of `config` that `IDENTITY_FIELDS` lists, defaults written out."""
    flat = flatten(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if changes_result(key)}


def changes_result(key: str) -> bool:
    """Whether the dotted `key` is part of a run's identity."""
    listed, excepted = (any(covers(field, key) for field in fields) for fields in (IDENTITY_FIELDS, OTHER_FIELDS))
    return listed and not excepted


def covers(field: str, key: str) -> bool:
    """Whether `field`, a key or section, is or holds the dotted `key`."""
    return key == field or key.startswith(f"{field}.")


def _row(config: RunConfig, max_minutes: float | None) -> dict[str, Any]:
    return {"config": identity_fields(config), "max_minutes": None if max_minutes is None else float(max_minutes)}


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]

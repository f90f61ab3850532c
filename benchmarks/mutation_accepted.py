"""Mutants of the renderer and the losses that no test can kill, and why: (module, function, change) -> reason."""

ACCEPTED: dict[tuple[str, str, str], str] = {}

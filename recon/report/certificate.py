"""The certificate of a mesh in words."""

from typing import Any

from recon.report.records import RunRecord
from recon.report.tables import number


def certificate(record: RunRecord) -> list[dict[str, Any]]:
    """The facts that matter most, and whether each is as it should be."""
    found = record.certificate
    if found is None:
        return []
    manifold = bool(found.get("edge_manifold") and found.get("vertex_manifold"))
    pairs, genus = found.get("self_intersections"), found.get("genus")
    facts = [
        {"good": found.get("watertight") is True, "text": "watertight"},
        {"good": manifold, "text": "manifold"},
        {"good": genus == 0, "text": "genus unknown" if genus is None else f"genus {genus}"},
        {"good": pairs == 0, "text": f"{number(pairs, 0)} self-intersections"},
    ]
    determinant = found.get("smallest_jacobian_determinant")
    if determinant is not None:
        facts.append({"good": determinant > 0, "text": f"smallest Jacobian determinant {determinant:.2g}"})
    facts += [{"good": False, "text": text} for key, text in DISAGREEMENTS.items() if found.get(key) is False]
    return facts


DISAGREEMENTS = {
    "is_the_models": "mesh.ply is not the model's mesh",
    "glb_agrees": "mesh.glb is not the mesh of mesh.ply",
}
"""What is said of the files where they are not what they should be."""

FACTS = {
    "mesh": "the file that was measured",
    "is_the_models": "it is the model's mesh",
    "glb_agrees": "mesh.glb is the same",
    "vertices": "vertices",
    "faces": "faces",
    "watertight": "watertight",
    "edge_manifold": "edges join at most two faces",
    "vertex_manifold": "faces fan around every vertex",
    "components": "pieces",
    "genus": "genus",
    "smallest_jacobian_determinant": "smallest Jacobian determinant of the flow",
    "self_intersections": "pairs of triangles that intersect",
}


def certificate_table(record: RunRecord) -> list[tuple[str, str]]:
    """The certificate in full, in words."""
    found = record.certificate or {}
    return [(label, _fact(found[key])) for key, label in FACTS.items() if key in found]


def _fact(value: bool | int | float | str | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

"""The validation of a training run: how well it predicts views, and what its mesh is worth."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.background.requirements import check_given
from recon.errors import ReconError
from recon.evaluation.certificate import Certificate, certify
from recon.evaluation.gallery import write_gallery
from recon.evaluation.match import Match, match
from recon.evaluation.overshoot import Overshoot, brightest, write_overshoot
from recon.evaluation.sheet import COLUMNS, comparison_sheet
from recon.evaluation.surface_file import SurfaceFile
from recon.evaluation.turntable import write_turntable
from recon.files import atomic, writable_folder
from recon.geometry.meshes import load_mesh
from recon.geometry.metrics import GeometryMetrics, geometry_metrics
from recon.images.metrics import mean_metrics
from recon.images.pictures import Tone, write_picture
from recon.model.export import source_mesh
from recon.model.file import load_model
from recon.model.model import Model, SurfaceMesh
from recon.run_folder import (
    CERTIFICATE,
    GEOMETRY,
    MODEL,
    OVERSHOOT,
    RESERVED_SETS,
    SURFACE,
    TURNTABLE,
    RunFolder,
    ValidationFolder,
)
from recon.views import Views, load_views


def validate(
    run: Path, views: Mapping[str, Path], out: Path, reference: Path | None = None, tone: Tone = "clamp"
) -> None:
    """Measure `run` on viewpoint sets and write what was found to `out`; `run` is only read.

    For each NAME in `views`: NAME.json (metrics of every view and their mean), NAME.png (ground truth,
    prediction, error of some) and in the folder NAME pictures of every view. certificate.json says what
    holds of the mesh; geometry.json, with a `reference` in the source's frame, how far it is from it;
    surface.npz what is known at its vertices; turntable.gif turns it; overshoot.npz has the brightest
    prediction. Prints a table of the means.

    Raises:
        ReconError: the run, a viewpoint set or the reference cannot be read; a name is no file name;
            the model predicts values that are not finite; `out` cannot be written.
    """
    for name in views:
        if name in (*RESERVED_SETS, "", "..") or Path(name).name != name:
            raise ReconError(f"--views {name}=…: the name must be a plain file name, other than {RESERVED_SETS}")
    folder = ValidationFolder(writable_folder(out))
    model = load_model(run).to("cuda" if torch.cuda.is_available() else "cpu")
    # All inputs are read before the first output is written.
    sets = {name: load_views(path) for name, path in views.items()}
    for name, each in sets.items():
        check_given(model.config.background, each, views[name])
    reference_mesh = None if reference is None else load_mesh(reference)
    mesh = _mesh(model, run)
    certificate = _certify(model, mesh)
    exported = source_mesh(model, model.export_level)
    geometry = None if reference_mesh is None else geometry_metrics(exported, reference_mesh)

    about = {"run": str(run), "level": model.export_level}
    surface = SurfaceFile(model, reference_mesh)
    means: dict[str, dict[str, float]] = {}
    overshoots: list[Overshoot] = []
    # Set by set, so that the layers of one alone are in memory.
    for name, each in sets.items():
        aligned = each.aligned_to(model)
        found = match(model, mesh, aligned)
        ranges = write_gallery(folder.gallery(name), aligned, found, tone)
        _write_sheet(folder.sheet(name), aligned, found, tone)
        _write_json(folder.metrics(name), {"set": name, **about, **_summary(each, found), "ranges": ranges})
        surface.add_set(name, aligned, found.depth)
        overshoots.append(brightest(name, found.prediction))
        means[name] = mean_metrics(found.per_view)
    surface.write(folder.file(SURFACE))
    write_overshoot(folder.file(OVERSHOOT), overshoots)
    write_turntable(model, mesh, folder.file(TURNTABLE))
    _write_json(folder.file(CERTIFICATE), {**about, **certificate.as_dict()})
    if geometry is not None:
        _write_json(folder.file(GEOMETRY), {**about, "reference": str(reference), **geometry.as_dict()})
    print(_table(means, certificate, geometry))


@torch.no_grad()
def _mesh(model: Model, run: Path) -> SurfaceMesh:
    mesh = model.mesh(model.export_level)
    if not all(torch.isfinite(values).all() for values in (mesh.vertices, mesh.attributes)):
        raise ReconError(f"{RunFolder(run).file(MODEL)}: the model gives vertices or reflectance that are not finite")
    return mesh


def _certify(model: Model, mesh: SurfaceMesh) -> Certificate:
    determinants = model.jacobian_determinants(model.export_level)
    return certify(mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy(), determinants.cpu().numpy())


def _summary(views: Views, found: Match) -> dict[str, Any]:
    return {
        "views": len(views),
        "height": views.height,
        "width": views.width,
        "mean": mean_metrics(found.per_view),
        "per_view": found.per_view,
    }


def _write_sheet(path: Path, views: Views, found: Match, tone: Tone) -> None:
    chosen = np.unique(np.linspace(0, len(views) - 1, COLUMNS).round().astype(int))
    labels = [f"view {i}   {found.per_view[i]['mean_absolute_error']:.4f}" for i in chosen]
    write_picture(comparison_sheet(views.images[chosen], found.prediction[chosen], labels, tone), path)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """`value` with null for what JSON has no number for, such as the SSIM of a tiny image."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _table(means: Mapping[str, Mapping[str, float]], certificate: Certificate, geometry: GeometryMetrics | None) -> str:
    width = max(12, *(len(name) for name in means))
    lines = [f"{'viewpoint set':<{width}}  mean abs. error     PSNR    SSIM  mask IoU"]
    for name, mean in means.items():
        overlap = f"{mean['mask_iou']:8.4f}" if "mask_iou" in mean else "       –"
        lines.append(
            f"{name:<{width}}  {mean['mean_absolute_error']:15.5f}  {mean['psnr']:7.2f}  {mean['ssim']:6.4f}  {overlap}"
        )
    if geometry is not None:
        lines.append(
            f"geometry: chamfer {geometry.chamfer:.5g} ({geometry.chamfer_relative:.3%} of the diagonal), "
            f"F-score {geometry.f_score_0_5:.3f} at 0.5% and {geometry.f_score_1:.3f} at 1%, "
            f"normal error {geometry.normal_error:.2f} degrees"
        )
    lines.append(f"mesh: {certificate.sentence()}")
    return "\n".join(lines)

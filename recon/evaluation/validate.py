"""The validation of a training run: how well it predicts views, and what its mesh is worth."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import UInt8

from recon.background.black import blackened, parts_show_more_than_black
from recon.background.requirements import check_given, check_lights
from recon.errors import ReconError
from recon.evaluation.certificate import Certificate, certify
from recon.evaluation.clear import clear
from recon.evaluation.delivered import read_delivered
from recon.evaluation.fingerprint import KEY, fingerprint
from recon.evaluation.gallery import Gallery
from recon.evaluation.holes import Holes, Place, sentence
from recon.evaluation.match import Match, match, views_at_once
from recon.evaluation.materials import MaterialErrors
from recon.evaluation.overshoot import Overshoot, brightest, write_overshoot
from recon.evaluation.sheet import COLUMNS, comparison_sheet
from recon.evaluation.surface_file import SurfaceFile
from recon.evaluation.turntable import write_relit_turntable, write_turntable
from recon.files import atomic, writable_folder
from recon.geometry.meshes import load_mesh
from recon.geometry.metrics import GeometryMetrics, geometry_metrics, near_unit
from recon.images.metrics import mean_metrics
from recon.images.pictures import Tone, write_picture
from recon.model.file import finite_mesh, load_model
from recon.model.model import Model, SurfaceMesh
from recon.processor import settle_on_cpu
from recon.run_folder import (
    CERTIFICATE,
    GEOMETRY,
    HOLES,
    HOLES_PICTURE,
    MODEL,
    OVERSHOOT,
    RELIT,
    RESERVED_SETS,
    SURFACE,
    TURNTABLE,
    RunFolder,
    ValidationFolder,
)
from recon.stored_views import StoredViews
from recon.views import Views

FITTED = "fitted to each view and channel"
"""What a prediction's strength is where strengths were learned: those of views that were not fitted are not known."""

UNLIKE = 5
"""Ratio of sizes from which a reference is hardly in the mesh's unit."""


def validate(
    run: Path, views: Mapping[str, Path], out: Path, reference: Path | None = None, tone: Tone = "clamp"
) -> None:
    """Measure `run` on viewpoint sets and write what was found to `out`; `run` is only read.

    For each NAME in `views`: NAME.json (metrics of every view and their mean), NAME.png (ground truth,
    prediction, error of some) and in the folder NAME pictures of every view. certificate.json says what
    holds of the mesh as it was delivered, the run's mesh.ply; geometry.json, with a `reference` in the
    source's frame, how far that is from it; surface.npz what is known at the model's vertices;
    turntable.gif turns it, and relit.gif in another light; overshoot.npz has the brightest prediction; holes.json
    tells where views see through the mesh, of which holes.png shows the largest place, and a warning is said. What an
    earlier validation left in `out` is removed first. Every file of numbers has the fingerprint of `model.pt`. Prints
    a table of the means.

    Without a background, sets that show more than black outside their masks are blackened there, as they
    are in training (`recon.background.black`).

    Views are read from their files a few at a time, so that memory does not grow with their number.

    Raises:
        ReconError: the run, a viewpoint set or the reference cannot be read; a name is no file name;
            the model predicts values that are not finite; `out` cannot be written.
    """
    for name in views:
        if name in (*RESERVED_SETS, "", "..") or Path(name).name != name:
            raise ReconError(f"--views {name}=…: the name must be a plain file name, other than {RESERVED_SETS}")
    folder = ValidationFolder(writable_folder(out))
    model = load_model(run).to("cuda" if torch.cuda.is_available() else "cpu")
    # All inputs are read and checked before the first output is written.
    sets = {name: _Set(name, StoredViews(path), model, run) for name, path in views.items()}
    if model.device.type == "cpu":
        sizes = [(each.stored.height, each.stored.width) for each in sets.values()]
        settle_on_cpu(model.config, *max([(0, 0), *sizes]))
    reference_mesh = None if reference is None else _reference(reference)
    mesh = finite_mesh(model, run, model.export_level)
    delivered = read_delivered(model, run)
    certificate = certify(
        np.asarray(delivered.mesh.vertices),
        np.asarray(delivered.mesh.faces),
        model.jacobian_determinants(model.export_level).cpu().numpy(),
    )
    geometry = None if reference_mesh is None else geometry_metrics(delivered.mesh, reference_mesh)
    strange = [] if reference_mesh is None else _apart(delivered.mesh, reference_mesh, reference)
    for warning in (*delivered.warnings(), *strange):
        print(f"recon: warning: {warning}", file=sys.stderr)

    clear(folder)
    weights = fingerprint(run)
    assert weights is not None
    about = {"run": str(run), KEY: weights, "level": model.export_level}
    surface = SurfaceFile(model, reference_mesh)
    means: dict[str, dict[str, float]] = {}
    holes = _Holes(model, mesh)
    top: Overshoot | None = None
    for name, viewpoints in sets.items():
        summary, top = _measure(viewpoints, mesh, folder, tone, surface, top, holes)
        means[name] = summary["mean"]
        _write_json(folder.metrics(name), {"set": name, **about, **summary})
    assert top is not None
    surface.write(folder.file(SURFACE), weights)
    write_overshoot(folder.file(OVERSHOOT), top, weights)
    write_turntable(model, mesh, folder.file(TURNTABLE))
    write_relit_turntable(model, mesh, folder.file(RELIT))
    _write_json(folder.file(CERTIFICATE), {**about, **delivered.as_dict(), **certificate.as_dict()})
    holes.write(folder, about, tone)
    if geometry is not None:
        _write_json(folder.file(GEOMETRY), {**about, "reference": str(reference), **geometry.as_dict()})
    print(_table(means, certificate, geometry))


def _reference(path: Path) -> trimesh.Trimesh:
    mesh = load_mesh(path)
    if not near_unit(np.asarray(mesh.vertices)).brought(mesh).area > 0:
        raise ReconError(f"{path}: its triangles have no area, so that nothing can be compared with them")
    return mesh


def _apart(mesh: trimesh.Trimesh, reference: trimesh.Trimesh, path: Path | None) -> list[str]:
    """What speaks against the two being of one object in one frame and unit."""
    ratio = float(np.linalg.norm(reference.extents) / np.linalg.norm(mesh.extents))
    if not 1 / UNLIKE < ratio < UNLIKE:
        return [f"--reference {path}: is {ratio:.3g} times as large as the mesh; expected the source's unit"]
    if (reference.bounds[0] > mesh.bounds[1]).any() or (reference.bounds[1] < mesh.bounds[0]).any():
        return [f"--reference {path}: lies beside the mesh; expected the source's frame"]
    return []


class _Set:
    """A viewpoint set as the model sees it, in parts: its frame, its radiance scale, and black where it has to be."""

    def __init__(self, name: str, stored: StoredViews, model: Model, run: Path) -> None:
        self.name, self.stored, self.model, self.run = name, stored, model, run
        _, first = next(stored.parts(1))
        check_lights(model.config.background, first, stored.path)
        check_given(model.config.background, first, stored.path)
        self.published = first.published
        may_be = model.config.background == "none" and first.masks is not None
        self.blackened = may_be and self._shows_more_than_black()

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def size(self) -> dict[str, int]:
        return {"height": self.stored.height, "width": self.stored.width}

    def _shows_more_than_black(self) -> bool:
        parts = (part for _, part in self.stored.parts(1))
        return parts_show_more_than_black(parts, self.model.radiance_scale)

    def parts(self) -> Iterator[tuple[int, Views]]:
        """The number of the first view of each part, and the part."""
        for first, part in self.stored.parts(views_at_once(self.stored.height, self.stored.width)):
            aligned = part.aligned_to(self.model)
            yield first, blackened(aligned) if self.blackened else aligned


def _measure(
    views: _Set,
    mesh: SurfaceMesh,
    folder: ValidationFolder,
    tone: Tone,
    surface: SurfaceFile,
    top: Overshoot | None,
    holes: "_Holes",
) -> tuple[dict[str, Any], Overshoot | None]:
    """What NAME.json says of a set, whose pictures are written, and the brightest prediction so far."""
    per_view: list[dict[str, float]] = []
    shown, seen, pictures = _Shown(len(views)), holes.of(views.name), folder.gallery(views.name)
    with Gallery(pictures, len(views), tone) as gallery, MaterialErrors(pictures) as materials:
        for first, part in views.parts():
            found = match(views.model, mesh, part)
            _check_finite(found, views, first)
            gallery.add(part, found)
            surface.add_views(views.name, part, found.depth)
            top = brightest(views.name, first, found.prediction, top)
            shown.add(first, part, found)
            materials.add(part, found)
            seen.add(part, found)
            per_view += found.per_view
        ranges, of_materials = gallery.finish(), materials.per_view()
    write_picture(shown.sheet(tone), folder.sheet(views.name))
    if of_materials:
        per_view = [images | material for images, material in zip(per_view, of_materials, strict=True)]
    summary = {
        "views": len(views),
        **views.size,
        "outside_masks": "black" if views.blackened else "as photographed",
        **({"exposure": FITTED} if views.model.config.light.strength else {}),
        **({} if views.published is None else {"published": views.published}),
        "mean": mean_metrics(per_view),
        "per_view": per_view,
        "ranges": ranges,
    }
    return summary, top


class _Shown:
    """Some views beside their prediction, evenly spread over a set of `count`, for the sheet."""

    def __init__(self, count: int) -> None:
        self._chosen = np.unique(np.linspace(0, count - 1, COLUMNS).round().astype(int)).tolist()
        self._columns: list[tuple[np.ndarray, np.ndarray, str]] = []

    def add(self, first: int, views: Views, found: Match) -> None:
        for i in self._chosen:
            if first <= i < first + len(views):
                label = f"view {i}   {found.per_view[i - first]['mean_absolute_error']:.4f}"
                self._columns.append((views.images[i - first].copy(), found.prediction[i - first].copy(), label))

    def sheet(self, tone: Tone) -> UInt8[np.ndarray, "h w 4"]:
        target, prediction, labels = zip(*self._columns, strict=True)
        return comparison_sheet(np.stack(target), np.stack(prediction), labels, tone)


class _Holes:
    """Where the views of each set see through a mesh, and the file that says so."""

    def __init__(self, model: Model, mesh: SurfaceMesh) -> None:
        self._model, self._mesh = model, mesh
        self._sets: dict[str, Holes] = {}

    def of(self, name: str) -> Holes:
        """What the set `name` sees, to which its views are to be added."""
        return self._sets.setdefault(name, Holes(self._mesh, self._model.world_from_unit))

    def write(self, folder: ValidationFolder, about: Mapping[str, Any], tone: Tone) -> None:
        """Write holes.json and, where there is any place, holes.png of the set with the largest; and say it."""
        places: dict[str, list[Place]] = {name: holes.places() for name, holes in self._sets.items()}
        said = sentence(places)
        of_sets = {name: [place.as_dict() for place in each] for name, each in places.items()}
        _write_json(folder.file(HOLES), {**about, "sentence": said, "sets": of_sets})
        if said is not None:
            largest = max((name for name in places if places[name]), key=lambda name: places[name][0].share)
            write_picture(self._sets[largest].picture(largest, tone), folder.file(HOLES_PICTURE))
            print(f"recon: warning: {folder.file(HOLES)}: {said}", file=sys.stderr)


def _check_finite(found: Match, views: _Set, first: int) -> None:
    bad = ~np.isfinite(found.prediction).all(axis=(1, 2, 3))
    if bad.any():
        raise ReconError(
            f"{RunFolder(views.run).file(MODEL)}: the model predicts radiance that is not finite "
            f"in view {first + int(bad.argmax())} of '{views.name}'"
        )


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

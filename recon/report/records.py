"""What a report knows of a training run: the files in its folder and nothing else."""

import io
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import yaml

from recon.config import flatten
from recon.errors import ReconError
from recon.evaluation.fingerprint import KEY, fingerprint
from recon.files import read_npz
from recon.report.sprite_sheet import gallery_files, view_of
from recon.run_folder import (
    CAMERAS,
    CERTIFICATE,
    CHECKS,
    CONFIG,
    GEOMETRY,
    HISTORY,
    HOLES,
    HOLES_PICTURE,
    LIGHT,
    MODEL,
    OVERSHOOT,
    RELIT,
    SURFACE,
    RunFolder,
)
from recon.tracking import ALBEDO, GOT_NOWHERE
from recon.tracking.record import read_record

TEXTS = ("run", "mesh", "reference", KEY)
"""Keys of certificate.json and geometry.json that hold no numbers."""
MOST = 10**6
"""Views of a set, or pixels of a side."""

USUAL_SETS = ("front", "full", "above", "below")
"""Names of the viewpoint sets that scenes have unless they say otherwise, in the order of a report."""


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A training run as its files tell it. What was not written (yet) is None or empty.

    Attributes:
        name: the shortest end of its path that no other run of the report shares.
        history: one row an iteration; columns iteration, seconds, loss and the loss terms.
        checkpoints: validation while training; columns iteration, seconds, set, mean_absolute_error.
        config: the resolved configuration, dotted keys.
        sets: NAME.json of each validated viewpoint set.
        galleries: the pictures of every view of each, by kind and in the order of the views.
        surface: the arrays of surface.npz.
        overshoot: the file of the brightest prediction.
        relit: the film in the light of a lamp.
        holes: the picture of where views see through the mesh.
        snapshots: the surface at checkpoints, by iteration.
        mesh: the mesh's file.
        albedo: whether the surface has more than one, in words; None where nothing says so.
        light, cameras: what was learned of them.
        notes: what a reader has to know, a line each: that the training got nowhere or the clock cut it, what of the
            folder is left out.
    """

    name: str
    folder: Path
    history: pd.DataFrame
    checkpoints: pd.DataFrame | None
    config: dict[str, Any]
    sets: dict[str, dict[str, Any]]
    galleries: dict[str, dict[str, list[Path]]]
    geometry: dict[str, Any] | None
    certificate: dict[str, Any] | None
    surface: dict[str, np.ndarray] | None
    overshoot: Path | None
    relit: Path | None
    holes: Path | None
    snapshots: dict[int, Path]
    mesh: Path | None
    albedo: str | None
    light: dict[str, Any] | None
    cameras: dict[str, Any] | None
    notes: list[str]

    def error(self, name: str) -> float | None:
        """Mean absolute error on a viewpoint set; None where it was not measured."""
        error: float | None = self.sets.get(name, {"mean": {}})["mean"].get("mean_absolute_error")
        return error

    @property
    def seconds(self) -> float:
        return float(self.history["seconds"].iloc[-1])

    @property
    def iterations(self) -> int:
        return int(self.history["iteration"].iloc[-1])


def load_records(runs: Sequence[Path]) -> list[RunRecord]:
    """Read the files of each run.

    Raises:
        ReconError: a run has no history.csv, or one of its files cannot be read.
    """
    return [_load_record(run, name) for run, name in zip(runs, _short_names(runs), strict=True)]


def set_names(names: Iterable[str]) -> list[str]:
    """Viewpoint sets in the order of a report: the usual ones first."""
    places = {name: place for place, name in enumerate(USUAL_SETS)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))


def published(records: Sequence[RunRecord], name: str) -> float | None:
    """The loss that was published of the viewpoint set `name`, by what validation found in its file; None where that
    differs between the runs that have the set, as between objects."""
    losses = {record.sets[name].get("published") for record in records if name in record.sets}
    return losses.pop() if len(losses) == 1 else None


def _short_names(runs: Sequence[Path]) -> list[str]:
    """The shortest common number of trailing path parts that tells all runs apart."""
    parts = [run.resolve().parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    raise ReconError(f"--runs: {_first_repeated(parts)} is given twice")


def _first_repeated(parts: Sequence[tuple[str, ...]]) -> Path:
    return next(Path(*each) for i, each in enumerate(parts) if each in parts[:i])


def _load_record(run: Path, name: str) -> RunRecord:
    files = RunFolder(run)
    validation = files.validation
    history = _read_table(files.file(HISTORY), ("iteration", "seconds", "loss"))
    if history is None:
        raise ReconError(f"{run}: not a training run: {HISTORY.name} is missing or empty; `recon train` writes it")
    checkpoints = _read_table(files.file(CHECKS), ("iteration", "seconds", "set", "mean_absolute_error"))
    config = _read_config(files.file(CONFIG))
    measured = _Measured(validation.path, fingerprint(run))
    sets = {}
    for set_name in validation.sets():
        if measured.is_ours(validation.metrics(set_name), summary := _read_metrics(validation.metrics(set_name))):
            sets[set_name] = summary
    galleries = {each: measured.pictures(validation.gallery(each), summary) for each, summary in sets.items()}
    certificate = measured.json(validation.file(CERTIFICATE))
    relit = validation.file(RELIT)
    seen_through = _seen_through(measured, validation.file(HOLES))
    return RunRecord(
        name=name,
        folder=run,
        history=history,
        checkpoints=checkpoints,
        config=config,
        sets=sets,
        galleries={each: pictures for each, pictures in galleries.items() if pictures},
        geometry=measured.json(validation.file(GEOMETRY)),
        certificate=certificate,
        surface=measured.arrays(validation.file(SURFACE), _read_surface),
        overshoot=measured.overshoot(validation.file(OVERSHOOT)),
        # A film says not of which model it is; what was written with it does.
        relit=relit if certificate is not None and relit.is_file() else None,
        holes=validation.file(HOLES_PICTURE) if seen_through and validation.file(HOLES_PICTURE).is_file() else None,
        snapshots=_snapshots(files, checkpoints),
        mesh=files.mesh,
        albedo=_tag(run, ALBEDO),
        light=_json_if_there(files.file(LIGHT)),
        cameras=_json_if_there(files.file(CAMERAS)),
        notes=[*_got_nowhere(run), *_cut_short(run, history, config), *seen_through, *measured.notes()],
    )


def _got_nowhere(run: Path) -> list[str]:
    """What training said of its end, where it found nothing, in a line."""
    said = _tag(run, GOT_NOWHERE)
    return [] if said is None else [f"{run}: {said}"]


def _tag(run: Path, name: str) -> str | None:
    record = read_record(run)
    return None if record is None else record.tags.get(name)


def _cut_short(run: Path, history: pd.DataFrame, config: Mapping[str, Any]) -> list[str]:
    """Whether the clock of `--max-minutes` left a training fewer iterations than its configuration has, in a line.

    Such a result depends on what else the machine did.
    """
    record = read_record(run)
    minutes = None if record is None else record.params.get("max_minutes")
    taken, planned = int(history["iteration"].iloc[-1]), config.get("train.iterations")
    if minutes is None or planned is None or taken >= planned:
        return []
    return [f"{run}: cut by the clock: --max-minutes {minutes} gave it {taken} of {planned} iterations"]


def _seen_through(measured: "_Measured", path: Path) -> list[str]:
    """What validation said of views that see through the mesh, in a line."""
    content = _json_if_there(path)
    if content is None or not measured.is_ours(path, content) or content.get("sentence") is None:
        return []
    return [f"{path}: {content['sentence']}"]


class _Measured:
    """What of a validation is of the run's weights, whose fingerprint is `model`; None where there are none to compare.

    A folder may hold what was measured before the run was trained anew: numbers of another model.
    """

    def __init__(self, folder: Path, model: str | None) -> None:
        self._folder, self._model = folder, model
        self._strange: list[str] = []
        self._notes: list[str] = []

    def is_ours(self, path: Path, content: Mapping[str, Any]) -> bool:
        """Whether the content of the file `path` is of the model; if not, it is noted."""
        found = content.get(KEY)
        ours = self._model is None or (found is not None and str(found) == self._model)
        if not ours:
            self._strange.append(path.name)
        return ours

    def json(self, path: Path) -> dict[str, Any] | None:
        content = _json_if_there(path)
        if content is not None:
            _check_numbers(path, content, but=TEXTS)
        return content if content is not None and self.is_ours(path, content) else None

    def arrays(self, path: Path, read: Callable[[Path], dict[str, np.ndarray] | None]) -> dict[str, np.ndarray] | None:
        content = read(path)
        return content if content is not None and self.is_ours(path, content) else None

    def overshoot(self, path: Path) -> Path | None:
        return None if self.arrays(path, _read_overshoot) is None else path

    def pictures(self, folder: Path, summary: Mapping[str, Any]) -> dict[str, list[Path]]:
        """The pictures of a set, of those kinds that have one of every view, of the set's size."""
        if not folder.is_dir():
            return {}
        found = gallery_files(folder)
        count = summary.get("views", len(found.get("truth", ())))
        kept = {}
        for kind, paths in found.items():
            of_views = {view_of(path): path for path in paths}
            chosen = [of_views[view] for view in range(count) if view in of_views]
            odd = _of_another_size(chosen, (summary.get("height"), summary.get("width")))
            if odd is not None:
                self._notes.append(f"{odd}: other pictures of its set have another size; '{kind}' is left out")
            elif len(chosen) < count:
                self._notes.append(f"{folder}: has '{kind}' of {len(chosen)} of {count} views; it is left out")
            elif chosen:
                kept[kind] = chosen
        # Every figure starts from the photographs.
        return kept if {"truth", "prediction"} <= kept.keys() else {}

    def notes(self) -> list[str]:
        if not self._strange:
            return self._notes
        text = (
            f"{self._folder}: {', '.join(self._strange)} {'are' if len(self._strange) > 1 else 'is'} of another model "
            f"than {MODEL.name} and left out; `recon validate` measures this one"
        )
        return [text, *self._notes]


def _check_numbers(path: Path, values: Mapping[Any, Any], prefix: str = "", but: Collection[str] = ()) -> None:
    """Raise `ReconError` where one of `values`, but for the keys `but`, is no finite number and not null."""
    for key, value in values.items():
        if key not in but and not (value is None or (isinstance(value, int | float) and math.isfinite(value))):
            raise ReconError(f"{path}: key '{prefix}{key}' must be a finite number or null, got {value!r}")


def _of_another_size(pictures: Sequence[Path], size: tuple[int | None, int | None]) -> Path | None:
    """The first picture that is not of the height and width `size`; where that is unknown, of the first one's."""
    sizes = [_picture_size(path) for path in pictures]
    expected = sizes[0] if sizes and None in size else size
    return next((path for path, each in zip(pictures, sizes, strict=True) if each not in (expected, None)), None)


def _picture_size(path: Path) -> tuple[int, int] | None:
    """Height and width by the picture's head; None where it has none, of which is told when it is read."""
    try:
        height, width = imageio.improps(path, plugin="pillow").shape[:2]
    except (OSError, ValueError, SyntaxError):
        return None
    return height, width


def _read_arrays(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray] | None:
    """What a validation's file holds, `keys` among it; None where there is none."""
    if not path.exists():
        return None
    arrays = read_npz(path)
    for key in keys:
        if key not in arrays:
            raise ReconError(f"{path}: key '{key}' is missing; `recon validate` writes it")
    return arrays


def _read_overshoot(path: Path) -> dict[str, np.ndarray] | None:
    arrays = _read_arrays(path, ("set", "view", "radiance"))
    if arrays is None:
        return None
    radiance = arrays["radiance"]
    if radiance.ndim != 3 or radiance.shape[2] != 3 or not radiance.size or not np.isfinite(radiance).all():
        raise ReconError(f"{path}: key 'radiance' must hold a finite picture (h, w, 3), got shape {radiance.shape}")
    return arrays


def _read_metrics(path: Path) -> dict[str, Any]:
    summary = _read_json(path)
    if not isinstance(summary.get("mean"), dict):
        raise ReconError(f"{path}: key 'mean' must hold the metrics; `recon validate` writes it")
    _check_numbers(path, summary["mean"], "mean.")
    _check_numbers(path, {"published": summary.get("published")})
    for key in ("views", "height", "width"):
        if key in summary and not (type(summary[key]) is int and 0 < summary[key] <= MOST):
            raise ReconError(f"{path}: key '{key}' must be a positive number of views or pixels, got {summary[key]!r}")
    per_view = summary.get("per_view", [])
    if not isinstance(per_view, list) or not all(isinstance(each, dict) for each in per_view):
        raise ReconError(f"{path}: key 'per_view' must hold the metrics of each view; `recon validate` writes it")
    ranges = summary.get("ranges", {})
    if not isinstance(ranges, dict) or not all(isinstance(each, list) and len(each) == 2 for each in ranges.values()):
        raise ReconError(f"{path}: key 'ranges' must hold two values for each colour map; `recon validate` writes it")
    for i, view in enumerate(per_view):
        _check_numbers(path, view, f"per_view.{i}.")
    for name, ends in ranges.items():
        _check_numbers(path, dict(enumerate(ends)), f"ranges.{name}.")
    return summary


def _snapshots(run: RunFolder, checkpoints: pd.DataFrame | None) -> dict[int, Path]:
    """Those of this training: a folder that was trained in before may hold others."""
    if checkpoints is None:
        return {}
    paths = {int(i): run.snapshot(int(i)) for i in sorted(checkpoints["iteration"].unique())}
    return {iteration: path for iteration, path in paths.items() if path.exists()}


def _read_surface(path: Path) -> dict[str, np.ndarray] | None:
    arrays = _read_arrays(path, ("vertices", "faces", "flow"))
    if arrays is None:
        return None
    _check_mesh(path, arrays, "")
    count = len(arrays["vertices"])
    for key, array in arrays.items():
        if (key.startswith("seen/") or key == "distance") and (array.shape != (count,) or not np.isfinite(array).all()):
            raise ReconError(f"{path}: key '{key}' must hold a finite number for each of {count} vertices")
    if "reference/vertices" in arrays:
        _check_mesh(path, arrays, "reference/")
    flow = arrays["flow"]
    if flow.ndim != 3 or flow.shape[2] != 3 or not len(flow) or not np.isfinite(flow).all():
        raise ReconError(f"{path}: key 'flow' must hold finite points (steps, points, 3), got shape {flow.shape}")
    return arrays


def _check_mesh(path: Path, arrays: Mapping[str, np.ndarray], prefix: str) -> None:
    if f"{prefix}faces" not in arrays:
        raise ReconError(f"{path}: key '{prefix}faces' is missing; `recon validate` writes it")
    vertices, faces = arrays[f"{prefix}vertices"], arrays[f"{prefix}faces"]
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not len(vertices) or not np.isfinite(vertices).all():
        raise ReconError(f"{path}: key '{prefix}vertices' must hold finite points (v, 3), got shape {vertices.shape}")
    whole = faces.ndim == 2 and faces.shape[1] == 3 and faces.dtype.kind in "iu" and len(faces) > 0
    if not whole or faces.min() < 0 or faces.max() >= len(vertices):
        raise ReconError(f"{path}: key '{prefix}faces' must hold triangles (f, 3) of its {len(vertices)} vertices")


def _read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        text = path.read_text()
        # A training that goes on may be in the middle of a row.
        table = pd.read_csv(io.StringIO(text[: text.rfind("\n") + 1] or text))
    except (OSError, ValueError) as error:
        raise ReconError(f"{path}: not a readable table: {' '.join(str(error).split())}") from error
    for column in columns:
        if column not in table:
            raise ReconError(f"{path}: column '{column}' is missing")
    if table.empty:
        raise ReconError(f"{path}: has no rows yet")
    for column in columns:
        if column != "set" and table[column].dtype.kind not in "iuf":
            raise ReconError(f"{path}: column '{column}' must hold numbers, got {table[column].iloc[0]!r}")
        if column in ("iteration", "seconds") and not np.isfinite(table[column]).all():
            raise ReconError(f"{path}: column '{column}' has a value that is not finite")
    return table


def _json_if_there(path: Path) -> dict[str, Any] | None:
    return _read_json(path) if path.exists() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReconError(f"{path}: not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise ReconError(f"{path}: must hold a JSON object, got {type(content).__name__}")
    return content


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ReconError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping | None):
        raise ReconError(f"{path}: must hold a mapping of keys, got {type(content).__name__}")
    return flatten(content or {})

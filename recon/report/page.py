"""The report: one page, made from the files of training runs, that needs no network."""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from recon.errors import ReconError
from recon.files import atomic
from recon.report.asset import asset_files
from recon.report.certificate import certificate, certificate_table
from recon.report.colours import SCALES, run_color, scale_table
from recon.report.figures import curve_names, dash, loss_curves, parallel_coordinates, time_curves
from recon.report.film import film
from recon.report.learned import learned_table
from recon.report.paper import PaperFigure, paper_figures, write_figures
from recon.report.payload import Payload
from recon.report.records import RunRecord, load_records, set_names
from recon.report.sprite_sheet import QUALITIES, SpriteSheet, sprite_sheets, webp
from recon.report.stages import run_stage
from recon.report.tables import configuration, geometry_table, image_tables, tiles
from recon.report.three import threejs
from recon.run_folder import MESH_GLB

PICTURE_BYTES = 11_000_000
"""Of all views and assets of all runs, before base64: what keeps a page of ten runs below 25 MB."""
LARGEST_TILE = 320
SMALLEST_TILE = 24


def report(runs: Sequence[Path], out: Path) -> None:
    """Write `out`/index.html about the training runs in the folders `runs`, and `out`/figures.

    Reads of each run what is there: history.csv, validation.csv, train.yaml, checkpoints, mesh.glb or
    mesh.ply, and in its folder `validation` what `recon validate` wrote.

    Raises:
        ReconError: a run or one of its files cannot be read, or `out` cannot be written.
    """
    records = load_records(runs)
    tell_left_out(records)
    figures = paper_figures(records)
    page = _report_page(records, figures)
    write_figures(figures, out / "figures")
    with atomic(out / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def tell_left_out(records: Sequence[RunRecord]) -> None:
    """Say on the terminal what lies in the runs' folders and is not shown, a line each."""
    for note in (note for record in records for note in record.notes):
        print(f"recon: warning: {note}", file=sys.stderr)


def report_page(runs: Sequence[Path], live: bool = False) -> str:
    """The HTML text of the report; `live`: it reloads when the server that it came from says so."""
    records = load_records(runs)
    return _report_page(records, paper_figures(records), live)


def _report_page(records: Sequence[RunRecord], figures: Sequence[PaperFigure], live: bool = False) -> str:
    sets = set_names(name for record in records for name in record.sets)
    payload = Payload()
    assets = asset_files([record.folder for record in records])
    room = PICTURE_BYTES - sum(path.stat().st_size for path in assets if path is not None)
    pictures = _pictures(payload, records, room)
    stages = [run_stage(payload, record, asset) for record, asset in zip(records, assets, strict=True)]
    sweep = parallel_coordinates(records)
    return render_template(
        "report.html.j2",
        live=live,
        plotly_js=get_plotlyjs(),
        title=f"Reconstruction of {records[0].name}" if len(records) == 1 else f"{len(records)} reconstructions",
        runs=[
            {
                "name": record.name,
                "color": run_color(i),
                "tiles": tiles(record),
                "certificate": certificate(record),
                "certificate_table": certificate_table(record),
                "learned": learned_table(record),
                "notes": record.notes,
                "pictures": pictures[i],
                "stage": stages[i],
                "relit": None if record.relit is None else film(payload, record.relit),
                "holes": None if record.holes is None else _picture(payload, record.holes),
            }
            for i, record in enumerate(records)
        ],
        sets=sets,
        metrics=image_tables(records, sets),
        curves=[{"name": name, "dash": dash(k)} for k, name in enumerate(curve_names(records))],
        plots={
            "iteration": loss_curves(records, "iteration").to_json(),
            "seconds": loss_curves(records, "seconds").to_json(),
            "time": time_curves(records).to_json(),
        }
        | ({} if sweep is None else {"sweep": sweep.to_json()}),
        sweep_axes=0 if sweep is None else len(sweep.data[0].x),
        geometry=geometry_table(records),
        configuration=configuration(records),
        asset_name=MESH_GLB.name,
        figures=[_figure(payload, figure) for figure in figures if figure.found and not figure.plot],
        missing=[figure for figure in figures if not figure.found],
        page={
            "runs": [{"name": record.name, "sets": pictures[i], **stages[i]} for i, record in enumerate(records)],
            "scales": {name: scale_table(name) for name in SCALES},
        },
        parts=payload.parts,
    )


def render_template(name: str, **context: Any) -> str:
    """A page from recon/report/templates, escaped, with three.js in it."""
    return _environment().get_template(name).render(three_js=threejs(), **context)


def embedded_json(value: Any) -> Markup:
    """JSON, or text that is JSON already, that cannot end the <script> element it stands in."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recon.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = embedded_json
    return environment


def _picture(payload: Payload, path: Path) -> dict[str, Any]:
    """The key of a picture file in the page, and its size. Raises `ReconError` where it cannot be read."""
    try:
        picture = imageio.imread(path, plugin="pillow")
    except (OSError, ValueError, SyntaxError) as error:
        raise ReconError(f"{path}: not a readable picture: {' '.join(str(error).split())}") from error
    return {"key": payload.picture(webp(picture)), "width": picture.shape[1], "height": picture.shape[0]}


def _figure(payload: Payload, figure: PaperFigure) -> dict[str, Any]:
    picture = figure.preview()
    height, width = picture.shape[:2]
    key = payload.picture(webp(picture))
    return {"title": figure.title, "caption": figure.caption, "key": key, "width": width, "height": height}


def _pictures(payload: Payload, records: Sequence[RunRecord], most: int) -> list[dict[str, Any]]:
    """For each run and viewpoint set the keys of its sprite sheets, `most` bytes of them, and how to find a view."""
    files = [record.galleries for record in records]
    tile, found = LARGEST_TILE, []
    for quality in QUALITIES:
        found = [_all_sheets(run, tile, quality) for run in files]
        if _bytes(found) <= most:
            break
    while (size := _bytes(found)) > most and tile > SMALLEST_TILE:
        # Tiles smaller than this one's pictures are what counts.
        largest = max(
            max(sheet.height, sheet.width) for run in found for kinds in run.values() for sheet in kinds.values()
        )
        tile = max(SMALLEST_TILE, int(min(tile, largest) * 0.95 * (most / size) ** 0.5))
        found = [_all_sheets(run, tile, QUALITIES[-1]) for run in files]
    return [
        {
            name: _set_pictures(payload, record.sets[name], kinds)
            for name, kinds in ((name, run[name]) for name in set_names(run))
            if kinds
        }
        for record, run in zip(records, found, strict=True)
    ]


def _all_sheets(
    files: Mapping[str, Mapping[str, list[Path]]], tile: int, quality: int
) -> dict[str, dict[str, SpriteSheet]]:
    return {name: sprite_sheets(kinds, tile, quality) for name, kinds in files.items()}


def _bytes(found: Sequence[Mapping[str, Mapping[str, SpriteSheet]]]) -> int:
    """Of what is kept: equal pictures, such as the photographs of one scene, count once."""
    return sum(map(len, {sheet.encoded for run in found for kinds in run.values() for sheet in kinds.values()}))


def _set_pictures(payload: Payload, summary: Mapping[str, Any], kinds: Mapping[str, SpriteSheet]) -> dict[str, Any]:
    first = next(iter(kinds.values()))
    return {
        "views": first.views,
        "columns": first.columns,
        "rows": -(-first.views // first.columns),
        "aspect": first.width / first.height,
        "kinds": {kind: payload.picture(sheet.encoded) for kind, sheet in kinds.items()},
        "ranges": summary.get("ranges", {}),
        "errors": [view.get("mean_absolute_error") for view in summary.get("per_view", [])],
    }

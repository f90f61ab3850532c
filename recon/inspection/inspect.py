"""`recon inspect`: a picture and a table of a viewpoint set."""

from pathlib import Path

from recon.capture.posed import INSPECTION
from recon.files import atomic
from recon.inspection.coverage import coverage
from recon.inspection.falloff import falloff
from recon.inspection.findings import Finding, find
from recon.inspection.measure import measure
from recon.inspection.outlines import outlined
from recon.inspection.table import table
from recon.views import Views, load_views


def inspect(path: Path, out: Path | None = None) -> None:
    """Print what `path` (views.npz) holds and what looks wrong with it, and draw the same as a picture.

    The picture is `NAME.inspection.png` in the folder `out`, by default beside `path`.

    Raises:
        ReconError: `path` is no valid viewpoint set, or the picture cannot be written.
    """
    from recon.inspection.picture import draw

    views = load_views(path, empty_masks=True)
    measures, covered = measure(views), coverage(outlined(views))
    fall = falloff(views, measures, covered)
    findings = [*find(views, measures, covered, fall), *_noted(views)]
    picture = (path.parent if out is None else out) / f"{path.stem}{INSPECTION}"
    title = heading(path, views)
    with atomic(picture) as temporary:
        draw(title, views, covered, fall, findings).savefig(temporary, format="png")
    print(table(title, views, measures, covered, fall, findings))
    print(f"\npicture: {picture}")


def look_over(views: Views) -> list[str]:
    """What looks wrong with a viewpoint set, a line each."""
    measures, covered = measure(views), coverage(outlined(views))
    return [finding.line() for finding in find(views, measures, covered, falloff(views, measures, covered))]


def _noted(views: Views) -> list[Finding]:
    """What extraction said of the source."""
    lines = views.metadata.get("warnings")
    return [Finding("source", str(line)) for line in lines] if isinstance(lines, list) else []


def heading(path: Path, views: Views) -> str:
    """The set in one line."""
    name = views.metadata.get("set", path.stem)
    source = views.metadata.get("source")
    return f"{name}: {len(views)} views of {views.width}×{views.height} pixels" + (f" from {source}" if source else "")

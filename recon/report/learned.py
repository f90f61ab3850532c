"""What was learned beside the surface, in words: the albedo, the light and the cameras."""

from collections.abc import Sequence

import numpy as np

from recon.errors import ReconError
from recon.report.records import RunRecord
from recon.run_folder import CAMERAS, LIGHT


def learned_table(record: RunRecord) -> list[tuple[str, str]]:
    """Labels and facts; none where everything was taken as given.

    Raises:
        ReconError: light.json or cameras.json holds something else than training writes.
    """
    try:
        return _rows(record)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        named = f"{LIGHT.name} or {CAMERAS.name}"
        raise ReconError(f"{record.folder}: {named} is not as training writes it: {error!r}") from None


def _rows(record: RunRecord) -> list[tuple[str, str]]:
    rows = [] if record.albedo is None else [("albedo", record.albedo)]
    light, cameras = record.light or {}, (record.cameras or {}).get("views")
    if (strengths := light.get("strengths_of_views")) is not None:
        rows.append(("strengths of the views' light", _range(np.asarray(strengths).mean(axis=1), "{:.2f}")))
    if (offset := light.get("flash_offset_in_camera_frame")) is not None:
        x, y, z = offset
        rows.append(("flash beside the lens (right, down, forward)", f"{x:.3g}, {y:.3g}, {z:.3g}"))
    if (harmonics := light.get("ambient_harmonics_relative_to_flash")) is not None:
        # Only the first is not zero on average over the sphere, where it is 0.282.
        mean = 0.2820948 * float(np.mean(harmonics[0]))
        rows.append(("ambient radiance relative to the flash, mean", f"{mean:.2g}"))
    if (vignetting := light.get("vignetting_of_r2_r4_r6")) is not None:
        rows.append(("brightness in the farthest corner, vignetted", f"{1 + sum(vignetting):.2f}"))
    if cameras:
        rows.append(("poses turned by", _range([view["turned_degrees"] for view in cameras], "{:.2f}°")))
        rows.append(("centres shifted by", _range([view["shifted"] for view in cameras], "{:.3g}")))
    return rows


def _range(values: Sequence[float] | np.ndarray, form: str) -> str:
    low, middle, high = (form.format(each) for each in np.quantile(values, [0, 0.5, 1]))
    return f"{low} to {high}, median {middle}"

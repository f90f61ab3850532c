"""Cameras that Agisoft Metashape exports as XML (File > Export > Export Cameras), with the photographs by their labels.

Metashape's frame camera (its manual, appendix "Camera models"), with x, y on the plane at depth 1 and r² = x² + y²:

    x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶ + k4 r⁸) + p1 (r² + 2x²) + 2 p2 xy
    y' = y (1 + k1 r² + k2 r⁴ + k3 r⁶ + k4 r⁸) + p2 (r² + 2y²) + 2 p1 xy
    u = w/2 + cx + x' f + x' b1 + y' b2,   v = h/2 + cy + y' f

so its p1 and p2 are OpenCV's p2 and p1. Its fisheye camera is OpenCV's. Transforms are camera-to-chunk with OpenCV's
axes; the chunk's own transform carries them to the world.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon.capture.framing import Wishes
from recon.capture.notes import listed
from recon.capture.posed import Posed, by_stem, pictures_in, views_from_posed
from recon.capture.poses import rigid_pose
from recon.errors import ReconError
from recon.views import Views

PLACES = ("images", ".", "photos")
"""Folders beside the file where photographs are looked for."""


class _Sensor(NamedTuple):
    intrinsics: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    distortion: Float[np.ndarray, " k"] | None
    fisheye: bool


def metashape_files(path: Path) -> list[Path]:
    """The photographs and masks that extraction may read."""
    return [file for place in (*PLACES, "masks") for file in pictures_in(path.parent / place)]


def views_from_metashape(path: Path, set_name: str, wishes: Wishes) -> Views:
    """The viewpoint set of the cameras that are aligned and enabled, in the chunk's world.

    Raises:
        ReconError: the file is no such XML; no camera is aligned; a photograph is not there; a lens is not known.
    """
    try:
        chunk = ElementTree.parse(path).getroot().find("chunk")
    except (ElementTree.ParseError, OSError) as error:
        raise ReconError(f"{path}: not readable XML: {error}") from None
    if chunk is None:
        raise ReconError(f"{path}: has no 'chunk'; expected cameras as Metashape exports them")
    world = _similarity(chunk.find("transform"), f"{path}: the chunk's transform")
    components = {
        each.get("id", ""): _similarity(each.find("transform"), f"{path}: component {each.get('id')}")
        for each in chunk.findall("components/component")
    }
    pictures = {name: file for place in reversed(PLACES) for name, file in by_stem(path.parent / place).items()}
    masks = by_stem(path.parent / "masks")
    sensors = {each.get("id", ""): each for each in chunk.findall("sensors/sensor")}
    posed, unaligned = [], []
    for camera in chunk.iter("camera"):
        label, text = camera.get("label", ""), camera.findtext("transform")
        if camera.get("enabled") in ("false", "0"):
            continue
        if not text:
            unaligned.append(label)
            continue
        where = f"{path}: camera {label}"
        sensor = _sensor(sensors.get(camera.get("sensor_id", "")), where)
        picture = pictures.get(label) or pictures.get(Path(label).stem)
        if picture is None:
            raise ReconError(f"{where}: no photograph of that name beside the file, nor in images/ or photos/")
        local = _numbers(text, 16, where).reshape(4, 4)
        pose = _carried(world @ components.get(camera.get("component_id", ""), np.eye(4)), local, where)
        posed.append(Posed(f"camera {label}", picture, masks.get(picture.stem), pose, *sensor))
    if not posed:
        raise ReconError(f"{path}: no camera is aligned")
    notes = [f"{path}: {listed(unaligned)}: not aligned by Metashape, and left out"] if unaligned else []
    return views_from_posed(
        posed,
        path,
        set_name,
        wishes,
        missing="has no mask in masks/",
        listing=[path],
        settings={"format": "Metashape"},
        notes=notes,
    )


def _numbers(text: str | None, count: int, where: str) -> Float[np.ndarray, " n"]:
    try:
        values = np.array((text or "").split(), np.float64)
    except ValueError:
        values = np.zeros(0)
    if len(values) != count or not np.isfinite(values).all():
        raise ReconError(f"{where}: expected {count} finite numbers")
    return values


def _similarity(element: ElementTree.Element | None, where: str) -> Float[np.ndarray, "4 4"]:
    """What a chunk or a component is turned, scaled and moved by; nothing where it is not said."""
    matrix = np.eye(4)
    if element is None:
        return matrix
    parts = {"rotation": (9, np.eye(3).ravel()), "translation": (3, np.zeros(3)), "scale": (1, np.ones(1))}
    found = {}
    for name, (count, default) in parts.items():
        text = element.findtext(name)
        found[name] = default if not text else _numbers(text, count, f"{where}: {name}")
    matrix[:3, :3] = found["scale"] * found["rotation"].reshape(3, 3)
    matrix[:3, 3] = found["translation"]
    return matrix


def _carried(world: Float[np.ndarray, "4 4"], local: Float[np.ndarray, "4 4"], where: str) -> Float[np.ndarray, "4 4"]:
    matrix = world @ local
    return rigid_pose(matrix[:3, :3], matrix[:3, 3], where, may_scale=True)


def _sensor(element: ElementTree.Element | None, where: str) -> _Sensor:
    if element is None:
        raise ReconError(f"{where}: its sensor is not in the file")
    found = element.findall("calibration")
    calibration = next((each for each in found if each.get("class") == "adjusted"), found[-1] if found else None)
    if calibration is None:
        raise ReconError(f"{where}: its sensor has no calibration")
    kind = calibration.get("type", element.get("type", "frame"))
    if kind not in ("frame", "fisheye"):
        raise ReconError(f"{where}: has a lens of type {kind!r}, expected 'frame' or 'fisheye'")
    size = calibration.find("resolution") if calibration.find("resolution") is not None else element.find("resolution")
    if size is None:
        raise ReconError(f"{where}: its sensor has no resolution")
    width, height = (
        int(_numbers(size.get(key, "0"), 1, f"{where}: {key} of the resolution")[0]) for key in ("width", "height")
    )

    def value(name: str) -> float:
        text = calibration.findtext(name)
        return float(_numbers(text, 1, f"{where}: {name}")[0]) if text else 0.0

    focal = value("f")
    if not focal and value("fx"):
        raise ReconError(
            f"{where}: its calibration has 'fx', as files of PhotoScan before 1.2 have, whose principal point means "
            "something else; expected 'f': export the cameras again"
        )
    if focal <= 0:
        raise ReconError(f"{where}: its focal length must be positive")
    if abs(value("b2")) > 1e-3 * focal or (kind == "frame" and value("k4")):
        raise ReconError(
            f"{where}: 'b2' and 'k4' have no counterpart here; undistort the photographs in Metashape first"
        )
    across = focal + value("b1")
    intrinsics = np.array([[across, 0, width / 2 + value("cx")], [0, focal, height / 2 + value("cy")], [0, 0, 1]])
    radial = [value(f"k{i}") for i in (1, 2, 3, 4)]
    if kind == "fisheye":
        return _Sensor(intrinsics, (height, width), np.array(radial), True)
    distortion = np.array([*radial[:2], value("p2"), value("p1"), radial[2]])
    return _Sensor(intrinsics, (height, width), distortion if distortion.any() else None, False)

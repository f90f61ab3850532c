"""Dataset extraction: whatever a person has becomes views.npz."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from recon.capture.framing import NO_WISHES, Wishes
from recon.capture.notes import say
from recon.errors import ReconError
from recon.files import read_npz
from recon.images.photograph import SUFFIXES, ColorSpace
from recon.views import Views, load_views, save_views

OTHERS = (".json", ".yaml", ".yml", ".blend", ".ply", ".obj", ".glb", ".stl", ".off", ".mat", ".txt", ".bin", ".xml")
"""Suffixes, beside pictures', of files that no viewpoint set replaces."""

KNOWN = (
    "a scene (.yaml), a transforms.json or its folder, a folder of pictures, of COLMAP, DiLiGenT-MV, "
    "NeuS, IRON or Polycam, cameras of Metashape (.xml), a .blend, "
    "or keyframes (.npz) with --mesh"
)


def extract(
    source: Path,
    out: Path,
    *,
    set_name: str | None = None,
    mesh: Path | None = None,
    like: Path | None = None,
    light_cosine: float | None = None,
    object_name: str | None = None,
    color_space: ColorSpace | None = None,
    sphere: tuple[float, float, float, float] | None = None,
    size: int | None = None,
    hold_out: int | None = None,
    marker: float | None = None,
) -> Views:
    """Write one viewpoint set of `source` to `out` (views.npz), say what is odd about the source, and return the set.

    Args:
        source: a scene.yaml; a transforms.json, or a folder that holds one; a folder with a sparse model of
            COLMAP; an object of DiLiGenT-MV; a folder of pictures without poses; a .blend; a keyframes.npz.
        set_name: which set of a scene, or camera of a .blend with several; else how the set is called.
        mesh: what to render from the viewpoints of a keyframes.npz.
        like: a views.npz whose unit frame and radiance scale are taken over, as validation sets do.
        light_cosine: least cosine to the viewing axis of the lights of DiLiGenT-MV that are taken.
        object_name: object or collection of a .blend that is to be reconstructed.
        color_space: what the samples of photographs are, whatever the files say.
        sphere: x, y, z and radius, in the source's frame, of what becomes the unit sphere of photographs.
        size: pixels along each side of the views that photographs become; without it those of `like`, where these
            were resampled.
        hold_out: of which every so many-th view goes into a second set beside `out` (`held_out_path`) in the same
            frame.
        marker: millimetres along a side of a printed ArUco marker in photographs, which tells how long a unit is.

    Raises:
        ReconError: the source is of no known kind or invalid, or `out` cannot be written.
    """
    for path in (out, *([held_out_path(out)] if hold_out else [])):
        _check_out(path, [source, *(path for path in (mesh, like) if path is not None)])
    frame = None if like is None else load_views(like)
    if frame is not None and sphere is not None:
        raise ReconError(f"{source}: '--sphere' and '--like' both say where the unit sphere is; expected one of them")
    wishes = Wishes(frame, sphere, size, color_space, marker, None if frame is None else _size_of(frame))
    views = read_source(source, set_name, mesh, wishes, light_cosine, object_name, out)
    if hold_out is not None:
        views, held_out = split(views, hold_out, source, own_scale=like is None)
        save_views(held_out, held_out_path(out))
    save_views(views, out)
    say(views.metadata.get("warnings", ()))
    return views


def _size_of(views: Views) -> int | None:
    """Pixels along each side of views that photographs were resampled to; None of others."""
    settings = views.metadata.get("settings")
    size = settings.get("size") if isinstance(settings, dict) else None
    return size if isinstance(size, int) else None


def held_out_path(out: Path) -> Path:
    """Where the views go that `hold_out` keeps from `out`."""
    return out.with_name(f"{out.stem}_held_out{out.suffix}")


def split(views: Views, every: int, source: Path, own_scale: bool = True) -> tuple[Views, Views]:
    """The views without every `every`-th, and these, in one frame and with one radiance scale.

    Args:
        own_scale: the brightest pixel of what remains becomes 1.

    Raises:
        ReconError: there are fewer than `every` views.
    """
    if len(views) < every:
        raise ReconError(f"{source}: '--hold-out' {every} holds no view back: there are {len(views)} views")
    back = np.arange(len(views)) % every == every - 1
    settings = {**views.metadata.get("settings", {}), "hold_out": every}
    fitted = replace(views.select(np.flatnonzero(~back)), metadata={**views.metadata, "settings": settings})
    if own_scale and (peak := float(fitted.images.max())) > 0:
        fitted = fitted.aligned_to(replace(fitted, radiance_scale=fitted.radiance_scale * peak))
    metadata = {**fitted.metadata, "set": f"{views.metadata.get('set', 'views')}_held_out"}
    return fitted, replace(views.select(np.flatnonzero(back)), metadata=metadata).aligned_to(fitted)


def _check_out(out: Path, inputs: list[Path]) -> None:
    """Raise `ReconError` where `out` would replace what a person has made."""
    if out.is_file():
        if any(path.is_file() and out.samefile(path) for path in inputs):
            raise ReconError(f"{out}: is what is read from; expected another file to write")
        if out.suffix.lower() in (*SUFFIXES, *OTHERS):
            raise ReconError(f"{out}: is there already, and no viewpoint set; expected a views.npz to write")


def read_source(
    source: Path,
    set_name: str | None,
    mesh: Path | None,
    wishes: Wishes = NO_WISHES,
    light_cosine: float | None = None,
    object_name: str | None = None,
    out: Path | None = None,
) -> Views:
    """The viewpoint set that `extract` writes. `out`: beside it is kept what structure from motion finds."""
    if object_name is not None and source.suffix.lower() != ".blend":
        raise ReconError(f"{source}: '--object' goes with a .blend")
    if source.is_dir() and not (source / "transforms.json").is_file():
        from recon.capture.colmap import find_pictures, find_project, views_from_colmap
        from recon.capture.diligent import LIGHT_COSINE, is_diligent, views_from_diligent

        if is_diligent(source) and mesh is None and _no_photographs(wishes):
            name = set_name or source.resolve().name.removesuffix("PNG")
            return views_from_diligent(
                source, name, wishes.like, LIGHT_COSINE if light_cosine is None else light_cosine
            )
        if find_project(source) is not None and mesh is None and light_cosine is None:
            return views_from_colmap(source, set_name or source.resolve().name, wishes)
        if mesh is None and light_cosine is None and (reader := _neighbour(source)) is not None:
            return reader(source, set_name or source.resolve().name, wishes)
        if out is not None and find_pictures(source) is not None and mesh is None and light_cosine is None:
            from recon.capture.structure_from_motion import views_from_pictures

            return views_from_pictures(source, out, set_name or source.resolve().name, wishes)
    if light_cosine is not None:
        raise ReconError(f"{source}: '--light-cosine' goes with the folder of an object of DiLiGenT-MV")
    path = source / "transforms.json" if source.is_dir() else source
    if not path.is_file():
        raise ReconError(f"{source}: no such source; expected {KNOWN}")
    suffix = path.suffix.lower()
    if suffix not in (".json", ".xml") and not _no_photographs(wishes):
        given = next(option for option, value in _photographs_options(wishes).items() if value is not None)
        raise ReconError(f"{source}: '{given}' goes with a transforms.json, a folder of COLMAP or of pictures")
    if (mesh is None) == (suffix == ".npz"):
        raise ReconError(f"{source}: '--mesh' goes with keyframes (.npz), and these need it")
    if suffix in (".yaml", ".yml"):
        from recon.capture.synthetic import views_from_scene

        return views_from_scene(path, set_name, wishes.like)
    if suffix == ".blend":
        from recon.capture.blender import views_from_blend

        return views_from_blend(path, set_name, wishes.like, object_name)
    if suffix == ".json":
        from recon.capture.transforms import views_from_transforms

        return views_from_transforms(path, set_name or _set_name(path), wishes)
    if suffix == ".xml":
        from recon.capture.metashape import views_from_metashape

        return views_from_metashape(path, set_name or path.resolve().parent.name, wishes)
    if suffix == ".npz" and mesh is not None:
        if "images" in read_npz(path):
            raise ReconError(f"{source}: is a viewpoint set already; expected {KNOWN}")
        from recon.capture.synthetic import views_from_keyframes

        return views_from_keyframes(path, mesh, set_name or path.stem, wishes.like)
    raise ReconError(f"{source}: not a kind of source that recon knows; expected {KNOWN}")


def _neighbour(folder: Path) -> Callable[[Path, str, Wishes], Views] | None:
    """What reads a folder of another program's data."""
    from recon.capture.iron import is_iron, views_from_iron
    from recon.capture.neus import find_neus, views_from_neus
    from recon.capture.polycam import find_polycam, views_from_polycam

    if find_neus(folder) is not None:
        return views_from_neus
    if is_iron(folder):
        return views_from_iron
    return views_from_polycam if find_polycam(folder) is not None else None


def _photographs_options(wishes: Wishes) -> dict[str, object]:
    """The options that only photographs with poses heed, with what was given."""
    return {"--color-space": wishes.color_space, "--sphere": wishes.sphere, "--size": wishes.size} | {
        "--marker": wishes.marker
    }


def _no_photographs(wishes: Wishes) -> bool:
    return all(value is None for value in _photographs_options(wishes).values())


def extract_keyframes(source: Path, out: Path, set_name: str | None = None) -> None:
    """Write the viewpoints of a scene.yaml or .blend alone to `out` (keyframes.npz).

    Raises:
        ReconError: the source is neither or invalid, or `out` cannot be written.
    """
    from recon.capture.keyframes import write_keyframes

    suffix = source.suffix.lower()
    if suffix not in (".yaml", ".yml", ".blend"):
        raise ReconError(f"{source}: keyframes come from a scene (.yaml) or a .blend")
    if suffix == ".blend":
        from recon.capture.blender import keyframes_from_blend

        keyframes = keyframes_from_blend(source, set_name)
    else:
        from recon.capture.synthetic import keyframes_from_scene

        keyframes = keyframes_from_scene(source, set_name)
    write_keyframes(keyframes, out)


def write_reference(source: Path, out: Path, object_name: str | None = None) -> None:
    """Write the objects of a scene.yaml or .blend as a mesh, in the source's frame: the truth to validate against.

    Raises:
        ReconError: `source` is no scene or invalid, or `out` cannot be written.
    """
    from recon.files import atomic

    suffix = source.suffix.lower()
    if suffix not in (".yaml", ".yml", ".blend"):
        raise ReconError(f"{source}: only a scene (.yaml) or a .blend knows its true mesh")
    if suffix == ".blend":
        from recon.capture.blender import object_from_blend

        mesh = object_from_blend(source, object_name)
    elif object_name is not None:
        raise ReconError(f"{source}: '--object' goes with a .blend")
    else:
        from recon.capture.scene import load_scene
        from recon.capture.world import objects_mesh

        mesh = objects_mesh(load_scene(source), source)
    with atomic(out) as temporary:
        mesh.export(temporary)


def _set_name(path: Path) -> str:
    """`transforms_above.json` is the set `above`; a plain transforms.json is named after its folder."""
    return path.stem.removeprefix("transforms").lstrip("_-") or path.resolve().parent.name

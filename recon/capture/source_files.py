"""The files that a source is made of: a workflow extracts anew when one of them has changed."""

import functools
from pathlib import Path

from recon.capture.notes import say
from recon.errors import ReconError


def source_files(source: Path) -> list[Path]:
    """What `recon extract` reads for `source`, beside the file itself, as far as it is there.

    Raises:
        ReconError: the source cannot be read.
    """
    path = source / "transforms.json" if source.is_dir() else source
    suffix = path.suffix.lower()
    if path.is_file() and suffix in (".yaml", ".yml"):
        from recon.capture.scene import load_scene, scene_files

        return scene_files(load_scene(path), path)
    if path.is_file() and suffix == ".json":
        from recon.capture.transforms import transforms_files

        files = transforms_files(path)
        return [path, *files] if source.is_dir() else files
    if path.is_file() and suffix == ".xml":
        from recon.capture.metashape import metashape_files

        return metashape_files(path)
    if path.is_file() and suffix == ".blend":
        return _linked(path, path.stat().st_mtime_ns)
    return _project(source) if source.is_dir() else []


def _project(folder: Path) -> list[Path]:
    from recon.capture import iron, neus, polycam
    from recon.capture.colmap import Project, find_pictures, find_project, project_files
    from recon.capture.diligent import is_diligent

    if is_diligent(folder):
        return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mat", ".txt", ".png"))
    for has, files in (
        (neus.find_neus, neus.neus_files),
        (iron.is_iron, iron.iron_files),
        (polycam.find_polycam, polycam.polycam_files),
    ):
        if has(folder):
            return [file for file in files(folder) if file.is_file()]
    project, pictures = find_project(folder), find_pictures(folder)
    if project is None and pictures is not None:
        project = Project(pictures, folder / "masks", [])
    return [] if project is None else project_files(project)


@functools.cache
def _linked(path: Path, time: int) -> list[Path]:
    from recon.capture.blend_links import UnreadableError, linked_files

    try:
        files = linked_files(path)
    except UnreadableError:
        from recon.capture.blender import linked_by_blender

        try:
            files = linked_by_blender(path)
        except ReconError as error:  # extraction will end with it; planning need not
            say([f"{error}; whether files that it links have changed is not known"])
            files = []
    return [file for file in files if file.is_file()]

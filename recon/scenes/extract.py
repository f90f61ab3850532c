"""Dataset extraction: whatever a person has becomes views.npz."""

from pathlib import Path

from recon.errors import ReconError
from recon.files import read_npz
from recon.views import Frame, Views, load_views, save_views

KNOWN = "a scene (.yaml), a transforms.json or its folder, or keyframes (.npz) with --mesh"


def extract(
    source: Path, out: Path, *, set_name: str | None = None, mesh: Path | None = None, like: Path | None = None
) -> None:
    """Write one viewpoint set of `source` to `out` (views.npz).

    Args:
        source: a scene.yaml; a transforms.json, or a folder that holds one; a keyframes.npz.
        set_name: which set of a scene; for other sources, how the set is called.
        mesh: what to render from the viewpoints of a keyframes.npz.
        like: a views.npz whose unit frame and radiance scale are taken over, as validation sets do.

    Raises:
        ReconError: the source is of no known kind or invalid, or `out` cannot be written.
    """
    frame = None if like is None else load_views(like)
    save_views(read_source(source, set_name, mesh, frame), out)


def read_source(source: Path, set_name: str | None, mesh: Path | None, like: Frame | None) -> Views:
    """The viewpoint set that `extract` writes."""
    path = source / "transforms.json" if source.is_dir() else source
    if not path.is_file():
        raise ReconError(f"{source}: no such source; expected {KNOWN}")
    suffix = path.suffix.lower()
    if (mesh is None) == (suffix == ".npz"):
        raise ReconError(f"{source}: '--mesh' goes with keyframes (.npz), and these need it")
    if suffix in (".yaml", ".yml"):
        from recon.scenes.synthetic import views_from_scene

        return views_from_scene(path, set_name, like)
    if suffix == ".json":
        from recon.scenes.transforms import views_from_transforms

        return views_from_transforms(path, set_name or _set_name(path), like)
    if suffix == ".npz" and mesh is not None:
        if "images" in read_npz(path):
            raise ReconError(f"{source}: is a viewpoint set already; expected {KNOWN}")
        from recon.scenes.synthetic import views_from_keyframes

        return views_from_keyframes(path, mesh, set_name or path.stem, like)
    raise ReconError(f"{source}: not a kind of source that recon knows; expected {KNOWN}")


def write_reference(source: Path, out: Path) -> None:
    """Write the objects of a scene.yaml as a mesh, in the source's frame: the truth to validate against.

    Raises:
        ReconError: `source` is no scene or invalid, or `out` cannot be written.
    """
    from recon.files import atomic
    from recon.scenes.scene import load_scene
    from recon.scenes.world import objects_mesh

    if source.suffix.lower() not in (".yaml", ".yml"):
        raise ReconError(f"{source}: only a scene (.yaml) knows its true mesh")
    mesh = objects_mesh(load_scene(source), source)
    with atomic(out) as temporary:
        mesh.export(temporary)


def _set_name(path: Path) -> str:
    """`transforms_above.json` is the set `above`; a plain transforms.json is named after its folder."""
    return path.stem.removeprefix("transforms").lstrip("_-") or path.resolve().parent.name

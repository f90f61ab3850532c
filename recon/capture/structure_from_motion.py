"""Poses for a folder of pictures: structure from motion by COLMAP, whose Python package `pycolmap` is an extra.

Features (SIFT) of every picture, matches of every pair, then global mapping (GLOMAP), which places pictures all at
once; then those that it leaves out, one by one; where it leaves too many out, all of them one by one. All is kept in a
folder beside the views, so that the same command goes on where it was stopped:

    database.db     features and matches, as they are found
    pictures.json   the pictures that the database is about, with their SHA-256
    masks/          the pictures' masks as COLMAP wants them
    pictures/       raw files, HEIC and EXR as COLMAP can read them, and links to the others
    sparse/0, 1 …   the models, the largest first
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image

from recon.capture.colmap import Project, find_masks, find_pictures, views_from_project
from recon.capture.framing import NO_WISHES, Wishes
from recon.capture.notes import listed
from recon.capture.posed import pictures_in
from recon.capture.progress import Progress
from recon.capture.upright import as_held, upright
from recon.errors import ReconError
from recon.files import atomic, writable_folder
from recon.images import raw
from recon.images.photograph import SUFFIXES, ColorSpace, read_mask, read_picture
from recon.images.pictures import tone_map, write_picture
from recon.views import Views

FEWEST = 3
"""Pictures below which there is nothing to tell."""

SMALL, LARGE = 1000, 1600
"""Pixels along the longer side: below, features are too few to hold many pictures together; above, they are found in
smaller copies, which is as exact and takes less time."""

BATCH = 8
"""Pictures whose features are found at once: between two batches the command can be stopped."""

ENOUGH = 0.9
"""Share of the pictures that global mapping must place for incremental mapping not to be tried."""

FEW_FEATURES = 100
"""Of a picture that is blurred, dark, or shows nothing with texture."""

FEW_POINTS = 12
"""Points of the model that a camera must see to be where it seems to be."""

PLAIN = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
"""What COLMAP reads."""

ORIENTATION, FOCAL_LENGTH, FOCAL_35MM, EXIF = 274, 37386, 41989, 0x8769
"""EXIF's tags."""


class Pictures(NamedTuple):
    """Pictures without poses: their folder, their names in it, and their masks, if they have any."""

    folder: Path
    names: list[str]
    masks: list[Path | None]


def views_from_pictures(folder: Path, out: Path, set_name: str, wishes: Wishes = NO_WISHES) -> Views:
    """The viewpoint set of a folder of pictures without poses; what finds them is kept beside `out` (`work_folder`).

    Raises:
        ReconError: as `reconstruct` and `views_from_colmap`; masks are called like no picture.
    """
    place = find_pictures(folder)
    if place is None:
        raise ReconError(f"{folder}: holds no picture; expected {', '.join(SUFFIXES)}")
    names, notes = _one_a_photograph([path.name for path in pictures_in(place)], folder)
    masks, work = folder / "masks", work_folder(out)
    outlines = find_masks(masks, names)
    if not (work / "sparse" / "0").is_dir():
        _check_readable(place, names, wishes.color_space)
    at, called = _readable(place, names, work / "pictures")
    models, more = reconstruct(Pictures(at, called, outlines), work, str(folder))
    project = Project(place, masks, [models / "0"])
    files_of = dict(zip(called, names, strict=True))
    return views_from_project(project, folder, set_name, wishes, [*notes, *more], files_of)


def _check_readable(place: Path, names: list[str], color_space: ColorSpace | None) -> None:
    """Raise `ReconError` for a picture that views could not be made of, before minutes are spent on its features.

    Others than COLMAP reads itself are read for `_readable`.
    """
    plain = [name for name in names if Path(name).suffix.lower() in PLAIN]
    with Progress("reading", len(plain)) as progress:
        for name in plain:
            read_picture(place / name, color_space)
            progress.advance()


def _one_a_photograph(names: list[str], folder: Path) -> tuple[list[str], list[str]]:
    """The names without those of pictures that a camera wrote beside a raw file, and a note about these."""
    developed = {Path(name).stem for name in names if Path(name).suffix.lower() in raw.SUFFIXES}
    others = [name for name in names if Path(name).stem in developed and Path(name).suffix.lower() not in raw.SUFFIXES]
    notes = [f"{folder}: {listed(others)}: left out, as the raw files of these names are taken"] if others else []
    return [name for name in names if name not in others], notes


def _readable(place: Path, names: list[str], copies: Path) -> tuple[Path, list[str]]:
    """A folder where COLMAP can read all of the pictures, and their names there: `place`, or links and copies, as JPEG
    called `NAME.jpg`, of those that are neither JPEG, PNG nor TIFF. Names with spaces, at which COLMAP parts its lists,
    are written as in an address."""
    strange = [name for name in names if Path(name).suffix.lower() not in PLAIN]
    if not strange and not any(map(_is_parted, names)):
        return place, names
    writable_folder(copies)
    plain = [quote(name) if _is_parted(name) else name for name in names]
    called = [f"{new}.jpg" if name in strange else new for name, new in zip(names, plain, strict=True)]
    how = raw.development(place / name for name in names)
    with Progress("developing", len(names)) as progress:
        for name, copy in zip(names, called, strict=True):
            target = copies / copy
            if name not in strange:
                target.unlink(missing_ok=True)
                target.symlink_to((place / name).resolve())
            elif not target.is_file() or target.stat().st_mtime_ns != (place / name).stat().st_mtime_ns:
                _copy(place / name, target, how)
            progress.advance()
    return copies, called


def _copy(path: Path, target: Path, how: raw.Development | None) -> None:
    """The picture as sRGB of 8 bits, its brightest hundredth white, with what EXIF says of camera and lens."""
    color = read_picture(path, development=how).color
    shown = Image.fromarray(tone_map(color / max(float(np.quantile(color, 0.99)), 1e-9)))
    with atomic(target) as temporary:
        shown.save(temporary, format="JPEG", quality=95, exif=_lens_exif(path))
    # Of the same time, so that any other photograph of that name is told from this one.
    os.utime(target, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))


def _is_parted(name: str) -> bool:
    """Whether COLMAP does not take `name` for one in a list: it has a space, or begins like a comment."""
    return name.startswith("#") or len(name.split()) != 1


def _lens_exif(path: Path) -> Image.Exif:
    """What raw files say as TIFF does, and others as Pillow reads them; empty where nothing is said."""
    found, kept = Image.Exif(), Image.Exif()
    with suppress(Exception), open(path, "rb") as file:
        if path.suffix.lower() in raw.SUFFIXES:
            found.load_from_fp(file)
        else:
            found = Image.open(file).getexif()
        kept.update({tag: found[tag] for tag in (271, 272, ORIENTATION) if tag in found})
        details = found.get_ifd(EXIF)
        kept.get_ifd(EXIF).update({tag: details[tag] for tag in (FOCAL_LENGTH, FOCAL_35MM) if tag in details})
    return kept


def work_folder(out: Path) -> Path:
    """Where features, matches and models of the viewpoint set `out` are kept."""
    return out.with_name(f"{out.stem}.sfm")


def reconstruct(pictures: Pictures, work: Path, source: str) -> tuple[Path, list[str]]:
    """The folder of models that structure from motion makes of the pictures in the folder `work`, and notes.

    Raises:
        ReconError: there is no pycolmap; there are too few pictures, or one cannot be read; no two of them show the
            same.
    """
    pycolmap = _pycolmap(source)
    if len(pictures.names) < FEWEST:
        raise ReconError(
            f"{source}: holds {len(pictures.names)} pictures; structure from motion needs {FEWEST}, "
            "and 30 or more do better"
        )
    notes = [f"{source}: the scale is unknown: lengths are in a unit of structure from motion's own"]
    cameras = _cameras(pictures, source, notes)
    writable_folder(work)
    models, database = work / "sparse", work / "database.db"
    if _begin(pictures, work) and (models / "0").is_dir():
        return models, [*notes, *_unplaced(pycolmap, pictures, models, database, source)]
    with _quiet(pycolmap):
        _features(pycolmap, pictures, cameras, work / "masks", database)
        _matches(pycolmap, pictures, database, work)
        found = _map(pycolmap, pictures, database, source, notes)
        for model in found:
            _turn_upright(pycolmap, model, pictures.folder)
        _write_models(found, models)
    return models, [*notes, *_unplaced(pycolmap, pictures, models, database, source)]


def _pycolmap(source: str) -> Any:
    try:
        import pycolmap
    except ImportError:
        raise ReconError(
            f"{source}: pictures without poses need pycolmap: pip install -e '.[colmap]' in recon's checkout"
        ) from None
    return pycolmap


@contextmanager
def _quiet(pycolmap: Any) -> Iterator[None]:
    """COLMAP tells every step on standard error; a person gets a bar."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


# What the pictures are


def _cameras(pictures: Pictures, source: str, notes: list[str]) -> list[list[str]]:
    """The pictures' names by the camera that took them: those of one size, model and focal length; with notes."""
    groups: dict[tuple[object, ...], list[str]] = {}
    without, sides = [], []
    for name in pictures.names:
        size, model, focal = _exif(pictures.folder / name)
        groups.setdefault((size, model, focal), []).append(name)
        sides.append(max(size))
        if focal is None:
            without.append(name)
    if without:
        notes.append(
            f"{source}: {listed(without)}: no focal length in EXIF: it is found from the pictures, from 1.2 times "
            "their longer side on, which may fail; pictures as the camera wrote them do better"
        )
    if len(groups) > 1:
        cameras = [f"{key[1] or 'unknown'} {key[0][0]}x{key[0][1]} ({len(names)})" for key, names in groups.items()]  # type: ignore[index]
        notes.append(
            f"{source}: pictures of {len(groups)} cameras or focal lengths, each with a lens of its own: "
            f"{listed(cameras)}"
        )
    if min(sides) < SMALL:
        notes.append(
            f"{source}: pictures of {min(sides)} pixels along the longer side are small for structure from motion; "
            f"expected {SMALL} or more"
        )
    return list(groups.values())


def _exif(path: Path) -> tuple[tuple[int, int], str | None, float | None]:
    """Width and height, the camera's model, and the focal length in millimetres; None where EXIF does not say it."""
    try:
        with Image.open(path) as image:
            exif = image.getexif()
            details = exif.get_ifd(EXIF)
            focal = details.get(FOCAL_LENGTH) or details.get(FOCAL_35MM)
            focal = float(focal) if focal else math.nan  # 0/0 is what a lens without a chip says
            return image.size, exif.get(272), focal if math.isfinite(focal) else None
    except Exception as error:  # Pillow's errors for damaged files have no common base
        raise ReconError(f"{path}: not a readable picture: {' '.join(str(error).split())}") from error


def _orientation(path: Path) -> int:
    """EXIF's, 1 where it says none."""
    with Image.open(path) as image:
        return int(image.getexif().get(ORIENTATION, 1))


def _begin(pictures: Pictures, work: Path) -> bool:
    """Make `work` about these pictures; whether it was already. What is known of other pictures of that name goes."""
    files = [*(pictures.folder / name for name in pictures.names), *(mask for mask in pictures.masks if mask)]
    digests = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    listing = work / "pictures.json"
    before: dict[str, str] = json.loads(listing.read_text()) if listing.is_file() else {}
    if before == digests:
        return True
    if any(digests.get(name) != digest for name, digest in before.items()):
        for path in work.glob("database.db*"):
            path.unlink()
    for name in ("sparse", "masks"):
        shutil.rmtree(work / name, ignore_errors=True)
    with atomic(listing) as temporary:
        temporary.write_text(json.dumps(digests, indent=1))
    return False


# Features and matches


def _features(pycolmap: Any, pictures: Pictures, cameras: list[list[str]], masks: Path, database: Path) -> None:
    if any(pictures.masks):
        _write_masks(pictures, masks)
    options = pycolmap.FeatureExtractionOptions(max_image_size=LARGE, use_gpu=False)
    with Progress("features", len(pictures.names)) as progress:
        for names in cameras:
            known = _images(pycolmap, database)
            camera = next((known[name].camera_id for name in names if name in known), None)
            for start in range(0, len(names), BATCH):
                batch = names[start : start + BATCH]
                reader = pycolmap.ImageReaderOptions(mask_path=str(masks) if any(pictures.masks) else "")
                if camera is not None:
                    reader.existing_camera_id = camera
                mode, device = pycolmap.CameraMode.SINGLE, pycolmap.Device.cpu
                pycolmap.extract_features(str(database), str(pictures.folder), batch, mode, reader, options, device)
                known = _images(pycolmap, database)
                lost = next((name for name in batch if name not in known), None)
                if lost is not None:
                    raise ReconError(f"{pictures.folder / lost}: COLMAP cannot read this picture, or its mask")
                camera = known[batch[0]].camera_id
                progress.advance(len(batch))


def _images(pycolmap: Any, database: Path) -> dict[str, Any]:
    """The images of the database by their names."""
    if not database.is_file():
        return {}
    with pycolmap.Database.open(str(database)) as opened:
        return {image.name: image for image in opened.read_all_images()}


def _write_masks(pictures: Pictures, folder: Path) -> None:
    """As COLMAP wants them: `NAME.png`, black where no feature is to be taken."""
    for name, mask in zip(pictures.names, pictures.masks, strict=True):
        if mask is None:
            continue
        outline, (width, height) = read_mask(mask), _exif(pictures.folder / name)[0]
        if outline.shape != (height, width):
            raise ReconError(
                f"{mask}: has {outline.shape[1]}x{outline.shape[0]} pixels, expected the picture's {width}x{height}"
            )
        write_picture(np.repeat(outline[..., None].astype(np.uint8) * 255, 3, axis=2), folder / f"{name}.png")


def _matches(pycolmap: Any, pictures: Pictures, database: Path, work: Path) -> None:
    """Of every picture with all that follow; pairs that the database has already are passed over."""
    options = pycolmap.FeatureMatchingOptions(use_gpu=False)
    pairing = pycolmap.ImportedPairingOptions()
    total = len(pictures.names) * (len(pictures.names) - 1) // 2
    with Progress("matching pairs", total) as progress, tempfile.TemporaryDirectory(dir=work) as folder:
        listing = Path(folder) / "pairs.txt"
        for name, rest in ((name, pictures.names[i + 1 :]) for i, name in enumerate(pictures.names[:-1])):
            listing.write_text("".join(f"{name} {other}\n" for other in rest))
            pairing.match_list_path = str(listing)
            pycolmap.match_image_pairs(
                str(database), matching_options=options, pairing_options=pairing, device=pycolmap.Device.cpu
            )
            progress.advance(len(rest))


# Models


def _map(pycolmap: Any, pictures: Pictures, database: Path, source: str, notes: list[str]) -> list[Any]:
    """The models, the largest first."""
    with pycolmap.Database.open(str(database)) as opened:
        pairs = sum(inliers > 0 for inliers in opened.read_two_view_geometry_num_inliers()[1])
    if pairs == 0:
        raise ReconError(
            f"{source}: no two pictures show the same: structure from motion needs neighbours that overlap by two "
            "thirds"
            + ("; and no EXIF says their focal length" if any("no focal length" in note for note in notes) else "")
        )
    found = _global(pycolmap, pictures, database)
    if 0 < _placed(found) < len(pictures.names):
        found[0] = _continued(pycolmap, pictures, database, found[0])
    if _placed(found) < ENOUGH * len(pictures.names):
        found = max(found, _incremental(pycolmap, pictures, database), key=_placed)
    if not found:
        raise ReconError(
            f"{source}: structure from motion places no picture: {pairs} pairs of {len(pictures.names)} pictures "
            "overlap, but they do not hold together; take more pictures, with smaller steps, of an object with texture"
        )
    return found


def _placed(models: list[Any]) -> int:
    return int(models[0].num_reg_images()) if models else 0


def _global(pycolmap: Any, pictures: Pictures, database: Path) -> list[Any]:
    options = pycolmap.GlobalPipelineOptions(random_seed=0)
    options.mapper.random_seed = 0
    with Progress("placing cameras", 1), tempfile.TemporaryDirectory() as folder:
        try:
            found = pycolmap.global_mapping(str(database), str(pictures.folder), folder, options)
        except (RuntimeError, ValueError):  # what COLMAP's checks become, where too little hangs together
            return []
    return _by_size(found)


def _continued(pycolmap: Any, pictures: Pictures, database: Path, model: Any) -> Any:
    """The model with pictures that global mapping left out, or placed at random, registered one by one."""
    options = _relaxed(pycolmap)
    options.multiple_models = False
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        before.mkdir()
        after.mkdir()
        model.write(str(before))
        try:
            found = pycolmap.incremental_mapping(
                str(database), str(pictures.folder), str(after), options, input_path=str(before)
            )
        except (RuntimeError, ValueError):
            return model
    return max([model, *_by_size(found)], key=lambda each: each.num_reg_images())


def _incremental(pycolmap: Any, pictures: Pictures, database: Path) -> list[Any]:
    options = _relaxed(pycolmap)
    with (
        Progress("placing cameras one by one", len(pictures.names)) as progress,
        tempfile.TemporaryDirectory() as folder,
    ):
        try:
            found = pycolmap.incremental_mapping(
                str(database), str(pictures.folder), folder, options, next_image_callback=progress.advance
            )
        except (RuntimeError, ValueError):
            return []
    return _by_size(found)


def _relaxed(pycolmap: Any) -> Any:
    """Incremental mapping with thresholds for few features on an object in the middle of the pictures."""
    options = pycolmap.IncrementalPipelineOptions(random_seed=0, min_model_size=FEWEST)
    options.mapper.init_min_num_inliers = 50
    options.mapper.init_min_tri_angle = 8.0
    options.mapper.abs_pose_min_num_inliers = 15
    options.mapper.abs_pose_min_inlier_ratio = 0.1
    options.mapper.max_reg_trials = 10
    return options


def _by_size(models: dict[int, Any]) -> list[Any]:
    """The largest first, without cameras that see hardly a point: global mapping places them anywhere."""
    for model in models.values():
        for image in list(model.images.values()):
            if image.has_pose and image.num_points3D < FEW_POINTS:
                model.deregister_frame(image.frame_id)
    found = [model for model in models.values() if model.num_reg_images() >= FEWEST]
    return sorted(found, key=lambda model: -model.num_reg_images())


def _turn_upright(pycolmap: Any, model: Any, folder: Path) -> None:
    """Have z up, which structure from motion leaves to chance."""
    images = [image for image in model.images.values() if image.has_pose]
    held = [as_held(image.cam_from_world().rotation.matrix().T, _orientation(folder / image.name)) for image in images]
    turned = upright(np.stack(held))
    if turned is not None:
        model.transform(pycolmap.Sim3d(1.0, pycolmap.Rotation3d(turned), np.zeros(3)))


def _write_models(models: list[Any], folder: Path) -> None:
    """All of them or none."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        for i, model in enumerate(models):
            (Path(made) / "sparse" / str(i)).mkdir(parents=True)
            model.write(str(Path(made) / "sparse" / str(i)))
        (Path(made) / "sparse").rename(folder)


def _unplaced(pycolmap: Any, pictures: Pictures, models: Path, database: Path, source: str) -> list[str]:
    """A line for each reason why pictures are not in the largest model."""
    largest = pycolmap.Reconstruction(str(models / "0"))
    placed = {image.name for image in largest.images.values() if image.has_pose}
    images = _images(pycolmap, database)
    with pycolmap.Database.open(str(database)) as opened:
        features = {name: opened.num_keypoints_for_image(image.image_id) for name, image in images.items()}
        partners = _partners(pycolmap, opened, images)
    reasons: dict[str, list[str]] = {}
    for name in pictures.names:
        if name not in placed:
            reasons.setdefault(_reason(features[name], partners[name], partners[name] & placed), []).append(name)
    return [
        f"{source}: {listed(names)}: not placed by structure from motion, and left out: {reason}"
        for reason, names in reasons.items()
    ]


def _reason(features: int, partners: set[str], placed: set[str]) -> str:
    if features < FEW_FEATURES:
        return "few features: blurred, dark, or nothing with texture in sight"
    if not partners:
        return "no other picture shows the same from nearby: take some in between"
    if not placed:
        return "it matches only others that are not placed: take some in between"
    return (
        "what it has in common with the others is too little, or contradicts them: a side that looks alike, or things "
        "that moved"
    )


def _partners(pycolmap: Any, opened: Any, images: dict[str, Any]) -> dict[str, set[str]]:
    """Of each picture, those that it has verified matches with."""
    names = {image.image_id: name for name, image in images.items()}
    found: dict[str, set[str]] = {name: set() for name in images}
    for pair, inliers in zip(*opened.read_two_view_geometry_num_inliers(), strict=True):
        if inliers:
            first, second = (names[i] for i in pycolmap.pair_id_to_image_pair(pair))
            found[first].add(second)
            found[second].add(first)
    return found

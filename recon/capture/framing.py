"""From photographs, one at a time, to the images of a viewpoint set: where the object is, and views of one size around
it."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from recon.capture.marker import MarkerFinder, Scale
from recon.capture.normalise import (
    frame_from_cameras,
    frame_from_masks,
    frame_from_points,
    frame_from_still,
    masks_from_black,
)
from recon.capture.notes import listed
from recon.capture.photographs import Photo, Shot, undistorted
from recon.capture.poses import poses_in_unit_frame
from recon.capture.progress import Progress
from recon.capture.resample import reduced, resampled, square_around, square_intrinsics
from recon.errors import ReconError
from recon.frames import frame_scale, moved
from recon.geometry.meshes import similarity
from recon.images.photograph import ColorSpace
from recon.views import Frame, Views

LARGEST = 512
"""Pixels along a side up to which photographs of one size are views as they are, and which views get at most."""

SMALLEST = 16
"""Pixels along a side below which nothing can be told from a view."""

MARGIN = 0.15
"""By how much a view is wider than the unit sphere where a background is learned too."""

PREVIEW = 320
"""Pixels along a side of what the frame is found from."""


class Wishes(NamedTuple):
    """What a person says of the views to be made of photographs.

    Attributes:
        like: whose unit frame and radiance scale are taken over.
        sphere: centre and radius, in the source's frame, of what becomes the unit sphere.
        size: pixels along each side of a view.
        color_space: what the samples of pictures are, whatever the files say.
        marker: millimetres along a side of an ArUco marker in the photographs, which tells the scale.
        like_size: the `size` of the set whose frame is taken over, where that was made of photographs; it holds where
            no size is said.
    """

    like: Frame | None = None
    sphere: tuple[float, float, float, float] | None = None
    size: int | None = None
    color_space: ColorSpace | None = None
    marker: float | None = None
    like_size: int | None = None


NO_WISHES = Wishes()
"""Everything as the photographs tell it."""


class Points(NamedTuple):
    """Points of structure from motion in the source's frame, and the pairs (point, photograph) of who sees what."""

    places: Float[np.ndarray, "p 3"]
    observations: Int[np.ndarray, "o 2"]

    @property
    def counts(self) -> Int[np.ndarray, " p"]:
        """How many photographs see each."""
        return np.bincount(self.observations[:, 0], minlength=len(self.places))


@dataclass(frozen=True, eq=False)
class Framed:
    """Photographs as pictures of one size, with the unit frame and radiance scale that they get.

    Attributes:
        photos: what they were made to, without their masks; in the order of `shown`.
        shown: numbers of the shots that are views: those that show anything of the sphere.
        images: linear radiance as the files have it.
        poses: camera-to-world in the source's frame.
        framed_by: what `world_from_unit` comes from.
        size: pixels along each side where the views are squares around the unit sphere; None: the photographs as they
        are. notes: what is worth a line.
        scale: how long a unit of the source's frame is, where a marker told it.
    """

    photos: list[Photo]
    shown: list[int]
    images: Float32[np.ndarray, "n h w 3"]
    masks: Bool[np.ndarray, "n h w"] | None
    known: Bool[np.ndarray, "n h w"] | None
    poses: Float[np.ndarray, "n 4 4"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    world_from_unit: Float[np.ndarray, "4 4"]
    radiance_scale: float
    framed_by: str
    size: int | None
    notes: list[str]
    points: Points | None
    scale: Scale | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """For the metadata: what the frame comes from, the size of views that were resampled, what a marker told."""
        scale = {} if self.scale is None else {"scale": self.scale.as_dict()}
        return {"framed_by": self.framed_by} | ({} if self.size is None else {"size": self.size}) | scale

    def views(self, metadata: dict[str, Any], light_position: Float[np.ndarray, "n 3"] | None = None) -> Views:
        """The viewpoint set; `light_position` in the unit frame."""
        points, observations = (None, None) if self.points is None else _unit_points(self.points, self)
        return Views(
            images=self.images / np.float32(self.radiance_scale),
            masks=None if self.masks is None else self.masks.astype(np.uint8) * 255,
            known=None if self.known is None else self.known.astype(np.uint8) * 255,
            camera_to_world=poses_in_unit_frame(self.poses, self.world_from_unit),
            intrinsics=self.intrinsics,
            radiance_scale=self.radiance_scale,
            world_from_unit=self.world_from_unit,
            light_position=light_position,
            points=points,
            observations=observations,
            metadata=metadata,
        )


def framed(
    shots: list[Shot], missing: str, source: str, wishes: Wishes = NO_WISHES, points: Points | None = None
) -> Framed:
    """The photographs as views of one size in a common frame: the one wished for, or else as `unit_frame` finds it.

    Photographs of one size of at most 512 pixels stay as they are, straightened, unless another size is asked for. All
    others become squares around the unit sphere, and are read twice for it: once small, to find the object, and once to
    be resampled. Only one is in memory at a time.

    Args:
        missing: what is said of a photograph without a mask among others that have one.
        source: what errors call all of them together.

    Raises:
        ReconError: some have masks and others not; all is black; the object's place cannot be told; the sphere wished
            for is in no picture, or holds a camera; the marker wished for cannot be placed.
    """
    marker = None if wishes.marker is None else MarkerFinder(wishes.marker)
    side = wishes.size or wishes.like_size
    looked = _look(shots, side, marker)
    scale = None if marker is None else marker.scale(source)
    poses = np.stack([photo.pose for photo in looked.photos])
    if wishes.sphere is not None:
        _check_sphere(wishes.sphere, poses, [shot.name for shot in shots], source)
    world_from_unit, framed_by = _frame(looked, missing, source, [shot.name for shot in shots], wishes, points)
    shown, size, notes = list(range(len(shots))), None, list[str]()
    photos = looked.photos
    if not looked.native:
        plain = looked.masks(shots, missing) is None and framed_by != "black background"
        squares = _squares(world_from_unit, poses, MARGIN if plain else 0.0)
        shown, notes = _shown(squares, looked, shots, source)
        size = side or _resolution(squares, looked, shown)
        photos = _resample(shots, squares, shown, size)
    names = [shots[i].name for i in shown]
    masks, known = common_masks(photos, names, missing), known_pixels(photos, names)
    images = np.stack([photo.picture.color for photo in photos])
    peak = float(images.max())
    if peak <= 0:
        raise ReconError(f"{source}: all pictures are black")
    return Framed(
        photos=photos,
        shown=shown,
        images=images,
        masks=masks,
        known=known,
        poses=poses[shown],
        intrinsics=np.stack([photo.intrinsics for photo in photos]),
        world_from_unit=world_from_unit,
        radiance_scale=peak if wishes.like is None else wishes.like.radiance_scale,
        framed_by=framed_by,
        size=size,
        notes=notes,
        points=points,
        scale=scale,
    )


class _Looked(NamedTuple):
    """The photographs after the first look: as they are, straightened, or small.

    Attributes:
        native: they are views as they are.
        intrinsics, sizes: of the photographs, whatever became of them.
    """

    photos: list[Photo]
    native: bool
    intrinsics: Float[np.ndarray, "n 3 3"]
    sizes: Int[np.ndarray, "n 2"]

    def masks(self, shots: list[Shot], missing: str) -> Bool[np.ndarray, "n h w"] | None:
        return common_masks(self.photos, [shot.name for shot in shots], missing)


def _look(shots: list[Shot], size: int | None, marker: MarkerFinder | None) -> _Looked:
    """Read every photograph once, and keep it while all are small and of one size."""
    native, photos = True, list[Photo]()
    matrices, sizes = [], []
    with Progress("looking at photographs", len(shots)) as progress:
        for shot in shots:
            photo = shot.read()
            if marker is not None:
                marker.look(photo, shot.name)
            matrices.append(photo.intrinsics)
            sizes.append(photo.size)
            fits = max(photo.size) <= LARGEST if size is None else photo.size == (size, size)
            if native and not (fits and photo.size == sizes[0]):
                native, photos = False, [_preview(each) for each in photos]
            photos.append(photo if native else _preview(photo))
            progress.advance()
    if native:
        photos = [undistorted(photo) for photo in photos]
    return _Looked(photos, native, np.stack(matrices), np.array(sizes))


def _preview(photo: Photo) -> Photo:
    """The whole photograph, straightened, in the corner of a square."""
    photo = reduced(photo, 2 * PREVIEW)
    scale = PREVIEW / max(photo.size)
    small = np.diag([scale, scale, 1.0]) @ photo.intrinsics
    return resampled(photo, small, PREVIEW, PREVIEW)


def _frame(
    looked: _Looked, missing: str, source: str, names: list[str], wishes: Wishes, points: Points | None
) -> tuple[Float[np.ndarray, "4 4"], str]:
    if wishes.like is not None:
        return wishes.like.world_from_unit, "like"
    if wishes.sphere is not None:
        return similarity(np.array(wishes.sphere[:3]), wishes.sphere[3]), "sphere"
    return unit_frame(
        np.stack([photo.picture.color for photo in looked.photos]),
        common_masks(looked.photos, names, missing),
        np.stack([photo.pose for photo in looked.photos]),
        np.stack([photo.intrinsics for photo in looked.photos]),
        source,
        points,
        known_pixels(looked.photos, names),
        (looked.intrinsics, looked.sizes),
    )


def unit_frame(
    images: Float32[np.ndarray, "n h w 3"],
    masks: Bool[np.ndarray, "n h w"] | None,
    poses: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    source: str,
    points: Points | None,
    known: Bool[np.ndarray, "n h w"] | None,
    lenses: tuple[Float[np.ndarray, "n 3 3"], Int[np.ndarray, "n 2"]],
) -> tuple[Float[np.ndarray, "4 4"], str]:
    """`world_from_unit`, and what it comes from: the masks, or pictures of an object before black; else
    `points` on surfaces; else what moves before a background that stays; else where the cameras look.

    Args:
        known: pixels that say something.
        lenses: intrinsics and sizes of the photographs as they were taken.

    Raises:
        ReconError: the object's place cannot be told.
    """
    if masks is not None and not (masks if known is None else masks | ~known).all():
        return frame_from_masks(poses, intrinsics, masks, source, known), "masks"
    silhouettes = None if masks is not None else masks_from_black(images, known)
    if silhouettes is not None:
        with suppress(ReconError):  # a guess that fails is no fault of the input
            return frame_from_masks(poses, intrinsics, silhouettes, source, known), "black background"
    if points is not None:
        frame = frame_from_points(points.places, points.counts, poses, *lenses)
        if frame is not None:
            return frame, "points"
    with suppress(ReconError):
        if (frame := frame_from_still(poses, intrinsics, images, known, source)) is not None:
            return frame, "still background"
    return frame_from_cameras(poses, *lenses, source), "cameras"


def _check_sphere(
    sphere: tuple[float, float, float, float], poses: Float[np.ndarray, "n 4 4"], names: list[str], source: str
) -> None:
    distances = np.linalg.norm(poses[:, :3, 3] - sphere[:3], axis=1)
    if distances.min() <= sphere[3]:
        raise ReconError(
            f"{names[distances.argmin()]}: the camera is {distances.min():.4g} from the centre of '--sphere', inside "
            f"its radius of {sphere[3]:.4g}; expected all cameras outside"
        )


_Square = tuple[float, float, float] | None


def _squares(
    world_from_unit: Float[np.ndarray, "4 4"], poses: Float[np.ndarray, "n 4 4"], margin: float
) -> list[_Square]:
    radius = frame_scale(world_from_unit)
    return [square_around(world_from_unit[:3, 3], radius, pose, margin) for pose in poses]


def _shown(squares: list[_Square], looked: _Looked, shots: list[Shot], source: str) -> tuple[list[int], list[str]]:
    """Numbers of the photographs whose picture and square overlap, and a note about the others."""
    shown = [
        i
        for i, (square, matrix, size) in enumerate(zip(squares, looked.intrinsics, looked.sizes, strict=True))
        if square is not None and _overlap(square, matrix, size)
    ]
    if not shown:
        raise ReconError(
            f"{source}: the unit sphere lies outside all pictures; expected '--sphere' in the source's frame"
        )
    others = [shots[i].path.name for i in range(len(shots)) if i not in shown]
    notes = [f"{source}: {listed(others)}: shows nothing of the unit sphere: left out"] if others else []
    return shown, notes


def _overlap(square: tuple[float, float, float], matrix: Float[np.ndarray, "3 3"], size: Int[np.ndarray, "2"]) -> bool:
    """Whether at least a tenth of the square's width and height lies in the picture."""
    middle, half = np.array(square[:2]), square[2] / 2
    low = (np.zeros(2) - matrix[:2, 2]) / np.diag(matrix)[:2]
    high = (size[::-1] - matrix[:2, 2]) / np.diag(matrix)[:2]
    return bool((np.minimum(middle + half, high) - np.maximum(middle - half, low) > 0.2 * half).all())


def _resolution(squares: list[_Square], looked: _Looked, shown: list[int]) -> int:
    """Pixels along a side of what most photographs have in their square, in steps of 4."""
    sides = [square[2] * float(looked.intrinsics[i, 0, 0]) for i in shown if (square := squares[i]) is not None]
    return int(np.clip(np.median(sides) // 4 * 4, SMALLEST, LARGEST))


def _resample(shots: list[Shot], squares: list[_Square], shown: list[int], size: int) -> list[Photo]:
    photos = []
    with Progress(f"resampling to {size}×{size}", len(shown)) as progress:
        for i in shown:
            square = squares[i]
            assert square is not None  # else it is not shown
            photos.append(resampled(shots[i].read(), square_intrinsics(square, size), size, size))
            progress.advance()
    return photos


def _unit_points(points: Points, found: Framed) -> tuple[Float32[np.ndarray, "q 3"], Int[np.ndarray, "o 2"]]:
    """The points that the views see, in the unit frame, with their observations by the numbers of the views."""
    number = np.full(1 + max([*found.shown, *points.observations[:, 1]], default=0), -1)
    number[found.shown] = np.arange(len(found.shown))
    kept = np.column_stack([points.observations[:, 0], number[points.observations[:, 1]]])
    kept = np.unique(kept[kept[:, 1] >= 0], axis=0)
    seen, kept[:, 0] = np.unique(kept[:, 0], return_inverse=True)
    unit = moved(points.places[seen], np.linalg.inv(found.world_from_unit))
    return unit.astype(np.float32), kept.astype(np.int32)


def known_pixels(photos: list[Photo], names: list[str]) -> Bool[np.ndarray, "n h w"] | None:
    """Which pixels the photographs show; None where all are. `names`: what errors call the photographs."""
    for photo, name in zip(photos, names, strict=True):
        if photo.known is not None and not photo.known.any():
            raise ReconError(f"{name}: undoing the lens's distortion leaves no pixel: are its coefficients right?")
    if all(photo.known is None for photo in photos):
        return None
    return np.stack([np.ones(photo.size, bool) if photo.known is None else photo.known for photo in photos])


def common_masks(photos: list[Photo], names: list[str], missing: str) -> Bool[np.ndarray, "n h w"] | None:
    """Masks of the files, else alpha; None where there are none. Alpha that is full throughout is no mask.

    Args:
        names: what errors call the photographs.
        missing: what is said of a photograph without a mask among others that have one.

    Raises:
        ReconError: some have masks, or opacity that is not full, and some not; or a mask is empty.
    """
    given = [photo.mask is not None for photo in photos]
    if any(given) and not all(given):
        raise ReconError(f"{names[given.index(False)]} {missing}, but others have one")
    if all(given):
        masks = [photo.mask for photo in photos if photo.mask is not None]
    else:
        opaque = [_opaque(photo) for photo in photos]
        if all(
            mask is None or mask.all() or (photo.known is not None and mask[photo.known].all())
            for mask, photo in zip(opaque, photos, strict=True)
        ):
            return None
        without = next((name for name, mask in zip(names, opaque, strict=True) if mask is None), None)
        if without is not None:
            raise ReconError(f"{without} has no opacity, but others have one, which is their mask")
        masks = [mask for mask in opaque if mask is not None]
    for name, mask in zip(names, masks, strict=True):
        if not mask.any():
            raise ReconError(f"{name}: the mask is empty")
    return np.stack(masks)


def _opaque(photo: Photo) -> Bool[np.ndarray, "h w"] | None:
    if photo.picture.alpha is None:
        return None
    opaque = photo.picture.alpha > 0.5
    return opaque if photo.known is None else opaque & photo.known

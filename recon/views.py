"""A viewpoint set: calibrated linear images of one object, as `views.npz`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, UInt8

from recon.errors import ReconError
from recon.files import atomic, read_npz
from recon.frames import frame_scale, moved, moved_poses
from recon.views_checks import FORMAT_VERSION, POINTS, check_arrays, check_keys, parsed_metadata

LIGHTS = ("light_position", "light_direction")
"""The keys that say where the light is; without either it is at the camera."""

WRITTEN_BY = "; `recon extract` writes it"
"""What to add where a file is missing."""

TRUTH = ("albedo", "roughness")
"""The keys that only scenes with declared materials have: what a reconstruction is measured against."""

OPTIONAL = ("masks", "known", "backgrounds", *LIGHTS, *TRUTH)
"""The keys that a set may lack; each has an entry a view."""


@runtime_checkable
class Frame(Protocol):
    """A unit frame and a radiance scale: those of a viewpoint set, or of a model trained on one."""

    @property
    def world_from_unit(self) -> Float64[np.ndarray, "4 4"]: ...

    @property
    def radiance_scale(self) -> float: ...


@dataclass(frozen=True, eq=False)
class Views:
    """Images of one object from `n` calibrated viewpoints, each lit by one light: the camera's flash, or
    a near light of known position, or a distant one of known direction.

    Attributes:
        images: linear radiance divided by `radiance_scale`.
        camera_to_world: rigid poses in the unit frame; OpenCV axes (x right, y down, z forward).
        intrinsics: pinhole matrices in pixels; pixel centres lie at half-integers.
        masks: 255 where the object is seen, or None where unknown.
        backgrounds: what the same viewpoints show without the object, as `images`, or None where unknown.
        known: 255 where a photograph shows the pixel, 0 where none does, as beyond the border of a picture whose
            lens was straightened; None where all are known. What is not known is compared with nothing.
        albedo: where it is known, the object's linear diffuse albedo, 0 beside it; relative to white, not to
            `radiance_scale`.
        roughness: where it is known, that of the object's glossy layer, whose GGX alpha is its square; 0 where all
            is diffuse and beside the object.
        radiance_scale: the source's radiance that an image value of 1 stands for.
        world_from_unit: the similarity from the unit frame to the source's frame.
        metadata: format version, set name, source, settings, tool versions.
        light_position: of each image's point light in the unit frame; irradiance falls with 1/r^2.
        light_direction: of each image's distant light in the unit frame: unit vectors from the surface
            to the light; irradiance does not fall. Without either key the light is at the camera.
        points: on surfaces, of the object and of what is around it, in the unit frame: what structure from motion
            found. They have errors, and some are plainly wrong. None where there are none.
        observations: which view sees which point: pairs (point, view), each once, sorted; None without `points`.
    """

    images: Float32[np.ndarray, "n h w 3"]
    camera_to_world: Float64[np.ndarray, "n 4 4"]
    intrinsics: Float64[np.ndarray, "n 3 3"]
    masks: UInt8[np.ndarray, "n h w"] | None = None
    radiance_scale: float = 1.0
    world_from_unit: Float64[np.ndarray, "4 4"] = field(default_factory=lambda: np.eye(4))
    metadata: dict[str, Any] = field(default_factory=dict)
    light_position: Float64[np.ndarray, "n 3"] | None = None
    light_direction: Float64[np.ndarray, "n 3"] | None = None
    backgrounds: Float32[np.ndarray, "n h w 3"] | None = None
    known: UInt8[np.ndarray, "n h w"] | None = None
    albedo: Float32[np.ndarray, "n h w 3"] | None = None
    roughness: Float32[np.ndarray, "n h w"] | None = None
    points: Float32[np.ndarray, "p 3"] | None = None
    observations: Int32[np.ndarray, "o 2"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def height(self) -> int:
        return self.images.shape[1]

    @property
    def width(self) -> int:
        return self.images.shape[2]

    @property
    def digest(self) -> str:
        """SHA-256 of all but the metadata, in hexadecimal digits: what a training sees of the set."""
        digest = hashlib.sha256()
        for key, array in sorted(_arrays(self).items()):
            digest.update(f"{key} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def metres(self) -> float | None:
        """How long a unit of the source's frame is, where a marker told it.

        Raises:
            ReconError: the metadata hold something else than a length.
        """
        found = self._scale.get("metres")
        if found is None:
            return None
        if not (isinstance(found, float) and 0 < found < float("inf")):
            raise ReconError(f"views: key 'metadata', 'settings.scale.metres' must be a positive number, got {found!r}")
        return found

    @property
    def up(self) -> list[float] | None:
        """Which way is up in the source's frame, where a marker told it."""
        return self._scale.get("up")

    @property
    def published(self) -> float | None:
        """The loss that a report of others gives for this very set, where the scene that it shows says so."""
        return self._settings("published").get(str(self.metadata.get("set")))

    @property
    def _scale(self) -> dict[str, Any]:
        return self._settings("scale")

    def _settings(self, key: str) -> dict[str, Any]:
        """The mapping `key` among the settings of the source; empty where there is none."""
        settings = self.metadata.get("settings")
        found = settings.get(key) if isinstance(settings, dict) else None
        return found if isinstance(found, dict) else {}

    def select(self, index: slice | np.ndarray) -> "Views":
        """The views at `index`, in that order, with the points that any of them sees."""
        optional = {key: array[index] for key in OPTIONAL if (array := getattr(self, key)) is not None}
        points, observations = points_seen(self.points, self.observations, np.arange(len(self))[index])
        return replace(
            self,
            points=points,
            observations=observations,
            images=self.images[index],
            camera_to_world=self.camera_to_world[index],
            intrinsics=self.intrinsics[index],
            **optional,
        )

    def aligned_to(self, other: Frame) -> "Views":
        """The same views in the unit frame and radiance scale of `other`.

        Two sets of one scene that were extracted on their own have each their own unit frame; both
        share the source's frame, through which this goes.
        """
        transform = np.linalg.inv(other.world_from_unit) @ self.world_from_unit
        gain = np.float32(self.radiance_scale / other.radiance_scale)
        position, direction = self.light_position, self.light_direction
        return replace(
            self,
            light_position=None if position is None else moved(position, transform),
            light_direction=None if direction is None else direction @ transform[:3, :3].T / frame_scale(transform),
            images=self.images * gain,
            backgrounds=None if self.backgrounds is None else self.backgrounds * gain,
            points=None if self.points is None else moved(self.points, transform).astype(np.float32),
            camera_to_world=moved_poses(self.camera_to_world, transform),
            radiance_scale=other.radiance_scale,
            world_from_unit=other.world_from_unit,
        )


def points_seen(
    points: Float32[np.ndarray, "p 3"] | None,
    observations: Int32[np.ndarray, "o 2"] | None,
    chosen: Int64[np.ndarray, " k"],
) -> tuple[Float32[np.ndarray, "q 3"] | None, Int32[np.ndarray, "r 2"] | None]:
    """The points that the `chosen` views see, and these views' observations by their new numbers."""
    if points is None or observations is None:
        return None, None
    point, view = observations.T
    parts = [np.stack([point[view == old], np.full((view == old).sum(), new)], 1) for new, old in enumerate(chosen)]
    kept = np.concatenate(parts)
    kept = kept[np.lexsort(kept.T[::-1])]
    seen, kept[:, 0] = np.unique(kept[:, 0], return_inverse=True)
    return points[seen], kept.astype(np.int32)


def save_views(views: Views, path: str | Path) -> None:
    """Write `views` to `path` (npz, compressed), whole or not at all.

    Raises:
        ReconError: the views are invalid, or the file cannot be written.
    """
    check_views(views, path)
    metadata = np.array(json.dumps({"format": FORMAT_VERSION, **views.metadata}))
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, metadata=metadata, **_arrays(views))


def load_views(path: str | Path, *, empty_masks: bool = False) -> Views:
    """Read and check a viewpoint set; `empty_masks`: take views whose mask is empty, too.

    Raises:
        ReconError: the file is missing, truncated or no archive; a key is missing; a shape, dtype,
            rotation, focal length or direction is wrong; a value is not finite; a mask is empty.
    """
    arrays = read_npz(path, WRITTEN_BY)
    check_keys(arrays, path)
    metadata = parsed_metadata(arrays["metadata"], path)
    check_arrays(arrays, path, empty_masks=empty_masks)
    return views_of(arrays, metadata, path)


def views_of(arrays: Mapping[str, np.ndarray], metadata: dict[str, Any], path: str | Path) -> Views:
    """A viewpoint set of the checked arrays of the file `path`.

    Raises:
        ReconError: what the metadata say was published is no loss.
    """
    views = Views(
        **{key: arrays[key] for key in ("images", "camera_to_world", "intrinsics", "world_from_unit")},
        **{key: arrays[key] for key in (*OPTIONAL, *POINTS) if key in arrays},
        radiance_scale=float(arrays["radiance_scale"]),
        metadata=metadata,
    )
    _check_published(views, path)
    return views


def _check_published(views: Views, path: str | Path) -> None:
    found = views._settings("published").get(str(views.metadata.get("set")))
    if found is not None and not (isinstance(found, float) and 0 < found < float("inf")):
        raise ReconError(f"{path}: key 'metadata', 'settings.published' must hold positive numbers, got {found!r}")


def check_views(views: Views, path: str | Path = "views") -> None:
    """Raise `ReconError`, naming `path`, the key and the view, where `views` breaks the contract."""
    check_arrays(_arrays(views), path)


def _arrays(views: Views) -> dict[str, np.ndarray]:
    """The numeric keys of `views.npz`."""
    optional = {key: array for key in (*OPTIONAL, *POINTS) if (array := getattr(views, key)) is not None}
    return optional | {
        "images": views.images,
        "camera_to_world": views.camera_to_world,
        "intrinsics": views.intrinsics,
        "radiance_scale": np.asarray(views.radiance_scale, dtype=np.float64),
        "world_from_unit": views.world_from_unit,
    }

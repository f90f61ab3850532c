"""Viewpoint sets: exact roundtrips, alignment through the source's frame, and every bad input."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon.errors import ReconError
from recon.stored_views import StoredViews
from recon.views import Views, check_views, load_views, save_views

Reader = Callable[[Path], object]


def some_views(n: int = 3, height: int = 4, width: int = 5) -> Views:
    random = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, :3] = Rotation.random(n, random_state=0).as_matrix()
    poses[:, :3, 3] = random.normal(size=(n, 3))
    return Views(
        images=random.random((n, height, width, 3), dtype=np.float32) * 1.3,
        masks=np.where(random.random((n, height, width)) > 0.3, 255, 0).astype(np.uint8),
        camera_to_world=poses,
        intrinsics=np.tile(np.array([[90.0, 0, 2.5], [0, 91, 2], [0, 0, 1]]), (n, 1, 1)),
        radiance_scale=0.37,
        world_from_unit=np.array([[0, -2.0, 0, 1], [2, 0, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]]),
        metadata={"set": "front", "settings": {"a": [1, 2]}},
    )


@pytest.mark.parametrize("with_masks", [True, False])
def test_roundtrip_is_exact(tmp_path: Path, with_masks: bool) -> None:
    views = some_views() if with_masks else replace(some_views(), masks=None)
    save_views(views, tmp_path / "v.npz")
    back = load_views(tmp_path / "v.npz")
    for key in ("images", "camera_to_world", "intrinsics", "world_from_unit"):
        assert np.array_equal(getattr(back, key), getattr(views, key))
        assert getattr(back, key).dtype == getattr(views, key).dtype
    assert (back.masks is None) == (not with_masks)
    if views.masks is not None and back.masks is not None:
        assert np.array_equal(back.masks, views.masks)
    assert back.radiance_scale == views.radiance_scale
    assert back.metadata == {"format": 1, **views.metadata}
    assert (len(back), back.height, back.width) == (3, 4, 5)


def test_select_keeps_order() -> None:
    views = some_views()
    chosen = views.select(np.array([2, 0]))
    assert np.array_equal(chosen.images, views.images[[2, 0]])
    assert np.array_equal(chosen.camera_to_world, views.camera_to_world[[2, 0]])
    assert chosen.masks is not None and views.masks is not None
    assert np.array_equal(chosen.masks, views.masks[[2, 0]])


def test_aligned_views_see_the_same_world() -> None:
    views = some_views()
    turn = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = 0.5 * turn, [3, 2, 1]
    other = replace(views, world_from_unit=frame, radiance_scale=0.74)
    aligned = views.aligned_to(other)
    check_views(aligned)
    for before, after in zip(views.camera_to_world, aligned.camera_to_world, strict=True):
        ray = np.array([0.1, -0.2, 1, 0])  # a direction of the camera, and its centre, in the world
        old, new = views.world_from_unit @ before @ ray, frame @ after @ ray
        assert np.allclose(old / np.linalg.norm(old), new / np.linalg.norm(new))
        assert np.allclose(views.world_from_unit @ before[:, 3], frame @ after[:, 3])
    assert np.allclose(aligned.images * 0.74, views.images * 0.37)
    assert aligned.radiance_scale == 0.74


def test_aligning_there_and_back_changes_nothing() -> None:
    views = some_views()
    other = replace(views, world_from_unit=np.diag([3.0, 3, 3, 1]), radiance_scale=2.0)
    back = views.aligned_to(other).aligned_to(views)
    assert np.allclose(back.camera_to_world, views.camera_to_world, atol=1e-12)
    assert np.allclose(back.images, views.images, rtol=1e-6)


def lit_views(key: str) -> Views:
    """Some views with a light each, of the kind `key`."""
    lights = np.random.default_rng(1).normal(size=(3, 3))
    if key == "light_direction":
        lights /= np.linalg.norm(lights, axis=1, keepdims=True)
    return replace(some_views(), **{key: lights})


@pytest.mark.parametrize("key", ["light_position", "light_direction"])
def test_lights_are_kept_selected_and_aligned(tmp_path: Path, key: str) -> None:
    views = lit_views(key)
    save_views(views, tmp_path / "v.npz")
    back = load_views(tmp_path / "v.npz")
    assert np.array_equal(getattr(back, key), getattr(views, key))
    assert np.array_equal(getattr(views.select(np.array([2, 0])), key), getattr(views, key)[[2, 0]])
    frame = np.eye(4)
    frame[:3, :3] = 0.5 * Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    frame[:3, 3] = [3, 2, 1]
    aligned = views.aligned_to(replace(views, world_from_unit=frame))
    check_views(aligned)
    end = 1 if key == "light_position" else 0  # homogeneous: a point, or a direction
    for before, after in zip(getattr(views, key), getattr(aligned, key), strict=True):
        old, new = views.world_from_unit @ [*before, end], frame @ [*after, end]
        length = 1 if end else np.linalg.norm(old) / np.linalg.norm(new)
        assert np.allclose(old, new * length)


def test_views_without_lights_are_lit_from_the_camera(tmp_path: Path) -> None:
    save_views(some_views(), tmp_path / "v.npz")
    back = load_views(tmp_path / "v.npz")
    assert back.light_position is None and back.light_direction is None


def test_what_is_known_is_kept_selected_and_part_of_the_digest(tmp_path: Path) -> None:
    views = some_views()
    known = np.full((3, 4, 5), 255, np.uint8)
    known[1, :, 3:] = 0
    marked = replace(views, known=known)
    assert marked.digest != views.digest
    save_views(marked, tmp_path / "v.npz")
    back = load_views(tmp_path / "v.npz")
    assert back.known is not None and np.array_equal(back.known, known) and back.digest == marked.digest
    chosen = back.select(np.array([2, 1])).aligned_to(replace(views, radiance_scale=2.0))
    assert chosen.known is not None and np.array_equal(chosen.known, known[[2, 1]])
    save_views(views, tmp_path / "w.npz")
    assert load_views(tmp_path / "w.npz").known is None
    with np.load(tmp_path / "w.npz") as archive:
        assert "known" not in archive.files


def test_empty_masks_are_read_where_asked_for(tmp_path: Path) -> None:
    _write(tmp_path / "v.npz", **_changed("masks", 2, 0)())
    masks = load_views(tmp_path / "v.npz", empty_masks=True).masks
    assert masks is not None and not masks[2].any()


def _write(path: Path, **changes: Any) -> None:
    """A views file with some keys replaced, or left out where None."""
    save_views(some_views(), path)
    with np.load(path) as archive:
        arrays = dict(archive) | changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})


def _changed(key: str, where: Any, value: float) -> Callable[[], dict[str, Any]]:
    def change() -> dict[str, Any]:
        array = np.array(getattr(some_views(), key))
        array[where] = value
        return {key: array}

    return change


BAD: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "no images": (lambda: {"images": None}, "'images' is missing"),
    "no metadata": (lambda: {"metadata": None}, "'metadata' is missing"),
    "metadata no json": (lambda: {"metadata": np.array("{")}, "'metadata' is not JSON"),
    "metadata a list": (lambda: {"metadata": np.array("[1]")}, "must be a JSON object"),
    "other format": (lambda: {"metadata": np.array('{"format": 99}')}, "format version 99"),
    "grey images": (lambda: {"images": np.zeros((3, 4, 5), np.float32)}, r"'images' must have shape \(N, H, W, 3\)"),
    "no views": (lambda: {"images": np.zeros((0, 4, 5, 3), np.float32)}, "'images' must have shape"),
    "double images": (lambda: {"images": np.zeros((3, 4, 5, 3))}, "'images' must be float32, got float64"),
    "masks of another size": (lambda: {"masks": np.ones((3, 4, 4), np.uint8)}, r"'masks' must have shape \(3, 4, 5\)"),
    "boolean masks": (lambda: {"masks": np.ones((3, 4, 5), bool)}, "'masks' must be uint8"),
    "too few poses": (lambda: {"camera_to_world": np.tile(np.eye(4), (2, 1, 1))}, "'camera_to_world' must have shape"),
    "pixel not finite": (_changed("images", (1, 2, 3, 0), np.nan), "'images' has a value that is not finite in view 1"),
    "pixel infinite": (_changed("images", (2, 2, 3, 0), np.inf), "'images' .* not finite in view 2"),
    "pose not finite": (_changed("camera_to_world", (2, 0, 3), np.inf), "'camera_to_world' .* not finite in view 2"),
    "no rotation": (_changed("camera_to_world", (1, 0, 0), 5.0), "'camera_to_world', view 1: .* no rotation"),
    "last row": (_changed("camera_to_world", (1, 3, 0), 1.0), "'camera_to_world', view 1: the last row"),
    "negative focal": (_changed("intrinsics", (0, 0, 0), -90.0), "'intrinsics', view 0: focal lengths"),
    "no pinhole": (_changed("intrinsics", (0, 1, 0), 1.0), "'intrinsics', view 0"),
    "empty mask": (_changed("masks", 2, 0), "'masks', view 2: the mask is empty"),
    "nothing known": (
        lambda: {"known": np.where(np.arange(3)[:, None, None] == 1, 0, np.full((3, 4, 5), 255)).astype(np.uint8)},
        "'known', view 1: no pixel is known",
    ),
    "known of another size": (lambda: {"known": np.ones((3, 5, 4), np.uint8)}, r"'known' must have shape \(3, 4, 5\)"),
    "known a share": (lambda: {"known": np.full((3, 4, 5), 0.5)}, "'known' must be uint8, got float64"),
    "known in part": (lambda: {"known": np.full((3, 4, 5), 9, np.uint8)}, "'known', view 0: must be 0 or 255"),
    "light of no length": (
        lambda: {"light_direction": np.array([[0, 0, 1.0], [0, 0, 2], [1, 0, 0]])},
        "'light_direction', view 1: must be a unit vector, has length 2",
    ),
    "two kinds of light": (
        lambda: {"light_direction": np.tile([0, 0, 1.0], (3, 1)), "light_position": np.ones((3, 3))},
        "has both keys 'light_position' and 'light_direction'",
    ),
    "light not finite": (
        lambda: {"light_position": np.array([[0, 0, 1.0], [0, 0, 2], [np.nan, 0, 0]])},
        "'light_position' has a value that is not finite in view 2",
    ),
    "too few lights": (lambda: {"light_position": np.ones((2, 3))}, r"'light_position' must have shape \(3, 3\)"),
    "single lights": (lambda: {"light_position": np.ones((3, 3), np.float32)}, "'light_position' must be float64"),
    "scale zero": (lambda: {"radiance_scale": np.float64(0)}, "'radiance_scale' must be positive"),
    "no similarity": (lambda: {"world_from_unit": np.diag([1.0, 2, 3, 1])}, "'world_from_unit' must be a similarity"),
}


READERS = pytest.mark.parametrize("read", [load_views, StoredViews])
"""A set in memory and one that stays in its file are told alike."""


@READERS
@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line_that_names_file_and_key(tmp_path: Path, case: str, read: Reader) -> None:
    changes, message = BAD[case]
    _write(tmp_path / "bad.npz", **changes())
    with pytest.raises(ReconError, match=rf"bad\.npz: .*{message}") as caught:
        read(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_a_mirrored_pose_is_no_rotation(tmp_path: Path) -> None:
    poses = some_views().camera_to_world
    poses[1, :3, 0] *= -1
    with pytest.raises(ReconError, match="view 1: the upper 3x3 block is no rotation"):
        save_views(replace(some_views(), camera_to_world=poses), tmp_path / "v.npz")
    assert list(tmp_path.iterdir()) == []


@READERS
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_file(tmp_path: Path, share: float, read: Reader) -> None:
    path = tmp_path / "cut.npz"
    save_views(some_views(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ReconError, match=r"cut\.npz: not a readable \.npz archive"):
        read(path)


@READERS
@pytest.mark.parametrize("key", ["images", "masks", "intrinsics", "more"])
def test_a_damaged_array_is_told_before_it_is_used(tmp_path: Path, key: str, read: Reader) -> None:
    """Also where nobody asks for it. The bytes are changed, and the archive's checksum knows."""
    path = tmp_path / "damaged.npz"
    _write(path, more=np.arange(7, dtype=np.float32))
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{key}.npy")
    data = bytearray(path.read_bytes())
    name, extra = (
        int.from_bytes(data[member.header_offset + at : member.header_offset + at + 2], "little") for at in (26, 28)
    )
    data[member.header_offset + 30 + name + extra + member.file_size - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ReconError, match=r"damaged\.npz: not a readable \.npz archive \(truncated\?\): Bad CRC-32"):
        read(path)


@READERS
def test_objects_and_other_members_are_no_arrays(tmp_path: Path, read: Reader) -> None:
    path = tmp_path / "bad.npz"
    _write(path, masks=np.full((3, 4, 5), None))
    with pytest.raises(ReconError, match=r"bad\.npz: not a readable .* Object arrays cannot be loaded"):
        read(path)
    save_views(some_views(), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(ReconError, match=r"bad\.npz: not a readable \.npz archive: 'notes.txt' is no array"):
        read(path)


@READERS
def test_missing_file_says_what_writes_it(tmp_path: Path, read: Reader) -> None:
    with pytest.raises(ReconError, match=r"none\.npz: no such file; `recon extract` writes it"):
        read(tmp_path / "none.npz")


def with_points() -> Views:
    observations = np.array([[0, 0], [0, 2], [1, 1], [2, 1], [2, 2]], np.int32)
    return replace(some_views(), points=np.arange(9, dtype=np.float32).reshape(3, 3), observations=observations)


def test_points_are_kept_selected_and_aligned(tmp_path: Path) -> None:
    views = with_points()
    save_views(views, tmp_path / "v.npz")
    back = load_views(tmp_path / "v.npz")
    assert np.array_equal(back.points, views.points) and np.array_equal(back.observations, views.observations)
    assert back.digest == views.digest != some_views().digest
    chosen = views.select(np.array([2, 0]))
    assert np.array_equal(chosen.points, views.points[[0, 2]])
    assert chosen.observations.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert views.select(slice(1, 2)).observations.tolist() == [[0, 0], [1, 0]]
    plain = replace(some_views(), world_from_unit=np.eye(4))
    world = views.points @ views.world_from_unit[:3, :3].T + views.world_from_unit[:3, 3]
    assert np.allclose(views.aligned_to(plain).points, world)


def full_views() -> Views:
    """Five views that have every key."""
    views, random = some_views(5), np.random.default_rng(2)
    images = random.random((4, 5, 4, 5, 3), dtype=np.float32)
    known = np.full((5, 4, 5), 255, np.uint8)
    known[3, 0] = 0
    return replace(
        views,
        backgrounds=images[0],
        albedo=images[1],
        roughness=images[2, ..., 0],
        known=known,
        light_position=random.normal(size=(5, 3)),
        points=np.arange(9, dtype=np.float32).reshape(3, 3),
        observations=np.array([[0, 0], [0, 2], [1, 1], [1, 4], [2, 4]], np.int32),
    )


def assert_same(found: Views, expected: Views) -> None:
    assert vars(found).keys() == vars(expected).keys()
    for key, value in vars(expected).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, key), value, err_msg=key, strict=True)
        else:
            assert getattr(found, key) == value, key


@pytest.mark.parametrize("views", [some_views(5), full_views(), replace(some_views(5), masks=None)])
@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_parts_of_a_set_in_its_file_are_those_of_the_set(tmp_path: Path, views: Views, size: int) -> None:
    save_views(views, tmp_path / "v.npz")
    whole, stored = load_views(tmp_path / "v.npz"), StoredViews(tmp_path / "v.npz")
    assert (len(stored), stored.height, stored.width) == (5, 4, 5)
    for _ in range(2):  # as often as wanted
        parts = dict(stored.parts(size))
        assert list(parts) == list(range(0, 5, size))
        for first, part in parts.items():
            assert_same(part, whole.select(slice(first, first + size)))


def test_an_array_in_another_order_and_one_that_is_not_compressed_are_read_alike(tmp_path: Path) -> None:
    _write(tmp_path / "v.npz", images=np.asfortranarray(some_views().images))  # np.savez does not compress
    (_, first), *rest = StoredViews(tmp_path / "v.npz").parts(2)
    assert len(rest) == 1
    np.testing.assert_array_equal(first.images, some_views().images[:2])


def test_a_part_of_a_set_may_be_written_to(tmp_path: Path) -> None:
    save_views(full_views(), tmp_path / "v.npz")
    _, part = next(StoredViews(tmp_path / "v.npz").parts(1))
    part.images[:] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": None}, "key 'points' is missing: 'points' and 'observations' belong together"),
        ({"observations": None}, "key 'observations' is missing"),
        ({"points": np.zeros((3, 2), np.float32)}, r"key 'points' must have shape \(3, 3\), got \(3, 2\)"),
        ({"observations": np.zeros((3, 3), np.int32)}, r"key 'observations' must have shape \(3, 2\)"),
        ({"observations": np.array([[0, 3]], np.int32)}, "names a view that is not there, expected 0 to 2"),
        ({"observations": np.array([[-1, 0]], np.int32)}, "names a point that is not there"),
        ({"observations": np.array([[1, 0], [0, 1]], np.int32)}, "must be sorted by point"),
        ({"observations": np.array([[1, 0], [1, 0]], np.int32)}, "each pair once"),
    ],
)
def test_points_that_cannot_be(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {key: value for key, value in vars(replace(with_points(), masks=None)).items() if value is not None}
    arrays = {**arrays, "metadata": np.array("{}"), "radiance_scale": np.float64(1), **change}
    np.savez(tmp_path / "v.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(ReconError, match=message):
        load_views(tmp_path / "v.npz")

"""keyframes.npz: exact roundtrips and every bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recon.capture.extract import extract_keyframes
from recon.capture.keyframes import Keyframes, read_keyframes, write_keyframes
from recon.capture.paths import even_sphere
from recon.errors import ReconError

MATRIX = np.array([[110.0, 0, 16], [0, 110, 12], [0, 0, 1]])


def test_roundtrip(tmp_path: Path) -> None:
    keyframes = Keyframes(even_sphere(5, 2.5), MATRIX)
    write_keyframes(keyframes, tmp_path / "k.npz")
    back = read_keyframes(tmp_path / "k.npz")
    assert np.allclose(back.camera_to_world, keyframes.camera_to_world, atol=1e-15)
    assert np.array_equal(back.intrinsics, MATRIX)
    assert back.resolution == (24, 32)


def test_the_files_keys_are_those_of_the_reference(tmp_path: Path) -> None:
    write_keyframes(Keyframes(even_sphere(2, 2.5), MATRIX), tmp_path / "k.npz")
    with np.load(tmp_path / "k.npz") as archive:
        assert sorted(archive.files) == ["K", "R_0", "R_1", "T_0", "T_1"]
        assert np.allclose(np.linalg.norm(archive["T_0"]), 2.5)
        assert np.allclose(archive["R_0"][:, 2], -archive["T_0"] / 2.5)  # the z axis looks at the origin


def test_a_shifted_lens_keeps_its_image_size(tmp_path: Path) -> None:
    keyframes = Keyframes(even_sphere(2, 2.5), MATRIX, (30, 32))
    write_keyframes(keyframes, tmp_path / "k.npz")
    assert read_keyframes(tmp_path / "k.npz").resolution == (30, 32)


def test_single_precision_columns_and_more_than_ten_are_read(tmp_path: Path) -> None:
    poses = even_sphere(12, 2.5)
    arrays: dict[str, Any] = {"K": MATRIX.astype(np.float32)}
    for i, pose in enumerate(poses):
        arrays[f"R_{i}"] = pose[:3, :3].astype(np.float32)
        arrays[f"T_{i}"] = pose[:3, 3:].astype(np.float32)
    np.savez(tmp_path / "k.npz", **arrays)
    back = read_keyframes(tmp_path / "k.npz").camera_to_world
    assert np.allclose(back, poses, atol=1e-6)
    assert np.allclose(back[:, :3, :3] @ back[:, :3, :3].transpose(0, 2, 1), np.eye(3), atol=1e-14)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"K": None}, "key 'K' is missing"),
        ({"K": np.eye(4)}, r"key 'K' must hold numbers of shape \(3, 3\)"),
        ({"K": np.diag([-1.0, 1, 1])}, "key 'K': focal lengths"),
        ({"K": MATRIX.T}, "key 'K' must be"),
        ({"K": np.diag([9.0, 9, 1])}, "key 'K': the principal point"),
        ({"height": np.array(24)}, "key 'width' is missing"),
        ({"height": np.array(24), "width": np.array(0.5)}, "key 'width' must be a number of pixels, got 0.5"),
        ({"R_0": None, "R_1": None}, "key 'R_0' is missing"),
        ({"R_0": None}, "key 'R_0' is missing"),
        ({"T_1": None}, "key 'T_1' is missing"),
        ({"T_1": np.zeros(4)}, "key 'T_1' must hold"),
        ({"R_1": np.array("abc")}, "key 'R_1' must hold"),
        ({"R_1": np.ones((3, 3))}, "key 'R_1': the upper 3x3 block is no rotation"),
        ({"R_1": np.eye(3) * 2}, "key 'R_1': .* it scales by 2"),
        ({"R_1": np.diag([1.0, 1, -1])}, "key 'R_1': .* mirrors"),
        ({"T_0": np.array([0, np.nan, 0])}, "key 'R_0': a number of the pose is not finite"),
    ],
)
def test_bad_files_are_one_line_that_names_the_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    poses = even_sphere(2, 2.5)
    arrays: dict[str, Any] = {"K": MATRIX}
    arrays |= {f"R_{i}": poses[i, :3, :3] for i in range(2)} | {f"T_{i}": poses[i, :3, 3] for i in range(2)}
    np.savez(tmp_path / "k.npz", **{key: array for key, array in (arrays | changes).items() if array is not None})
    with pytest.raises(ReconError, match=rf"k\.npz: {message}") as caught:
        read_keyframes(tmp_path / "k.npz")
    assert "\n" not in str(caught.value)


def test_a_scenes_set_as_keyframes_is_the_same_set(tmp_path: Path) -> None:
    (tmp_path / "scene.yaml").write_text(
        "objects: [{shape: sphere, radius: 0.5}]\n"
        "camera: {width: 24, height: 16, focal_length: 30}\n"
        "sets: {front: {count: 3}, sphere: {path: sphere, count: 5}}\n"
    )
    for name, count in (("front", 3), ("sphere", 5)):
        extract_keyframes(tmp_path / "scene.yaml", tmp_path / f"{name}.npz", name)
        keyframes = read_keyframes(tmp_path / f"{name}.npz")
        assert keyframes.resolution == (16, 24) and len(keyframes.camera_to_world) == count
        assert np.array_equal(keyframes.intrinsics, [[30, 0, 12], [0, 30, 8], [0, 0, 1]])
    assert np.allclose(keyframes.camera_to_world, even_sphere(5, 2.5))
    with pytest.raises(ReconError, match="scene.yaml: has no viewpoint set 'back': front, sphere"):
        extract_keyframes(tmp_path / "scene.yaml", tmp_path / "back.npz", "back")
    assert not (tmp_path / "back.npz").exists()

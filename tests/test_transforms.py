"""transforms.json: conventions, formats, framing, and every bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imageio.v3 as imageio
import numpy as np
import OpenEXR
import pytest
import torch
import trimesh
from PIL import Image
from scipy.ndimage import binary_dilation

from recon.camera import Cameras, intrinsics_from_fov
from recon.capture.extract import extract
from recon.capture.framing import Wishes
from recon.capture.normalise import frame_from_cameras, frame_from_masks, masks_from_black
from recon.capture.paths import arc, even_sphere
from recon.capture.rendering import photograph
from recon.capture.transforms import views_from_transforms
from recon.capture.world import join
from recon.errors import ReconError
from recon.images.encoding import turned
from recon.images.photograph import linear_from_srgb, read_mask, read_picture
from recon.views import Views, load_views, save_views

SIZE = 32
FLIP = np.diag([1.0, -1, -1, 1])


def write_exr(path: Path, **planes: np.ndarray) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {name: np.ascontiguousarray(plane) for name, plane in planes.items()}) as file:
        file.write(str(path))


class Capture:
    """A small object somewhere in the world and its photographs: linear radiance, masks, OpenCV poses."""

    center = np.array([4.0, -2.0, 7.0])
    scale = 3.0

    def __init__(self) -> None:
        mesh = trimesh.creation.box(extents=(0.9, 0.7, 1.1)).apply_scale(self.scale).apply_translation(self.center)
        self.vertices = np.asarray(mesh.vertices)
        self.poses = arc(6, 2.5 * self.scale, (-60.0, 60.0), (-10.0, 30.0))
        self.poses[:, :3, 3] += self.center
        self.matrix = intrinsics_from_fov(49.0, SIZE, SIZE)
        world = join([mesh], [], np.ones((8, 3)) * [9.0, 6.0, 3.0])
        self.images, self.masks = photograph(world, self.poses, np.tile(self.matrix, (6, 1, 1)), SIZE, SIZE, 2, "test")

    def tree(self) -> dict[str, Any]:
        frames = [
            {"file_path": f"images/{i}.exr", "mask_path": f"masks/{i}.png", "transform_matrix": (pose @ FLIP).tolist()}
            for i, pose in enumerate(self.poses)
        ]
        focal = float(self.matrix[0, 0])
        return {"fl_x": focal, "fl_y": focal, "cx": SIZE / 2, "cy": SIZE / 2, "w": SIZE, "h": SIZE, "frames": frames}

    def write(self, folder: Path, tree: dict[str, Any] | None = None) -> Path:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "masks").mkdir(exist_ok=True)
        for i, (image, mask) in enumerate(zip(self.images, self.masks, strict=True)):
            write_exr(folder / f"images/{i}.exr", RGB=image)
            imageio.imwrite(folder / f"masks/{i}.png", mask)
        (folder / "transforms.json").write_text(json.dumps(tree or self.tree()))
        return folder / "transforms.json"


@pytest.fixture(scope="module")
def capture() -> Capture:
    return Capture()


def unit_vertices(views: Views, capture: Capture) -> np.ndarray:
    return trimesh.transform_points(capture.vertices, np.linalg.inv(views.world_from_unit))


def without(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """The tree without `key` in its frames."""
    for frame in tree["frames"]:
        frame.pop(key)
    return tree


def test_extraction_keeps_radiance_masks_and_projections(tmp_path: Path, capture: Capture) -> None:
    extract(capture.write(tmp_path), tmp_path / "out.npz")
    views = load_views(tmp_path / "out.npz")
    assert views.images.max() == 1
    assert np.allclose(views.images * views.radiance_scale, capture.images, rtol=1e-6)
    assert views.masks is not None and np.array_equal(views.masks, capture.masks)
    seen = Cameras.from_views(views, torch.float64).project(torch.tensor(unit_vertices(views, capture)))
    intrinsics = torch.tensor(capture.matrix).expand(6, 3, 3)
    truth = Cameras(torch.tensor(capture.poses), intrinsics, SIZE, SIZE).project(torch.tensor(capture.vertices))
    assert torch.allclose(seen[..., :2], truth[..., :2], atol=1e-9)
    assert views.metadata["set"] == tmp_path.name
    assert views.metadata["settings"]["framed_by"] == "masks"
    assert len(views.metadata["sha256"]) == 64


@pytest.mark.parametrize("framing", ["masks", "black", "cameras"])
def test_the_object_lies_strictly_inside_the_unit_sphere_and_fills_it(
    tmp_path: Path, capture: Capture, framing: str
) -> None:
    tree = capture.tree() if framing == "masks" else without(capture.tree(), "mask_path")
    path = capture.write(tmp_path, tree)
    if framing == "cameras":
        for i, image in enumerate(capture.images):
            write_exr(tmp_path / f"images/{i}.exr", RGB=image + np.float32(0.2))
    views = views_from_transforms(path, "front")
    expected = {"masks": "masks", "black": "black background", "cameras": "cameras"}
    assert views.metadata["settings"]["framed_by"] == expected[framing]
    assert (views.masks is None) == (framing != "masks")
    radius = np.linalg.norm(unit_vertices(views, capture), axis=1).max()
    assert 0.6 < radius < 0.97


def test_a_set_like_another_shares_its_frame_and_scale(tmp_path: Path, capture: Capture) -> None:
    path = capture.write(tmp_path)
    extract(path, tmp_path / "train.npz")
    tree = capture.tree()
    tree["frames"] = tree["frames"][2:4]
    (tmp_path / "transforms_above.json").write_text(json.dumps(tree))
    extract(tmp_path / "transforms_above.json", tmp_path / "above.npz", like=tmp_path / "train.npz")
    train, above = load_views(tmp_path / "train.npz"), load_views(tmp_path / "above.npz")
    assert above.metadata["set"] == "above"
    assert np.array_equal(above.world_from_unit, train.world_from_unit)
    assert np.allclose(above.camera_to_world, train.camera_to_world[2:4], atol=1e-12)
    assert np.array_equal(above.images, train.images[2:4])
    extract(tmp_path / "transforms_above.json", tmp_path / "alone.npz")
    alone = load_views(tmp_path / "alone.npz").aligned_to(train)
    assert np.allclose(alone.camera_to_world, above.camera_to_world, atol=1e-9)
    assert np.allclose(alone.images, above.images, atol=1e-6)


def test_flavours_of_the_file_agree(tmp_path: Path, capture: Capture) -> None:
    reference = views_from_transforms(capture.write(tmp_path / "a"), "x")
    angle = capture.tree() | {"camera_angle_x": float(np.radians(49))}
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        angle.pop(key)
    opencv = capture.tree() | {"camera_convention": "OpenCV"}
    per_frame = capture.tree() | {"fl_x": 1.0, "fl_y": 1.0}
    bare = capture.tree()
    for frame, pose in zip(opencv["frames"], capture.poses, strict=True):
        frame["transform_matrix"] = pose[:3].tolist()  # three rows are enough
    for frame in per_frame["frames"]:
        frame |= {"fl_x": capture.tree()["fl_x"], "fl_y": capture.tree()["fl_y"]}
    for frame in bare["frames"]:
        frame["file_path"] = "./" + frame["file_path"].removesuffix(".exr").replace("/", "\\")
    for i, tree in enumerate((angle, opencv, per_frame, bare)):
        views = views_from_transforms(capture.write(tmp_path / str(i), tree), "x")
        assert np.allclose(views.intrinsics, reference.intrinsics)
        assert np.allclose(views.camera_to_world, reference.camera_to_world)
        assert np.array_equal(views.images, reference.images)


def test_a_folder_is_its_transforms_json(tmp_path: Path, capture: Capture) -> None:
    capture.write(tmp_path / "vase")
    extract(tmp_path / "vase", tmp_path / "out.npz", set_name="front")
    assert load_views(tmp_path / "out.npz").metadata["set"] == "front"


def test_rounded_matrices_become_rotations(tmp_path: Path, capture: Capture) -> None:
    tree = capture.tree()
    for frame in tree["frames"]:
        frame["transform_matrix"] = np.round(frame["transform_matrix"], 4).tolist()
    views = views_from_transforms(capture.write(tmp_path, tree), "x")
    rotations = views.camera_to_world[:, :3, :3]
    assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-12)


def test_alpha_is_a_mask_unless_it_is_full(tmp_path: Path, capture: Capture) -> None:
    path = capture.write(tmp_path, without(capture.tree(), "mask_path"))
    for i, (image, mask) in enumerate(zip(capture.images, capture.masks, strict=True)):
        write_exr(tmp_path / f"images/{i}.exr", RGBA=np.dstack([image, mask / np.float32(255)]))
    masks = views_from_transforms(path, "x").masks
    assert masks is not None and np.array_equal(masks, capture.masks)
    for i, image in enumerate(capture.images):
        write_exr(tmp_path / f"images/{i}.exr", RGBA=np.dstack([image, np.ones((SIZE, SIZE), np.float32)]))
    assert views_from_transforms(path, "x").masks is None


def test_distortion_is_undone(tmp_path: Path, capture: Capture) -> None:
    """Photographs taken through OpenCV's lens model come back as those without."""
    coefficients = np.array([0.8, 0.1, 0.05, -0.04, 0.0])
    matrix = capture.matrix.copy()
    matrix[:2, 2] -= 0.5
    columns, rows = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
    distorted = np.stack([columns.ravel(), rows.ravel()], axis=1)
    straight = cv2.undistortPoints(distorted, matrix, coefficients, P=matrix).reshape(SIZE, SIZE, 2).astype(np.float32)
    tree = without(capture.tree(), "mask_path") | dict(zip(("k1", "k2", "p1", "p2"), map(float, coefficients)))
    path = capture.write(tmp_path, tree)
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in capture.images])
    for i, image in enumerate(smooth):
        write_exr(
            tmp_path / f"images/{i}.exr", RGB=cv2.remap(image, straight[..., 0], straight[..., 1], cv2.INTER_LINEAR)
        )
    views = views_from_transforms(path, "x")
    distorted_images = np.stack([read_picture(tmp_path / f"images/{i}.exr").color for i in range(6)])
    undone = np.abs(views.images * views.radiance_scale - smooth).mean()
    # What remains is the blur of interpolating twice.
    assert undone < 0.15 * np.abs(distorted_images - smooth).mean()


def barrel(image: np.ndarray, matrix: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """The picture that a lens with this distortion takes of what a straight lens takes as `image`."""
    matrix = matrix - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    pixels = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=2).reshape(-1, 1, 2).astype(np.float32)
    straight = cv2.undistortPoints(pixels, matrix, coefficients, P=matrix).reshape(SIZE, SIZE, 2)
    return cv2.remap(image, straight, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("k1", [0.6, -0.25])
def test_what_a_straightened_lens_would_see_beyond_the_photograph_is_unknown(
    tmp_path: Path, capture: Capture, k1: float
) -> None:
    """A lit room without masks: no black rim, and the frame comes from the cameras as without distortion."""
    lit = [image + np.float32(2) for image in capture.images]
    tree = without(capture.tree(), "mask_path")
    path = capture.write(tmp_path / "a", tree)
    bent = capture.write(tmp_path / "b", tree | {"k1": k1})
    for i, image in enumerate(lit):
        write_exr(path.parent / f"images/{i}.exr", RGB=image)
        write_exr(bent.parent / f"images/{i}.exr", RGB=barrel(image, capture.matrix, np.array([k1, 0, 0, 0])))
    straight, views = views_from_transforms(path, "x"), views_from_transforms(bent, "x")
    assert straight.known is None
    assert views.metadata["settings"]["framed_by"] == "cameras"
    assert np.allclose(views.world_from_unit, straight.world_from_unit)
    assert views.images.min() > 0.9 * straight.images.min()
    if k1 < 0:  # the photograph shows more than is asked for
        assert views.known is None
        return
    assert views.known is not None and set(np.unique(views.known)) == {0, 255}
    assert not views.known[:, [0, 0, -1, -1], [0, -1, 0, -1]].any() and 0.6 < (views.known > 0).mean() < 0.95
    background = (views.known > 0) & (capture.masks == 0)
    rim = binary_dilation(capture.masks > 0, np.ones((1, 5, 5)))
    assert np.allclose(views.images[background & ~rim] * views.radiance_scale, 2, atol=1e-3)
    save_views(views, tmp_path / "v.npz")


def test_an_object_before_black_is_found_within_what_is_known(tmp_path: Path, capture: Capture) -> None:
    tree = without(capture.tree(), "mask_path") | {"k1": 0.6}
    path = capture.write(tmp_path, tree)
    for i, image in enumerate(capture.images):
        write_exr(tmp_path / f"images/{i}.exr", RGB=barrel(image, capture.matrix, np.array([0.6, 0, 0, 0])))
    views = views_from_transforms(path, "x")
    assert views.metadata["settings"]["framed_by"] == "black background" and views.known is not None
    assert 0.6 < np.linalg.norm(unit_vertices(views, capture), axis=1).max() < 0.97


def test_full_opacity_stays_no_mask_when_the_lens_is_straightened(tmp_path: Path, capture: Capture) -> None:
    path = capture.write(tmp_path, without(capture.tree(), "mask_path") | {"k1": 0.6})
    for i, image in enumerate(capture.images):
        write_exr(tmp_path / f"images/{i}.exr", RGBA=np.dstack([image + 1, np.ones((SIZE, SIZE), np.float32)]))
    views = views_from_transforms(path, "x")
    assert views.masks is None and views.metadata["settings"]["framed_by"] == "cameras"


def test_where_the_polynomial_folds_back_nothing_is_known(tmp_path: Path, capture: Capture) -> None:
    """With k1 = -2.5, r (1 + k1 r^2) turns back within the picture: beyond, centre pixels would appear again."""
    path = capture.write(tmp_path, capture.tree() | {"k1": -2.5})
    known = views_from_transforms(path, "x").known
    assert known is not None
    focal, turn = capture.matrix[0, 0], 1 / np.sqrt(3 * 2.5)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    assert np.array_equal(known[0] > 0, np.hypot(rows, columns) / focal < turn)


def test_pixels_that_are_not_square_keep_their_projections(tmp_path: Path, capture: Capture) -> None:
    """Half as many columns: fl_x and fl_y differ, the cameras see the same."""
    narrow = capture.tree() | {"fl_x": float(capture.matrix[0, 0]) / 2, "cx": SIZE / 4, "w": SIZE // 2}
    path = capture.write(tmp_path, narrow)
    for i, (image, mask) in enumerate(zip(capture.images, capture.masks, strict=True)):
        write_exr(tmp_path / f"images/{i}.exr", RGB=image.reshape(SIZE, SIZE // 2, 2, 3).mean(axis=2))
        imageio.imwrite(tmp_path / f"masks/{i}.png", mask[:, ::2])
    views = views_from_transforms(path, "x")
    seen = Cameras.from_views(views, torch.float64).project(torch.tensor(unit_vertices(views, capture)))
    intrinsics = torch.tensor(capture.matrix).expand(6, 3, 3)
    truth = Cameras(torch.tensor(capture.poses), intrinsics, SIZE, SIZE).project(torch.tensor(capture.vertices))
    assert torch.allclose(seen[..., :2] * torch.tensor([2.0, 1.0]), truth[..., :2], atol=1e-9)


@pytest.mark.parametrize("convention", ["opengl", "opencv"])
def test_a_flash_beside_the_lens_becomes_a_light_position(tmp_path: Path, capture: Capture, convention: str) -> None:
    up = [0.0, 0.25, 0.0] if convention == "opengl" else [0.0, -0.25, 0.0]
    tree = capture.tree() | {"camera_convention": convention, "flash_offset": up}
    if convention == "opencv":
        for frame, pose in zip(tree["frames"], capture.poses, strict=True):
            frame["transform_matrix"] = pose.tolist()
    tree["frames"][2]["flash_offset"] = [0, 0, 0]
    views = views_from_transforms(capture.write(tmp_path, tree), "x")
    assert views.light_position is not None
    offset = views.light_position - views.camera_to_world[:, :3, 3]
    expected = -0.25 * views.camera_to_world[:, :3, 1] / views.world_from_unit[0, 0]  # y points down
    expected[2] = 0
    assert np.allclose(offset, expected, atol=1e-9)
    tree |= {"flash_offset": [0, 0, 0]}
    assert views_from_transforms(capture.write(tmp_path, tree), "x").light_position is None


# What is odd, and heeded or told


def noted(path: Path, **options: Any) -> tuple[Views, list[str]]:
    views = views_from_transforms(path, options.pop("set_name", "x"), Wishes(**options))
    return views, [line.removeprefix(f"{path}: ") for line in views.metadata.get("warnings", [])]


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("shape", [1.0, 0.5])
def test_a_frame_s_own_angle_replaces_the_file_s_focal_length(
    tmp_path: Path, capture: Capture, axis: str, shape: float
) -> None:
    tree = capture.tree() | {"fl_x": 10.0, "fl_y": 10 * shape}
    for frame in tree["frames"]:
        frame[f"camera_angle_{axis}"] = 2 * np.arctan(SIZE / 2 / 30)
    views, notes = noted(capture.write(tmp_path, tree))
    expected = (30, 30 * shape) if axis == "x" else (30 / shape, 30)
    assert np.allclose(views.intrinsics[:, [0, 1], [0, 1]], expected) and notes == []


def test_a_frame_s_null_is_no_value_of_its_own(tmp_path: Path, capture: Capture) -> None:
    tree = capture.tree()
    for frame in tree["frames"]:
        frame |= {"fl_x": None, "cx": None}
    views, _ = noted(capture.write(tmp_path, tree))
    assert np.allclose(views.intrinsics, capture.matrix)


def test_focal_length_and_angle_that_disagree_are_told(tmp_path: Path, capture: Capture) -> None:
    path = capture.write(tmp_path, capture.tree() | {"camera_angle_x": 0.5})
    views, notes = noted(path)
    assert np.allclose(views.intrinsics, capture.matrix)
    assert notes == ["'fl_x' is 35.11 pixels, but 'camera_angle_x' makes 62.66: 'fl_x' is taken"]
    tree = capture.tree()
    for frame in tree["frames"]:
        frame["fl_x"] = 70.0
    views, notes = noted(capture.write(tmp_path, tree))
    assert views.intrinsics[0, 1, 1] == capture.matrix[1, 1] and len(notes) == 1
    assert notes[0].startswith("frame 0, frame 1, frame 2, … (6): has a focal length of its own along one axis alone")


def test_a_camera_s_scale_is_taken_off(tmp_path: Path, capture: Capture) -> None:
    plain, none = noted(capture.write(tmp_path / "a"))
    tree = capture.tree()
    for frame, scale in zip(tree["frames"], [0.5, 1, 0.5, 1, 1, 1], strict=True):
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([scale] * 3 + [1])).tolist()
    scaled, notes = noted(capture.write(tmp_path / "b", tree))
    assert np.allclose(scaled.camera_to_world, plain.camera_to_world, atol=1e-9) and none == []
    assert notes == [
        "'transform_matrix': frame 0, frame 2: the matrix scales by 0.5, which means nothing for a camera: taken off"
    ]


def test_the_case_of_a_suffix_is_no_matter(tmp_path: Path, capture: Capture) -> None:
    tree = capture.tree()
    for i, frame in enumerate(tree["frames"]):
        frame["file_path"] = f"images/{i}" if i % 2 else f"images/{i}.exr"
        frame["mask_path"] = f"masks/{i}"
    path = capture.write(tmp_path, tree)
    for i in range(6):
        (tmp_path / f"images/{i}.exr").rename(tmp_path / f"images/{i}.EXR")
        (tmp_path / f"masks/{i}.png").rename(tmp_path / f"masks/{i}.Png")
    views, notes = noted(path)
    assert len(views) == 6 and views.masks is not None and notes == []


def test_several_files_for_a_path_without_suffix_are_told(tmp_path: Path, capture: Capture) -> None:
    tree = capture.tree()
    tree["frames"][3]["file_path"] = "images/3"
    path = capture.write(tmp_path, tree)
    imageio.imwrite(tmp_path / "images/3.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    views, notes = noted(path)
    assert views.images[3].max() > 0.5
    assert notes == ["several files fit a 'file_path' without suffix; taken is the first of: images/3: 3.exr, 3.png"]


def test_frames_without_a_file_are_left_out_and_counted(tmp_path: Path, capture: Capture) -> None:
    path = capture.write(tmp_path)
    for i in (1, 4):
        (tmp_path / f"images/{i}.exr").unlink()
    views, notes = noted(path)
    assert len(views) == 4 and np.allclose(views.images[1] * views.radiance_scale, capture.images[2], rtol=1e-5)
    assert notes == ["2 of 6 frames are left out, for their pictures are not there: images/1.exr, images/4.exr"]


def test_splits_are_obeyed(tmp_path: Path, capture: Capture) -> None:
    names = [f"images/{i}.exr" for i in range(6)]
    splits = {"train_filenames": names[:3], "val_filenames": [], "test_filenames": ["./images/5.exr", "images/3"]}
    path = capture.write(tmp_path, capture.tree() | splits)
    train, notes = noted(path, set_name="train")
    assert len(train) == 3 and notes == ["1 of 6 frames are in none of its lists of files, and in no set"]
    other, notes = noted(path, set_name="pot")
    assert other.digest == train.digest
    assert notes[0] == "splits its frames: taken is train (3 of 6); --set-name chooses another: test (2)"
    test, _ = noted(path, set_name="test", like=train)
    assert np.allclose(test.images * test.radiance_scale, capture.images[[3, 5]], rtol=1e-5)
    with pytest.raises(ReconError, match="no frame is in the set 'val', by its lists of files"):
        views_from_transforms(path, "val")
    path = capture.write(tmp_path, capture.tree() | {"test_filenames": names[:2]})
    assert len(noted(path, set_name="train")[0]) == 4
    with pytest.raises(ReconError, match="has no 'val_filenames', expected as it has 'test_filenames'"):
        views_from_transforms(path, "val")
    path = capture.write(tmp_path, capture.tree() | {"train_filenames": names[1:], "test_filenames": names[:2]})
    assert (
        "1 of 6 frames are trained on and held back at once, by its lists of files" in noted(path, set_name="train")[1]
    )


def test_keys_that_look_as_if_they_meant_something_are_told(tmp_path: Path, capture: Capture) -> None:
    tree = capture.tree() | {"colorspace": "linear", "aabb_scale": 4, "applied_transform": [[1, 0, 0, 0]]}
    tree["frames"][2] |= {"Flash_offset": [0, 0, 1], "depth_file_path": "d.png", "rolling_shutter": [0, 0, 0, 0]}
    _, notes = noted(capture.write(tmp_path, tree))
    assert notes == [
        "the key 'colorspace' means nothing here; is 'color_space' meant?",
        "the key 'Flash_offset' means nothing here; is 'flash_offset' meant?",
    ]
    _, notes = noted(capture.write(tmp_path, capture.tree() | {"rolling_shutter": [0, 0.01, 0, 0]}))
    assert notes == ["'rolling_shutter' is not undone: the poses are taken to hold for whole pictures"]


def test_masks_that_no_frame_names_are_told(tmp_path: Path, capture: Capture) -> None:
    _, notes = noted(capture.write(tmp_path, without(capture.tree(), "mask_path")))
    assert notes == [f"no frame has a 'mask_path', though {tmp_path / 'masks'} holds pictures: no masks are taken"]


def test_one_mask_for_several_frames_is_told(tmp_path: Path, capture: Capture) -> None:
    tree = capture.tree()
    tree["frames"][4]["mask_path"] = tree["frames"][3]["mask_path"]
    _, notes = noted(capture.write(tmp_path, tree))
    assert notes == [f"frame 3, frame 4: have one mask, {tmp_path / 'masks/3.png'}, though not one pose"]


def test_a_frame_that_is_listed_twice_is_told(tmp_path: Path, capture: Capture) -> None:
    tree = capture.tree()
    tree["frames"].append(tree["frames"][2])
    views, notes = noted(capture.write(tmp_path, tree))
    assert len(views) == 7 and notes == ["frame 2 and frame 6 are the same; it counts twice"]


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "images", "http://a.b/c.png"])
def test_names_that_no_file_has_are_files_that_are_not_there(tmp_path: Path, capture: Capture, name: str) -> None:
    tree = capture.tree()
    tree["frames"][1]["file_path"] = name
    views, notes = noted(capture.write(tmp_path, tree))
    assert len(views) == 5 and len(notes) == 1 and len(notes[0]) < 300
    for frame in tree["frames"]:
        frame["file_path"] = name
    with pytest.raises(ReconError, match="none of the 6 frames has a picture") as caught:
        views_from_transforms(capture.write(tmp_path, tree), "x")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("key", ['"fl_x": 99.0', '"frames": []'])
def test_a_key_that_is_there_twice_is_no_choice(tmp_path: Path, capture: Capture, key: str) -> None:
    path = capture.write(tmp_path)
    path.write_text(path.read_text()[:-1] + f", {key}}}")
    with pytest.raises(
        ReconError, match=f"the key {key.split(':')[0]} is there twice in one mapping".replace('"', "'")
    ):
        views_from_transforms(path, "x")


def write_oriented(folder: Path, capture: Capture, orientation: int, *, rows: int = SIZE - 8) -> None:
    """The pictures without their lowest rows as JPEG, stored so that `orientation` makes them upright."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    for i in range(6):
        exif = Image.Exif()
        exif[274] = orientation
        upright = np.round(255 * np.clip(capture.images[i][:rows] / 12, 0, 1) ** (1 / 2.2)).astype(np.uint8)
        Image.fromarray(turned(upright, inverse)).save(folder / f"images/{i}.jpg", exif=exif, quality=99)
        imageio.imwrite(folder / f"masks/{i}.png", capture.masks[i][:rows])


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_declared_sizes_tell_whether_pictures_are_to_be_turned(
    tmp_path: Path, capture: Capture, orientation: int
) -> None:
    tree = capture.tree() | {"h": SIZE - 8}
    for i, frame in enumerate(tree["frames"]):
        frame["file_path"] = f"images/{i}.jpg"
    path = capture.write(tmp_path, tree)
    write_oriented(tmp_path, capture, orientation)
    views, notes = noted(path)
    assert views.masks is not None and np.array_equal(views.masks, capture.masks[:, : SIZE - 8])
    lit = views.images.max(axis=3) > 0.02
    assert (lit == (views.masks > 0)).mean() > 0.93
    assert notes == [
        "frame 0, frame 1, frame 2, … (6): turned by the EXIF orientation, as the camera's width and height ask"
    ]
    # Poses of the pixels as stored, as COLMAP finds them.
    path.write_text(json.dumps(tree | {"w": SIZE - 8, "h": SIZE}))
    for i in range(6):
        imageio.imwrite(tmp_path / f"masks/{i}.png", np.full((SIZE, SIZE - 8), 255, np.uint8))
    views, notes = noted(path)
    assert views.images.shape == (6, SIZE, SIZE - 8, 3)
    assert len(notes) == 1 and notes[0].endswith("taken as stored, as COLMAP and nerfstudio take them")
    for key in ("w", "h"):
        tree.pop(key)
    path.write_text(json.dumps(tree))
    assert noted(path)[1][0].endswith("; if the poses belong to upright pictures, say 'w' and 'h'")


def test_sixteen_bits_that_say_nothing_are_told(tmp_path: Path, capture: Capture) -> None:
    tree = capture.tree()
    for i, frame in enumerate(tree["frames"]):
        frame["file_path"] = f"images/{i}.png"
    path = capture.write(tmp_path, tree)
    for i, image in enumerate(capture.images):
        imageio.imwrite(tmp_path / f"images/{i}.png", np.round(image / image.max() * 65535).astype(np.uint16)[..., 0])
    assert "nothing says how linear these integers of 16 bits are: taken as sRGB" in noted(path)[1][0]
    views, notes = noted(path, color_space="linear")
    assert notes == [] and np.isclose(views.images.max(), 1)
    path.write_text(json.dumps(tree | {"color_space": "srgb"}))
    with pytest.raises(ReconError, match="'color_space' is srgb, but --color-space is linear"):
        views_from_transforms(path, "x", Wishes(color_space="linear"))
    path.write_text(json.dumps(capture.tree() | {"color_space": "srgb"}))
    assert noted(path)[1] == ["frame 0, frame 1, frame 2, … (6): EXR is linear, whatever 'color_space' says"]


Edit = Callable[[dict[str, Any], Path, Capture], None]


def _frame(key: str, value: Any) -> Edit:
    return lambda tree, folder, capture: tree["frames"][1].__setitem__(key, value)


def _top(key: str, value: Any) -> Edit:
    return lambda tree, folder, capture: tree.__setitem__(key, value)


def _picture(value: Callable[[Capture], np.ndarray]) -> Edit:
    return lambda tree, folder, capture: write_exr(folder / "images/1.exr", RGB=value(capture))


def _mask(mask: np.ndarray) -> Edit:
    return lambda tree, folder, capture: imageio.imwrite(folder / "masks/1.png", mask)


def _not_finite(capture: Capture) -> np.ndarray:
    image = capture.images[1].copy()
    image[3, 4, 0] = np.nan
    return image


def _matrix(change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    def edit(tree: dict[str, Any], folder: Path, capture: Capture) -> None:
        tree["frames"][1]["transform_matrix"] = change(capture.poses[1] @ FLIP).tolist()

    return edit


def _truncated(tree: dict[str, Any], folder: Path, capture: Capture) -> None:
    data = (folder / "images/1.exr").read_bytes()
    (folder / "images/1.exr").write_bytes(data[: len(data) // 2])


def _parallel(tree: dict[str, Any], folder: Path, capture: Capture) -> None:
    without(tree, "mask_path")
    for i, frame in enumerate(tree["frames"]):
        pose = np.eye(4)
        pose[0, 3] = i
        frame["transform_matrix"] = pose.tolist()
        write_exr(folder / f"images/{i}.exr", RGB=capture.images[i] + np.float32(1))


def _diverging(tree: dict[str, Any], folder: Path, capture: Capture) -> None:
    without(tree, "mask_path")
    for i, frame in enumerate(tree["frames"]):
        frame["transform_matrix"] = capture.poses[i].tolist()  # OpenCV's axes in a file that says OpenGL
        write_exr(folder / f"images/{i}.exr", RGB=capture.images[i] + np.float32(1))


def _contradicting(tree: dict[str, Any], folder: Path, capture: Capture) -> None:
    corner = np.zeros((SIZE, SIZE), np.uint8)
    for i in range(6):
        mask = corner.copy()
        mask[2:5, 2:5] = 255
        imageio.imwrite(folder / f"masks/{i}.png", mask if i % 2 else mask[::-1, ::-1])


BAD: dict[str, tuple[Edit, str]] = {
    "no frames": (_top("frames", []), "frames: .* at least 1 item"),
    "no frames key": (lambda tree, folder, capture: tree.pop("frames"), "frames: field required"),
    "all files missing": (
        lambda tree, folder, capture: [frame.update(file_path=f"x/{i}.exr") for i, frame in enumerate(tree["frames"])][
            0
        ],
        "none of the 6 frames has a picture: 'file_path' x/0.exr: no such file under",
    ),
    "one picture, two poses": (
        _frame("file_path", "images/0.exr"),
        "frame 0 and frame 1 have one picture, .*0.exr, but",
    ),
    "some opacity": (
        lambda tree, folder, capture: [
            write_exr(
                folder / f"images/{i}.exr", RGBA=np.dstack([capture.images[i], capture.masks[i] / np.float32(255)])
            )
            for i, frame in enumerate(without(tree, "mask_path")["frames"])
            if i != 4
        ][0],
        "frame 4 has no opacity, but others have one",
    ),
    "a split of strangers": (
        _top("test_filenames", ["images/9.exr"]),
        "'test_filenames' names images/9.exr, which is no",
    ),
    "no training split": (_top("train_filenames", []), "no frame is in the set 'train'"),
    "f-theta lens": (_top("ftheta_p0", 0.5), "frame 0: 'ftheta_p0' belongs to a lens that is not known"),
    "mask missing": (_frame("mask_path", "masks/none.png"), "frame 1: 'mask_path' masks/none.png: no such file"),
    "some masks": (lambda tree, folder, capture: tree["frames"][1].pop("mask_path"), "frame 1 has no 'mask_path'"),
    "no matrix": (lambda tree, folder, capture: tree["frames"][1].pop("transform_matrix"), "frames.1.transform_matrix"),
    "matrix 2x2": (_frame("transform_matrix", [[1, 0], [0, 1]]), "frames.1.transform_matrix"),
    "matrix of words": (_frame("transform_matrix", [["a"] * 4] * 4), "frames.1.transform_matrix"),
    "matrix of zeros": (_matrix(lambda m: m * [0, 0, 0, 1]), "frame 1: 'transform_matrix': .* no rotation"),
    "matrix scaled unevenly": (
        _matrix(lambda m: m @ np.diag([2.0, 1, 2, 1])),
        "frame 1: 'transform_matrix': .* no rotat",
    ),
    "matrix sheared": (_matrix(lambda m: m + np.eye(4, k=1)), "frame 1: 'transform_matrix': .* no rotation"),
    "matrix mirrored": (_matrix(lambda m: m @ np.diag([-1.0, 1, 1, 1])), "frame 1: 'transform_matrix': .* mirrors"),
    "matrix last row": (_matrix(lambda m: m + np.eye(4)[3][:, None] * [1, 0, 0, 0]), "frame 1: .* last row"),
    "matrix not finite": (_matrix(lambda m: m * [1, 1, 1, np.nan]), "frame 1: 'transform_matrix': .*(finite|last row)"),
    "size not w x h": (_top("w", 33), "frame 0: .*0.exr has 32x32 pixels, expected 'w' x 'h' 33x32"),
    "pixel not finite": (_picture(_not_finite), "1.exr: the pixel in row 3, column 4 is not finite"),
    "truncated picture": (_truncated, "1.exr: not a readable EXR"),
    "empty mask": (_mask(np.zeros((SIZE, SIZE), np.uint8)), "1.png: the mask is empty"),
    "mask of another size": (_mask(np.full((8, 9), 255, np.uint8)), "frame 1: .*1.png has 9x8 pixels, expected"),
    "no focal length": (lambda tree, folder, capture: (tree.pop("fl_x"), tree.pop("fl_y"))[0], "frame 0: no focal"),
    "focal zero": (_top("fl_x", 0), "fl_x: .* greater than 0, got 0"),
    "focal not finite": (_top("fl_x", float("nan")), "fl_x: .* got nan"),
    "other lens": (_top("camera_model", "EQUIRECTANGULAR"), "camera_model' EQUIRECTANGULAR is not known"),
    "longer model": (_top("k5", 0.1), "'k5' belongs to a lens that is not known"),
    "more coefficients": (_frame("k6", 0.1), "frame 1: 'k6' belongs to a lens that is not known; undistort"),
    "flash of two numbers": (_top("flash_offset", [0, 1]), "flash_offset: .* at least 3 items"),
    "colour space": (_top("color_space", "rec709"), "color_space: .* got 'rec709'"),
    "contradicting masks": (_contradicting, "no volume in common"),
    "parallel cameras": (_parallel, "optical axes are parallel"),
    "wrong convention": (_diverging, "view . does not see the point .* camera convention"),
    "all black": (
        lambda tree, folder, capture: [
            write_exr(folder / f"images/{i}.exr", RGB=np.zeros((SIZE, SIZE, 3), np.float32)) for i in range(6)
        ][0],
        "all pictures are black",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, capture: Capture, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    edit, message = BAD[case]
    path = capture.write(tmp_path)
    tree = capture.tree()
    edit(tree, tmp_path, capture)
    path.write_text(json.dumps(tree))
    with pytest.raises(ReconError, match=message) as caught:
        extract(path, tmp_path / "out.npz")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert not (tmp_path / "out.npz").exists()
    assert capfd.readouterr() == ("", "")  # libraries below print nothing of their own


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\xff"])
def test_what_is_no_such_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "transforms.json").write_text(text, encoding="latin-1")
    with pytest.raises(ReconError, match="transforms.json: ") as caught:
        extract(tmp_path / "transforms.json", tmp_path / "out.npz")
    assert "\n" not in str(caught.value)


# Pictures


def ramp(dtype: type) -> np.ndarray:
    levels = np.linspace(0, np.iinfo(dtype).max, 6 * 7 * 3).reshape(6, 7, 3)
    return levels.astype(dtype)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_srgb_unless_linear(tmp_path: Path, dtype: type, suffix: str) -> None:
    stored = ramp(dtype)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), stored[..., ::-1])
    share = stored.astype(np.float32) / np.iinfo(dtype).max
    assert np.allclose(read_picture(tmp_path / f"a.{suffix}", "linear").color, share, atol=1e-7)
    linear = read_picture(tmp_path / f"a.{suffix}").color
    assert np.allclose(linear, linear_from_srgb(share), atol=1e-6)
    assert linear[-1, -1, -1] == 1 and linear[0, 0, 0] == 0


def test_srgb_decoding_by_hand() -> None:
    encoded = np.array([0.0, 0.04045, 0.5, 1.0])
    assert np.allclose(linear_from_srgb(encoded), [0, 0.0031308, 0.2140411, 1], atol=1e-6)


def test_jpeg_grey_and_straight_alpha(tmp_path: Path) -> None:
    imageio.imwrite(tmp_path / "a.jpg", np.full((8, 8, 3), 188, np.uint8))
    assert np.allclose(read_picture(tmp_path / "a.jpg").color, 0.5, atol=0.01)
    imageio.imwrite(tmp_path / "grey.png", np.full((8, 8), 255, np.uint8))
    assert read_picture(tmp_path / "grey.png").color.shape == (8, 8, 3)
    half = np.full((8, 8, 4), 255, np.uint8)
    half[..., 3] = 51
    imageio.imwrite(tmp_path / "alpha.png", half)
    picture = read_picture(tmp_path / "alpha.png")
    assert np.allclose(picture.color, 0.2) and picture.alpha is not None and np.allclose(picture.alpha, 0.2)


def test_exr_of_blender_and_of_one_channel(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((5, 6, 4)).astype(np.float16)
    planes = {f"ViewLayer.Combined.{c}": image[..., i] for i, c in enumerate("RGBA")}
    write_exr(tmp_path / "b.exr", **planes, **{"ViewLayer.Depth.Z": np.ones((5, 6), np.float32)})
    picture = read_picture(tmp_path / "b.exr")
    assert np.array_equal(picture.color, image[..., :3].astype(np.float32))
    assert picture.alpha is not None and np.array_equal(picture.alpha, image[..., 3].astype(np.float32))
    write_exr(tmp_path / "v.exr", V=np.eye(5, dtype=np.float32))
    assert np.array_equal(read_mask(tmp_path / "v.exr"), np.eye(5, dtype=bool))
    write_exr(tmp_path / "n.exr", **{"Normal.X": image[..., 0], "Normal.Y": image[..., 1]})
    with pytest.raises(ReconError, match=r"n\.exr: channels Normal\.X, Normal\.Y"):
        read_picture(tmp_path / "n.exr")


def test_exr_that_stores_a_part_fills_the_rest_with_black(tmp_path: Path) -> None:
    part = np.ones((3, 4, 3), np.float32)
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "dataWindow": (np.array([2, 1], np.int32), np.array([5, 3], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([4, 9], np.int32)),
    }
    with OpenEXR.File(header, {"RGB": part}) as file:
        file.write(str(tmp_path / "a.exr"))
    color = read_picture(tmp_path / "a.exr").color
    assert color.shape == (10, 5, 3)
    assert color[1:4, 2:].min() == 1 and color.sum() == 27


def test_masks_of_zeros_and_ones(tmp_path: Path) -> None:
    imageio.imwrite(tmp_path / "m.png", np.eye(4, dtype=np.uint8))
    assert np.array_equal(read_mask(tmp_path / "m.png"), np.eye(4, dtype=bool))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.exr", "a.tiff"])
@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_pictures_that_are_none(tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReconError, match=f"{name}: not a readable") as caught:
        read_picture(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_pictures(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a.{suffix}"
    imageio.imwrite(path, np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ReconError, match="not a readable picture"):
        read_picture(path)
    assert capfd.readouterr() == ("", "")


# Framing


def test_the_cameras_sphere_fills_the_longer_side_of_half_of_the_views() -> None:
    poses = even_sphere(10, 2.5)
    intrinsics = np.tile(intrinsics_from_fov(49.0, 100, 100), (10, 1, 1))
    sizes = np.full((10, 2), 100)
    frame = frame_from_cameras(poses, intrinsics, sizes, "x")
    assert np.allclose(frame[:3, 3], 0, atol=1e-9)
    assert np.isclose(frame[0, 0], 2.5 * np.sin(np.radians(24.5)))
    low = frame_from_cameras(poses, intrinsics - [[0, 0, 0], [0, 0, 10], [0, 0, 0]], sizes - [20, 0], "x")
    assert np.isclose(low[0, 0], frame[0, 0])
    intrinsics[:4, :2, :2] *= 3  # details
    assert np.isclose(frame_from_cameras(poses, intrinsics, sizes, "x")[0, 0], frame[0, 0])


def test_no_camera_is_inside_the_cameras_sphere() -> None:
    poses = even_sphere(10, 2.5)
    poses[3, :3, 3] *= 0.3
    frame = frame_from_cameras(poses, np.tile(intrinsics_from_fov(49.0, 8, 8), (10, 1, 1)), np.full((10, 2), 8), "x")
    assert frame[0, 0] < 0.75


@pytest.mark.parametrize("azimuth", [15.0, 60.0, 180.0])
def test_the_hull_of_a_ball_is_framed_near_and_strictly_inside(azimuth: float) -> None:
    """From a narrow arc, too, where the hull tapers off in depth."""
    poses = arc(12, 4.0, (-azimuth, azimuth), (-10.0, 20.0))
    intrinsics = np.tile(intrinsics_from_fov(40.0, 64, 64), (12, 1, 1))
    ball = trimesh.creation.icosphere(subdivisions=3)
    _, masks = photograph(join([ball], [], np.ones((len(ball.vertices), 3))), poses, intrinsics, 64, 64, 1, "x")
    frame = frame_from_masks(poses, intrinsics, masks > 0, "x")
    radius = np.linalg.norm((ball.vertices - frame[:3, 3]) / frame[0, 0], axis=1).max()
    assert 0.6 < radius < 0.97


def test_one_direction_is_not_enough() -> None:
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2:5, 2:5] = True
    with pytest.raises(ReconError, match="several views"):
        frame_from_masks(np.eye(4)[None], intrinsics_from_fov(40.0, 8, 8)[None], mask, "x")


def test_black_background_is_told_from_others() -> None:
    images = np.zeros((2, 8, 8, 3), np.float32)
    images[:, 3:5, 3:5] = 1
    masks = masks_from_black(images)
    assert masks is not None and np.array_equal(masks, images[..., 0] > 0)
    images[1, 0, 0] = 0.5
    assert masks_from_black(images) is None


def test_saving_what_was_extracted_is_exact(tmp_path: Path, capture: Capture) -> None:
    views = views_from_transforms(capture.write(tmp_path), "x")
    save_views(views, tmp_path / "v.npz")
    back = load_views(tmp_path / "v.npz")
    assert np.array_equal(back.images, views.images)
    assert np.array_equal(back.camera_to_world, views.camera_to_world)

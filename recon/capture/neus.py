"""Data of NeuS, IDR and what follows them: `cameras_sphere.npz`, `image/`, `mask/`.

`world_mat_i` projects points of the world to pixels of the i-th picture by name, `scale_mat_i` carries the unit sphere
around the object to the world. These programs cast a pixel's ray through its whole number, so that the centre of the
first pixel is (0, 0) there.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from recon.capture.framing import Wishes
from recon.capture.posed import Posed, pictures_in, views_from_posed
from recon.capture.poses import rigid_pose, scale_of
from recon.errors import ReconError
from recon.files import read_npz
from recon.views import Views

FILES = ("cameras_sphere.npz", "cameras.npz")


def find_neus(folder: Path) -> Path | None:
    """The file of the cameras; None where `folder` is something else."""
    found = [folder / name for name in FILES if (folder / name).is_file()]
    return found[0] if found and (folder / "image").is_dir() else None


def neus_files(folder: Path) -> list[Path]:
    """All files that extraction may read."""
    return [*(folder / name for name in FILES), *pictures_in(folder / "image"), *pictures_in(folder / "mask")]


def views_from_neus(folder: Path, set_name: str, wishes: Wishes) -> Views:
    """The viewpoint set of the folder; where nothing else is wished for, the unit sphere is the file's.

    Raises:
        ReconError: the file is damaged, or lacks a picture's matrices; numbers of matrices, masks and pictures
            differ; a matrix is no camera.
    """
    path = find_neus(folder)
    assert path is not None  # the caller has found it
    arrays = read_npz(path)
    pictures, masks = pictures_in(folder / "image"), pictures_in(folder / "mask")
    if not pictures:
        raise ReconError(f"{folder}: image/ holds no picture")
    if masks and len(masks) != len(pictures):
        raise ReconError(f"{folder}: image/ holds {len(pictures)} pictures, mask/ {len(masks)}; expected as many")
    count = sum(key.startswith("world_mat_") and not key.startswith("world_mat_inv") for key in arrays)
    if count > len(pictures):
        raise ReconError(
            f"{path}: has {count} of world_mat_i, which go with the pictures by their order, but image/ holds "
            f"{len(pictures)}; expected as many"
        )
    posed = []
    for i, picture in enumerate(pictures):
        pose, intrinsics = _camera(_matrix(arrays, f"world_mat_{i}", path), f"{path}: key 'world_mat_{i}'")
        posed.append(Posed(f"image {picture.name}", picture, masks[i] if masks else None, pose, intrinsics))
    if wishes.like is None and wishes.sphere is None and "scale_mat_0" in arrays:
        wishes = wishes._replace(sphere=_sphere(_matrix(arrays, "scale_mat_0", path), path))
    return views_from_posed(
        posed, folder, set_name, wishes, missing="has no mask in mask/", listing=[path], settings={"format": "NeuS"}
    )


def _matrix(arrays: dict[str, np.ndarray], key: str, path: Path) -> Float[np.ndarray, "4 4"]:
    if key not in arrays:
        raise ReconError(f"{path}: key '{key}' is missing, which there is a picture for")
    matrix = np.asarray(arrays[key], np.float64)
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        raise ReconError(f"{path}: key '{key}': must be 4x4 finite numbers")
    return np.vstack([matrix[:3], [0, 0, 0, 1]])


def _camera(matrix: Float[np.ndarray, "4 4"], where: str) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"]]:
    """Pose and intrinsics of a projection: K R by the RQ decomposition, K with a positive diagonal."""
    from scipy.linalg import rq

    upper, rotation = rq(matrix[:3, :3])
    if abs(np.linalg.det(upper)) < 1e-12 * np.linalg.norm(upper) ** 3:
        raise ReconError(f"{where}: is no projection of a camera")
    signs = np.diag(np.sign(np.diag(upper)))
    upper, rotation = upper @ signs, signs @ rotation
    if np.linalg.det(rotation) < 0:  # a projection is known up to its sign
        rotation, matrix = -rotation, -matrix
    intrinsics = upper / upper[2, 2]
    if abs(intrinsics[0, 1]) > 1e-3 * intrinsics[0, 0]:
        raise ReconError(f"{where}: its pixels are skewed, which no lens here is; expected an upright grid")
    intrinsics[0, 1] = 0
    intrinsics[:2, 2] += 0.5
    center = -np.linalg.solve(matrix[:3, :3], matrix[:3, 3])
    return rigid_pose(rotation.T, center, where), intrinsics


def _sphere(matrix: Float[np.ndarray, "4 4"], path: Path) -> tuple[float, float, float, float]:
    radius = scale_of(matrix[:3, :3])
    if not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, radius**2 * np.eye(3), atol=1e-3 * radius**2) or radius <= 0:
        raise ReconError(f"{path}: key 'scale_mat_0': must be a similarity")
    x, y, z = (float(value) for value in matrix[:3, 3])
    return x, y, z, radius

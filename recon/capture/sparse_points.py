"""Points of a sparse model for photographs whose poses another file gives."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from recon.capture.colmap import Model, Project, read_model
from recon.capture.framing import Points
from recon.errors import ReconError
from recon.frames import moved

FEWEST = 3
"""Photographs that both must have for their frames to be compared."""

SAME = 0.01
"""Mean distance between the two places of a camera, relative to the cameras' spread, up to which frames are the
same."""


def points_in_frame(
    project: Project, pictures: list[Path], poses: Float[np.ndarray, "n 4 4"]
) -> tuple[Points | None, str]:
    """The model's points in the frame of `poses`, seen by `pictures`, and a line that says what is taken from where.

    The two frames may differ by a similarity, as nerfstudio turns what COLMAP found. None where no similarity carries
    the model's cameras to the poses, or the model cannot be read.
    """
    folder = project.models[0]
    try:
        model = max((read_model(path) for path in project.models), key=lambda model: len(model.images))
    except ReconError as error:
        return None, f"poses are this file's, and the points of {folder} are left out: {error}"
    number = _numbers(model, pictures)
    pairs = [(i, number[name]) for i, name in enumerate(image.name for image in model.images) if name in number]
    similarity = None
    if len(pairs) >= FEWEST:
        ours, theirs = (np.array(column) for column in zip(*pairs, strict=True))
        similarity = _similarity(np.stack([image.pose for image in model.images])[ours], poses[theirs])
    if similarity is None:
        return None, f"poses are this file's; the cameras of {folder} stand otherwise, so its points are left out"
    taken = np.full(len(model.images), -1)
    taken[[i for i, _ in pairs]] = [k for _, k in pairs]
    observations = model.points.observations.copy()
    observations[:, 1] = taken[observations[:, 1]]
    points = Points(moved(model.points.places, similarity), observations[observations[:, 1] >= 0])
    return points, f"poses are this file's, points those of {folder}"


def _numbers(model: Model, pictures: list[Path]) -> dict[str, int]:
    """The number of each picture by the model's name for it: its path's end, else its stem, where these are unique."""
    found: dict[str, int] = {}
    for image in model.images:
        name = Path(image.name)
        for fits in (
            [i for i, path in enumerate(pictures) if path.parts[-len(name.parts) :] == name.parts],
            [i for i, path in enumerate(pictures) if path.stem == name.stem],
        ):
            if len(fits) == 1:
                found[image.name] = fits[0]
                break
    return found


def _similarity(
    source: Float[np.ndarray, "n 4 4"], target: Float[np.ndarray, "n 4 4"]
) -> Float[np.ndarray, "4 4"] | None:
    """What carries the first cameras to the second: the mean rotation between their axes, then scale and offset of
    their centres by least squares. None where the cameras do not fit."""
    u, _, vt = np.linalg.svd((target[:, :3, :3] @ source[:, :3, :3].transpose(0, 2, 1)).sum(axis=0))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    ours, theirs = source[:, :3, 3] @ rotation.T, target[:, :3, 3]
    from_mean, to_mean = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    spread = np.square(from_mean).sum()
    if spread <= 0 or (scale := (from_mean * to_mean).sum() / spread) <= 0:
        return None
    apart = np.linalg.norm(scale * from_mean - to_mean, axis=1).mean()
    turned = np.linalg.norm(rotation @ source[:, :3, :3] - target[:, :3, :3], axis=(1, 2)).mean()
    if apart > SAME * np.linalg.norm(to_mean, axis=1).mean() or turned > 3 * SAME:
        return None
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = theirs.mean(axis=0) - scale * ours.mean(axis=0)
    return matrix

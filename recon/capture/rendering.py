"""Photographs of a world by cameras that carry the only light."""

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from recon.camera import Cameras
from recon.capture.world import World
from recon.errors import ReconError
from recon.geometry.winding import inside
from recon.render.renderer import render
from recon.render.shade import Angles


def photograph(
    world: World,
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    height: int,
    width: int,
    samples: int,
    source: str,
) -> tuple[Float32[np.ndarray, "n h w 3"], UInt8[np.ndarray, "n h w"]]:
    """Linear radiance, box-filtered from samples x samples points a pixel, and masks of the pixels
    that show an object by more than half.

    Raises:
        ReconError: a camera stands inside a mesh, or no object is seen from it.
    """
    within = inside(camera_to_world[:, :3, 3], world.vertices, world.faces)
    if within.any():
        raise ReconError(f"{source}: the camera of view {within.argmax()} stands inside an object")
    vertices, faces, albedo = torch.tensor(world.vertices).float(), torch.tensor(world.faces), world.albedo
    # A fourth channel tells object from background; the shader passes it on unlit.
    attributes = torch.tensor(np.column_stack([albedo, world.is_object])).float()
    cameras = Cameras(torch.tensor(camera_to_world).float(), torch.tensor(intrinsics).float(), height, width)
    images, masks = [], []
    for i in range(len(cameras)):  # one by one bounds the memory
        view = cameras[i : i + 1]
        lit = render(vertices, faces, view, albedo=attributes[:, :3], antialias=False, samples=samples)
        share = lit.alpha
        if world.has_background:
            marked = render(
                vertices, faces, view, albedo=attributes[:, 3:], shader=_unlit, antialias=False, samples=samples
            )
            share = marked.radiance[..., 0]
        if not (share > 0.5).any():
            raise ReconError(f"{source}: view {i} shows no object: it is blocked, out of the picture or too small")
        images.append(lit.radiance[0].numpy())
        masks.append((share[0] > 0.5).numpy())
    return np.stack(images), np.stack(masks).astype(np.uint8) * 255


def photograph_background(
    world: World,
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    height: int,
    width: int,
    samples: int,
) -> Float32[np.ndarray, "n h w 3"]:
    """Linear radiance of the world without its objects."""
    cameras = Cameras(torch.tensor(camera_to_world).float(), torch.tensor(intrinsics).float(), height, width)
    if not world.has_background:
        return np.zeros((len(cameras), height, width, 3), np.float32)
    faces = torch.tensor(world.faces[~world.is_object[world.faces].any(axis=1)])
    vertices, albedo = torch.tensor(world.vertices).float(), torch.tensor(world.albedo).float()
    views = (cameras[i : i + 1] for i in range(len(cameras)))
    lit = [render(vertices, faces, view, albedo=albedo, antialias=False, samples=samples) for view in views]
    return np.concatenate([each.radiance.numpy() for each in lit])


def _unlit(
    attributes: Float[Tensor, "p 1"],
    irradiance: Float[Tensor, " p"],
    cosine: Float[Tensor, " p"],
    angles: Angles | None = None,
) -> Float[Tensor, "p 3"]:
    return attributes.expand(-1, 3)

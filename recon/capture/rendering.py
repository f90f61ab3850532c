"""Photographs of a world by cameras that carry the only light."""

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from recon.camera import Cameras
from recon.capture.world import World
from recon.errors import ReconError
from recon.geometry.winding import inside
from recon.render.renderer import Rendering, Shader, diffuse, render
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
    cameras = Cameras(torch.tensor(camera_to_world).float(), torch.tensor(intrinsics).float(), height, width)
    images, masks = [], []
    for i in range(len(cameras)):  # one by one bounds the memory
        lit = _lit(world, cameras[i : i + 1], samples)
        share = lit.alpha
        if world.has_background:
            share = _rendered(world, world.is_object[:, None], cameras[i : i + 1], samples, _unlit).radiance[..., 0]
        if not (share > 0.5).any():
            raise ReconError(f"{source}: view {i} shows no object: it is blocked, out of the picture or too small")
        images.append(lit.radiance[0].numpy())
        masks.append((share[0] > 0.5).numpy())
    return np.stack(images), np.stack(masks).astype(np.uint8) * 255


def photograph_materials(
    world: World,
    camera_to_world: Float[np.ndarray, "n 4 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    height: int,
    width: int,
    samples: int,
) -> tuple[Float32[np.ndarray, "n h w 3"], Float32[np.ndarray, "n h w"]]:
    """Linear diffuse albedo of the objects, without the light's intensity, and roughness of their glossy layers.

    Both are means over what of a pixel shows an object, and 0 where it shows none.
    """
    cameras = Cameras(torch.tensor(camera_to_world).float(), torch.tensor(intrinsics).float(), height, width)
    materials = world.materials

    def albedo(attributes: Tensor, *light: Tensor | Angles | None) -> Tensor:
        return attributes[:, -1:] * materials.albedo(attributes) / materials.intensity

    def others(attributes: Tensor, *light: Tensor | Angles | None) -> Tensor:
        is_object = attributes[:, -1]
        return torch.stack([is_object * materials.roughness(attributes), is_object, is_object], dim=1)

    attributes = np.column_stack([world.attributes, world.is_object])
    albedos, roughnesses = [], []
    for i in range(len(cameras)):
        painted, rough = (
            _rendered(world, attributes, cameras[i : i + 1], samples, shader).radiance for shader in (albedo, others)
        )
        share = rough[..., 1].clamp(min=1e-6)
        albedos.append((painted / share[..., None]).numpy())
        roughnesses.append((rough[..., 0] / share).numpy())
    return np.concatenate(albedos), np.concatenate(roughnesses)


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
    lit = [_lit(world, cameras[i : i + 1], samples, faces) for i in range(len(cameras))]
    return np.concatenate([each.radiance.numpy() for each in lit])


def _lit(world: World, view: Cameras, samples: int, faces: Tensor | None = None) -> Rendering:
    """What a camera sees of the world by its flash; of some of its `faces`, where these are given."""
    if world.materials.plain:
        return _rendered(world, world.albedo, view, samples, diffuse, faces)
    return _rendered(world, world.attributes, view, samples, world.materials.shade, faces)


def _rendered(
    world: World,
    attributes: Float[np.ndarray, "v k"],
    view: Cameras,
    samples: int,
    shader: Shader,
    faces: Tensor | None = None,
) -> Rendering:
    return render(
        torch.tensor(world.vertices).float(),
        torch.tensor(world.faces) if faces is None else faces,
        view,
        albedo=torch.tensor(attributes).float(),
        shader=shader,
        antialias=False,
        samples=samples,
    )


def _unlit(
    attributes: Float[Tensor, "p 1"],
    irradiance: Float[Tensor, " p"],
    cosine: Float[Tensor, " p"],
    angles: Angles | None = None,
) -> Float[Tensor, "p 3"]:
    return attributes.expand(-1, 3)

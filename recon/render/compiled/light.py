"""Light from beside the cameras: what `recon.render.shade.separate_irradiance` has in torch, a point at a time."""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.render.compiled.parts import side_by_side
from recon.render.compiled.vectors import dot, less, plus, times, unit
from recon.render.shade import Angles

_ZERO, _ONE, _TWO = (np.float32(value) for value in (0, 1, 2))


def separate_light(
    places: Float[Tensor, "6 p"], counts: list[int], centers: Float[Tensor, "n 3"], lights: Float[Tensor, "n 4"]
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"], Angles]:
    """Irradiance, cosine and angles, with gradient to the points, their normals, and the lights' places.

    Args:
        places: points and unit normals, in the world, those of one view after those of another.
        counts: how many points each view has.
        centers: of the cameras, in the world.
        lights: homogeneous, in the world (see `Cameras.lights`).
    """
    irradiance, cosine, *angles = _Light.apply(places, lights, centers.detach(), counts)
    return irradiance, cosine, Angles(*angles)


class _Light(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        places: Float[Tensor, "6 p"],
        lights: Float[Tensor, "n 4"],
        centers: Float[Tensor, "n 3"],
        counts: list[int],
    ) -> tuple[Float[Tensor, " p"], ...]:
        saved = [each.detach().contiguous() for each in (places, lights, centers)]
        found = places.new_empty(5, places.shape[1])
        arrays = [each.numpy() for each in (*saved, found)]
        ends = np.cumsum([0, *counts])
        side_by_side(lambda view: _shine(*arrays, view, ends[view], ends[view + 1]), range(len(counts)))
        ctx.save_for_backward(*saved)
        ctx.ends = ends
        ctx.set_materialize_grads(False)
        return tuple(found.unbind(0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        places, lights, _ = ctx.saved_tensors
        given = [(places.new_zeros(places.shape[1]) if each is None else each).contiguous() for each in gradients[:2]]
        apart = any(each is not None for each in gradients[2:])
        zeros = places.new_zeros(places.shape[1] if apart else 0)
        given += [zeros if each is None else each.contiguous() for each in gradients[2:]]
        of_places, of_lights = torch.empty_like(places), torch.zeros_like(lights)
        arrays = [each.numpy() for each in (*ctx.saved_tensors, *given, of_places, of_lights)]
        ends = ctx.ends
        side_by_side(lambda view: _shine_back(*arrays, apart, view, ends[view], ends[view + 1]), range(len(ends) - 1))
        return of_places, of_lights, None, None


@njit(nogil=True, error_model="numpy")
@no_type_check
def _across(vector, direction, inverse):
    """The gradient of a vector by that of its direction."""
    along = dot(vector, direction)
    return times(inverse, less(vector, times(along, direction)))


@njit(nogil=True, error_model="numpy")
@no_type_check
def _offset(light, point):
    """From the point to a near light (w = 1), or the direction itself of a distant one (w = 0)."""
    return less((light[0], light[1], light[2]), times(light[3], point))


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _shine(places, lights, centers, found, view, start, stop):
    light, center = lights[view], (centers[view, 0], centers[view, 1], centers[view, 2])
    for i in range(start, stop):
        point, normal = (places[0, i], places[1, i], places[2, i]), (places[3, i], places[4, i], places[5, i])
        to_light, inverse = unit(_offset(light, point))
        to_camera, _ = unit(less(center, point))
        half, _ = unit(plus(to_light, to_camera))
        cosine = max(dot(to_light, normal), _ZERO)
        found[0, i] = cosine * (inverse * inverse) if light[3] > _ZERO else cosine
        found[1, i] = cosine
        found[2, i] = dot(to_camera, normal)
        found[3, i] = dot(half, normal)
        found[4, i] = dot(half, to_camera)


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _shine_back(
    places, lights, centers, of_irradiance, of_cosine, of_view, of_half, of_difference, of_places, of_lights,
    apart, view, start, stop,
):  # fmt: skip
    """`apart`: whether there are gradients of the angles."""
    light, center = lights[view], (centers[view, 0], centers[view, 1], centers[view, 2])
    x, y, z = 0.0, 0.0, 0.0  # of 64 bits: sums of what a million points give
    for i in range(start, stop):
        point, normal = (places[0, i], places[1, i], places[2, i]), (places[3, i], places[4, i], places[5, i])
        offset = _offset(light, point)
        to_light, inverse = unit(offset)
        cosine = dot(to_light, normal)
        of_point, by_light, by_normal = (_ZERO, _ZERO, _ZERO), (_ZERO, _ZERO, _ZERO), (_ZERO, _ZERO, _ZERO)
        by_squared = _ZERO
        if cosine >= _ZERO:
            by = of_cosine[i]
            if light[3] > _ZERO:
                by += of_irradiance[i] * (inverse * inverse)
                by_squared = -of_irradiance[i] * cosine * (inverse * inverse) * (inverse * inverse)
            else:
                by += of_irradiance[i]
            by_light, by_normal = times(by, normal), times(by, to_light)
        if apart:
            to_camera, near = unit(less(center, point))
            half, width = unit(plus(to_light, to_camera))
            by_half = _across(plus(times(of_half[i], normal), times(of_difference[i], to_camera)), half, width)
            by_camera = plus(plus(times(of_view[i], normal), times(of_difference[i], half)), by_half)
            by_light = plus(by_light, by_half)
            by_normal = plus(by_normal, plus(times(of_view[i], to_camera), times(of_half[i], half)))
            of_point = less(of_point, _across(by_camera, to_camera, near))
        of_offset = plus(_across(by_light, to_light, inverse), times(_TWO * by_squared, offset))
        of_point = less(of_point, times(light[3], of_offset))
        of_places[0, i], of_places[1, i], of_places[2, i] = of_point
        of_places[3, i], of_places[4, i], of_places[5, i] = by_normal
        x, y, z = x + of_offset[0], y + of_offset[1], z + of_offset[2]
    of_lights[view, 0], of_lights[view, 1], of_lights[view, 2] = x, y, z

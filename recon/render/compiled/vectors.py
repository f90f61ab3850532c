"""Tuples in compiled loops: three numbers of a point, and lengths that the compiler is to know."""

from typing import no_type_check

import numpy as np
from numba import njit

from recon.render.normals import SHORTEST

_ONE = np.float32(1)
_SHORTEST = np.float32(SHORTEST**2)


def known_length(count: int) -> tuple[int, ...]:
    """As many zeros as that: the compiler knows the length of a tuple, and unrolls loops over it."""
    return (0,) * count


@njit(nogil=True, error_model="numpy")
@no_type_check
def cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(nogil=True, error_model="numpy")
@no_type_check
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(nogil=True, error_model="numpy")
@no_type_check
def less(a, b):
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@njit(nogil=True, error_model="numpy")
@no_type_check
def times(factor, a):
    return factor * a[0], factor * a[1], factor * a[2]


@njit(nogil=True, error_model="numpy")
@no_type_check
def unit(vector):
    """The direction, and one over the length."""
    inverse = _ONE / np.sqrt(max(dot(vector, vector), _SHORTEST))
    return times(inverse, vector), inverse


@njit(nogil=True, error_model="numpy")
@no_type_check
def plus(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]

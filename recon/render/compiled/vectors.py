"""Three numbers of a point, as tuples: what compiled loops compute with them."""

from typing import no_type_check

import numpy as np
from numba import njit

from recon.render.normals import SHORTEST

_ONE = np.float32(1)
_SHORTEST = np.float32(SHORTEST**2)


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

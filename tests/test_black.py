"""Extraction, crops, masks and the field agree on what is black."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import ring, sphere_views

from recon.background.black import shows_more_than_black
from recon.background.visible_cells import black_beside_sphere
from recon.capture.normalise import masks_from_black
from recon.images.black import BLACK
from recon.training.crop import occupied_pixels


@pytest.mark.parametrize(("veil", "black"), [(0.9 * BLACK, True), (1.1 * BLACK, False)])
def test_a_veil_is_black_to_all_or_to_none(veil: float, black: bool) -> None:
    cameras, views = ring(4, 24, 24), sphere_views(4, 24)
    images = np.maximum(views.images, np.float32(veil))
    assert (masks_from_black(images) is not None) == black
    assert black_beside_sphere(cameras, torch.from_numpy(images)) == black
    far = torch.full((1, 3), 100.0)
    occupied = occupied_pixels(torch.from_numpy(images), cameras, far)
    assert (not occupied[:, 0].any()) == black
    masks = ((views.images.max(axis=3) > BLACK) * 255).astype(np.uint8)
    assert shows_more_than_black(replace(views, images=images, masks=masks)) != black

from dataclasses import replace

import numpy as np
from shapes import sphere_views

from recon.background.black import before_black


def test_what_masks_exclude_becomes_black() -> None:
    views = sphere_views(3, 24)
    assert views.masks is not None
    lit = replace(views, images=np.maximum(views.images, np.float32(0.3)))
    found = before_black(lit)
    assert (found.images[views.masks == 0] == 0).all()
    np.testing.assert_array_equal(found.images[views.masks > 0], lit.images[views.masks > 0])


def test_photographs_before_black_stay_as_they_are() -> None:
    views = sphere_views(3, 24)
    assert before_black(views) is views
    assert before_black(replace(views, masks=None)).images is views.images

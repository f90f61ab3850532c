"""What a 3D viewer of the page shows, read back from its canvas."""

import base64

import imageio.v3 as imageio
import numpy as np
from playwright.sync_api import Page


def pixels(page: Page, stage: str) -> np.ndarray:
    """The canvas of a stage as (h, w, 4), after it has drawn what was asked for."""
    page.locator(f"#{stage}").scroll_into_view_if_needed()
    page.wait_for_selector(f"#{stage}[data-drawn]")
    # Two frames: one for what is still to be drawn.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    url = page.evaluate(f"() => document.querySelector('#{stage} canvas').toDataURL('image/png')")
    return imageio.imread(base64.b64decode(url.partition(",")[2]), extension=".png")


def until(page: Page, condition: str) -> None:
    """Wait for an expression; playwright's own waiting evaluates text in the page, which its policy forbids."""
    for _ in range(1200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def covered(picture: np.ndarray) -> int:
    """Pixels that show something."""
    return int((picture[..., 3] > 127).sum())


def colour(picture: np.ndarray) -> np.ndarray:
    """The mean colour of what is shown, (3,)."""
    return picture[picture[..., 3] > 127][:, :3].mean(axis=0)

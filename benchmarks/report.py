"""How large the report on ten runs is, and how soon a browser answers to it."""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from playwright.sync_api import sync_playwright

from recon.report.page import report

RUNS = 10
SOURCE = Path("results/bunny/default")
"""A validated run, such as `make demo` leaves."""
# WebGL without a graphics card.
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def report_page(source: Path = SOURCE) -> str:
    """Size of the page about `RUNS` runs like `source`, and the time from its address to an answer."""
    if not (source / "validation").is_dir():
        return f"report: needs the validated run {source}: `make demo` makes it"
    with tempfile.TemporaryDirectory() as folder:
        runs = [_variant(source, Path(folder) / f"run{number}", number) for number in range(RUNS)]
        start = time.perf_counter()
        report(runs, Path(folder) / "report")
        took = time.perf_counter() - start
        page = Path(folder) / "report" / "index.html"
        return (
            f"report: {RUNS} runs, {page.stat().st_size / 1e6:.1f} MB, made in {took:.0f} s, "
            f"interactive after {_interactive(page):.2f} s"
        )


def _variant(source: Path, run: Path, number: int) -> Path:
    """A copy whose pictures and shapes are its own, as those of another training: the page keeps equal ones once."""
    shutil.copytree(source, run)
    generator = np.random.default_rng(number)
    for path in (run / "validation").glob("*/*.png"):
        if not path.stem.endswith("truth"):
            picture = imageio.imread(path)
            noise = generator.integers(0, 2, picture.shape, dtype=np.uint8)
            imageio.imwrite(path, np.where(picture > 0, np.minimum(picture, 254) + noise, 0).astype(np.uint8))
    shapes = [run / "validation" / "surface.npz", *(run / "checkpoints").glob("[0-9]*.npz")]
    for path in shapes:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        for key in ("vertices", "flow"):
            if key in arrays:
                arrays[key] = arrays[key] + generator.normal(scale=1e-3, size=arrays[key].shape).astype(np.float32)
        np.savez_compressed(path, allow_pickle=False, **arrays)
    return run


def _interactive(page: Path) -> float:
    """Seconds until the first mesh is on the screen and the page takes input, the median of three visits."""
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SOFTWARE)
        for _ in range(3):
            tab = browser.new_page(viewport={"width": 1600, "height": 1000})
            tab.goto(page.as_uri(), wait_until="commit")
            tab.wait_for_selector("#object[data-drawn]", timeout=60_000)
            seconds.append(tab.evaluate("performance.now()") / 1000)
            tab.close()
        browser.close()
    return statistics.median(seconds)

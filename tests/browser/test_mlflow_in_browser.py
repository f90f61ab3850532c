"""MLflow's own pages, on runs of ours."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as imageio
import mlflow
import numpy as np
import pytest
import urllib3
from conftest import SCREENSHOTS
from playwright.sync_api import Browser, Page, expect
from runs import write_run

from recon import tracking
from recon.report.publish import publish

SECONDS_TO_START = 90


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, store_uri: str) -> list[Path]:
    """Two runs with curves, renders and pages, in the experiment "browser"."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store_uri)
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "browser")
        paths = [write_run(folder / name, error) for name, error in (("paper", 0.004), ("slow", 0.003))]
        for path in paths:
            with tracking.start_run(path.name, {"train.learning_rate": 0.001}, out=path) as run:
                steps = range(1, 6)
                tables = {
                    "history.csv": ["iteration,time,seconds,loss", *(f"{i},{i},{i},{1 / i}" for i in steps)],
                    "validation.csv": [
                        "iteration,time,seconds,set,mean_absolute_error",
                        *(f"{i},{i},{i},front,{0.1 / i}" for i in steps),
                    ],
                }
                for name, lines in tables.items():
                    (path / "checkpoints" / name).write_text("\n".join(lines) + "\n")
                for step in steps:
                    run.log_image("renders/front", np.full((20, 60, 3), 40 * step, np.uint8), step)
                run.release()
        publish(paths, folder / "out")
    return paths


@pytest.fixture(scope="module")
def address(store_uri: str, runs: list[Path]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store_uri]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            retries = urllib3.Retry(total=SECONDS_TO_START, backoff_factor=1, backoff_max=1)
            with urllib3.PoolManager(retries=retries) as pool:
                pool.request("GET", f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1900, "height": 1200}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def identities(runs: list[Path], store: str) -> tuple[str, list[str]]:
    """The experiment and its runs."""
    ids = [(run / "run_id.txt").read_text().strip() for run in runs]
    return mlflow.MlflowClient(tracking_uri=store).get_run(ids[0]).info.experiment_id, ids


def keep(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"mlflow-{name}.png")


@pytest.mark.parametrize("file", ["viewer.html", "report.html"])
def test_the_pages_open_in_the_preview(page: Page, address: str, runs: list[Path], store: str, file: str) -> None:
    experiment, (first, _) = identities(runs, store)
    page.goto(f"{address}/#/experiments/{experiment}/runs/{first}/artifacts/{file}")
    inside = page.frame_locator("iframe")
    expect(inside.locator("h1")).to_have_text(
        "Reconstruction of paper" if file == "viewer.html" else "2 reconstructions"
    )
    expect(inside.locator("#object[data-drawn] canvas")).to_be_visible()
    shot = imageio.imread(inside.locator("#object canvas").screenshot(), extension=".png")
    assert len(np.unique(shot.reshape(-1, shot.shape[-1]), axis=0)) > 50
    keep(page, file)


def test_two_runs_are_compared_by_curves_and_pictures(page: Page, address: str, runs: list[Path], store: str) -> None:
    experiment, _ = identities(runs, store)
    page.goto(f"{address}/#/experiments/{experiment}/runs?compareRunsMode=CHART")
    for name in ("paper", "slow"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    # A chart of the losses of both runs, and their renders along the steps of the training.
    curves = page.locator(".js-plotly-plot").first
    curves.scroll_into_view_if_needed()
    expect(curves.locator(".scatterlayer .trace").nth(1)).to_be_attached()
    assert curves.evaluate("plot => new Set(plot.data.map(trace => trace.uuid ?? trace.name)).size") == 2
    step = page.get_by_role("slider").first
    step.scroll_into_view_if_needed()
    step.press("ArrowRight")
    pictures = page.locator("img[src*='artifact'], img[src^='blob:']")
    expect(pictures.nth(1)).to_have_js_property("complete", True)
    # MLflow shows small copies of its own.
    assert all(picture.evaluate("image => image.naturalWidth") > 0 for picture in pictures.all())
    keep(page, "compare")


def test_the_curves_of_a_run_are_found(page: Page, address: str, runs: list[Path], store: str) -> None:
    experiment, (first, _) = identities(runs, store)
    page.goto(f"{address}/#/experiments/{experiment}/runs/{first}")
    page.get_by_role("tab", name="Model metrics").click()
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    keep(page, "curves")

"""`recon view`, while a training goes on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from canvas import colour, covered, pixels, until
from playwright.sync_api import expect
from runs import write_training

from recon.camera import intrinsics_from_fov, look_at
from recon.config import RunConfig
from recon.model.export import write_meshes
from recon.model.model import Model
from recon.report.viewer import make_server
from recon.surface.icosphere import icosphere
from recon.views import Views, save_views


@contextmanager
def served(target: Path) -> Iterator[str]:
    with make_server(target, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_the_page_follows_a_training_and_keeps_what_was_chosen(open_page, tmp_path: Path) -> None:
    run = write_training(tmp_path / "run")
    (run / "mesh.glb").unlink()
    with served(run) as address:
        page = open_page(address)
        before = covered(pixels(page, "object"))
        page.locator("#object canvas").press("ArrowLeft")
        pose = page.evaluate("stages.object.pose.azimuth")
        np.savez(run / "checkpoints" / "0001300.npz", vertices=icosphere(2).vertices.numpy() * 0.2)
        with open(run / "history.csv", "a") as file:
            file.write("1300,130,0.004,0.004\n")
        with open(run / "validation.csv", "a") as file:
            file.write("1300,130,front,0.004\n")
        expect(page.locator(".facts")).to_contain_text("1,300 ×")
        until(page, "typeof stages === 'object' && 'object' in stages")
        assert page.evaluate("stages.object.pose.azimuth") == pose
        # Framed anew: the smaller sphere is as large.
        assert covered(pixels(page, "object")) == pytest.approx(before, rel=0.02)
        page.locator("#flow-section").scroll_into_view_if_needed()
        expect(page.locator("#training-time + output")).to_have_text("iteration 1,300")
        # The server goes while the page still asks.
        page.close()


def test_a_mesh_is_turned(open_page, tmp_path: Path) -> None:
    trimesh.creation.box((1, 2, 3)).export(tmp_path / "box.ply")
    with served(tmp_path / "box.ply") as address:
        page = open_page(address)
        assert covered(pixels(page, "object")) > 5000
        page.close()


def test_cameras_and_images_of_a_viewpoint_set(open_page, tmp_path: Path) -> None:
    poses = look_at(np.array([[2.0, 0, 1], [0, 2, 1]]), np.zeros(3), np.array([0, 0, 1.0]))
    intrinsics = np.tile(intrinsics_from_fov(50.0, 8, 12), (2, 1, 1))
    save_views(Views(np.full((2, 8, 12, 3), 0.5, np.float32), poses, intrinsics), tmp_path / "views.npz")
    with served(tmp_path / "views.npz") as address:
        page = open_page(address)
        picture = pixels(page, "object")[..., :3].astype(int)
        assert ((picture[..., 2] - picture[..., 0]) > 60).sum() > 50  # the cameras are blue
        expect(page.locator(".gallery img")).to_have_count(2)
        expect(page.locator(".gallery img").first).to_have_js_property("naturalWidth", 12)
        page.close()


def test_a_glb_is_shown_with_its_material(open_page, tmp_path: Path) -> None:
    """Under the flash, and each part of the material alone; the shape is that of the clay."""
    torch.manual_seed(0)
    tree = {"reflectance": "microfacet", "train": {"levels": [2]}, "export": {"texture": 32}}
    model = Model(RunConfig.model_validate(tree), np.eye(4), 1.0)
    write_meshes(model, tmp_path)
    with served(tmp_path / "mesh.glb") as address:
        page = open_page(address)
        shown = {}
        for look in ("flash", "color", "roughness", "normals", "shape"):
            page.select_option("#object-look", look)
            shown[look] = pixels(page, "object")
        counts = [covered(picture) for picture in shown.values()]
        assert min(counts) > 5000 and max(counts) < 1.02 * min(counts)
        assert colour(shown["color"]).min() > 250  # a new model is white
        assert np.ptp(colour(shown["roughness"])) < 1 and colour(shown["flash"]).mean() < 250
        assert np.ptp(colour(shown["normals"])) > 20  # towards whoever looks is blue
        page.close()

from pathlib import Path

import numpy as np
import trimesh

from recon.config import RunConfig, SurfaceConfig
from recon.model.model import Model
from recon.model.snapshot import SNAPSHOT_LEVEL, carried, write_snapshot
from recon.surface.icosphere import icosphere

FRAME = np.diag([2.0, 2.0, 2.0, 1.0])
FRAME[:3, 3] = [5, 6, 7]


def small_model() -> Model:
    return Model(RunConfig(surface=SurfaceConfig(width=8, steps=3)), FRAME, 1.0)


def test_a_snapshot_is_the_surface_in_the_sources_frame(tmp_path: Path) -> None:
    model = small_model()
    write_snapshot(model, tmp_path / "0000120.npz", 120)
    with np.load(tmp_path / "0000120.npz", allow_pickle=False) as stored:
        assert stored["iteration"] == 120
        vertices = stored["vertices"]
    expected = model.mesh(SNAPSHOT_LEVEL).vertices.detach().numpy()
    np.testing.assert_allclose(vertices, trimesh.transform_points(expected, FRAME), atol=1e-5)


def test_the_flow_starts_at_the_sphere() -> None:
    path = carried(small_model(), level=1)
    assert path.shape == (4, 42, 3)
    sphere = icosphere(1).vertices.numpy()
    np.testing.assert_allclose(path[0], trimesh.transform_points(sphere, FRAME), atol=1e-5)

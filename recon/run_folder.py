"""Every file that a run leaves: its name, who writes it, what it holds, and which names are taken.

    RUN/                        `recon train --out RUN`
        mesh.ply  mesh.glb  mesh_lod1.glb …  mesh.obj …  model.pt  train.yaml  history.csv  validation.csv
        viewer.html  run_id.txt
        checkpoints/            side files, from which a stopped training goes on; no workflow declares them
        validation/             `recon validate --run RUN --out RUN/validation`

Training, validation, tracking, report, viewer and the rules of the workflow take their names from here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

VERSION = 4
"""Of the files in a run folder that recon reads back, `model.pt` and the states of a training. Another is refused."""


class RunFile(NamedTuple):
    """A file of a run folder: its name there, the command that writes it, and what it holds."""

    name: str
    writer: str
    holds: str


MESH_PLY = RunFile("mesh.ply", "train", "the mesh in the source's frame, in doubles, vertices coloured by albedo")
MESH_GLB = RunFile("mesh.glb", "train", "the same mesh as glTF has it: material and textures, y up, placed by its node")
MESH_OBJ = RunFile("mesh.obj", "train", "the same mesh in the source's frame, with all digits")
MESH_MTL = RunFile("mesh.mtl", "train", "its material")
LODS = (
    RunFile("mesh_lod1.glb", "train", "as mesh.glb, a level coarser, textures of half the size"),
    RunFile("mesh_lod2.glb", "train", "and once more"),
)
BASE_COLOR = RunFile("mesh_base_color.png", "train", "texture of mesh.obj: base colour, where it varies (sRGB)")
ROUGHNESS = RunFile("mesh_roughness.png", "train", "texture of mesh.obj: roughness, where it varies (linear)")
NORMAL_MAP = RunFile("mesh_normals.png", "train", "texture of mesh.obj: normals of a finer level in tangent space")
MODEL = RunFile("model.pt", "train", "configuration, weights, frame and radiance scale; read with weights_only=True")
CONFIG = RunFile("train.yaml", "train", "the resolved configuration")
LIGHT = RunFile("light.json", "train", "what was learned of the light, with a key of `light` alone")
CAMERAS = RunFile("cameras.json", "train", "corrected poses of the training views, with `cameras.refine` alone")
HISTORY = RunFile("history.csv", "train", "an iteration a row: seconds, level, learning rate, every loss term")
CHECKS = RunFile("validation.csv", "train", "the error of each viewpoint set at each checkpoint")
VIEWER = RunFile("viewer.html", "train", "the mesh to turn, as one page")
RUN_ID = RunFile("run_id.txt", "train", "MLflow's identifier of the run")

TRAINED = (MESH_PLY, MESH_GLB, MODEL, CONFIG, HISTORY, CHECKS, RUN_ID)
"""What a training that is over has left, wherever it ran: the outputs of the workflow's rule."""

TEXTURES = (BASE_COLOR, ROUGHNESS, NORMAL_MAP)
"""Pictures beside `MESH_OBJ`; those that its reflectance needs none of are not there."""

ASSETS = (MESH_PLY, MESH_GLB, *LODS, MESH_OBJ, MESH_MTL, *TEXTURES)
"""The surface and its material, for other programs."""

ARTIFACTS = (*ASSETS, VIEWER, MODEL, CONFIG, LIGHT, CAMERAS, HISTORY, CHECKS)
"""What MLflow gets of them."""

TABLES = (HISTORY, CHECKS)
"""What a training records as it goes."""

REQUIRED_OF_A_RUN = (CONFIG, HISTORY)
"""What makes a folder a run."""

CERTIFICATE = RunFile("certificate.json", "validate", "what holds of the mesh: watertight, manifold, genus, crossings")
GEOMETRY = RunFile("geometry.json", "validate", "with a reference: how far the mesh is from it")
SURFACE = RunFile("surface.npz", "validate", "what is known at the mesh's vertices, for the page")
OVERSHOOT = RunFile("overshoot.npz", "validate", "the brightest prediction, as radiance")
TURNTABLE = RunFile("turntable.gif", "validate", "the reconstruction, turning")
RELIT = RunFile("relit.gif", "validate", "the reconstruction, turning, lit by a lamp beside the camera")
HOLES = RunFile("holes.json", "validate", "where views see the background through what the mesh covers")
HOLES_PICTURE = RunFile("holes.png", "validate", "the views that see most through it, where any do")
MEASURED = (CERTIFICATE, GEOMETRY, SURFACE, OVERSHOOT, TURNTABLE, RELIT, HOLES, HOLES_PICTURE)
"""The files of a validation that belong to no viewpoint set."""

MEASURED_OF_THE_MESH = (CERTIFICATE, GEOMETRY)
"""Those of them whose numbers MLflow gets, and of the pictures those that it gets:"""
PICTURES = (TURNTABLE, RELIT, HOLES_PICTURE)

RESERVED_SETS = tuple(dict.fromkeys(Path(file.name).stem for file in MEASURED))
"""Names that no viewpoint set can have: NAME.json, NAME.png and the folder NAME stand beside these files."""

RESERVED_EXPERIMENTS = ("reference.ply", "runs", "views")
"""Names that no experiment can have: what else stands in results/SCENE/."""

RESERVED_SCENES = ("benchmarks", "experiments", "logs", "mlruns", "report")
"""Names that no scene can have: the other folders in results/."""

_LOCK = "lock"


@dataclass(frozen=True)
class _Folder:
    path: Path

    def file(self, which: RunFile) -> Path:
        """The path of a file of this folder."""
        return self.path / which.name


class RunFolder(_Folder):
    """The paths of a run's files."""

    @property
    def name(self) -> str:
        """What a run is called that nobody named: the last two parts of the folder."""
        return "/".join(self.path.resolve().parts[-2:])

    @property
    def mesh(self) -> Path | None:
        """The mesh's file, of whichever format is there."""
        return next((path for path in map(self.file, (MESH_GLB, MESH_PLY)) if path.exists()), None)

    @property
    def is_trained(self) -> bool:
        """Whether a training has ended here."""
        return self.file(MESH_PLY).exists() and self.file(MODEL).exists()

    @property
    def run_id(self) -> str | None:
        """MLflow's identifier; None where the folder has none."""
        path = self.file(RUN_ID)
        return (path.read_text().strip() or None) if path.is_file() else None

    @property
    def checkpoints(self) -> Path:
        """The folder of side files."""
        return self.path / "checkpoints"

    @property
    def state(self) -> Path:
        """All that the next iteration depends on, replaced every now and then."""
        return self.checkpoints / "state.pt"

    @property
    def previous_state(self) -> Path:
        """The one before, should the last be damaged."""
        return self.checkpoints / "state.previous.pt"

    @property
    def checkpoint_model(self) -> Path:
        """The model at the last checkpoint."""
        return self.checkpoints / MODEL.name

    @property
    def lock(self) -> Path:
        """Held by the process that trains here."""
        return self.checkpoints / _LOCK

    @property
    def record(self) -> Path:
        """What MLflow is to know of the run beside its files."""
        return self.checkpoints / "tracking.json"

    @property
    def renders(self) -> Path:
        """SET/ITERATION.png: photographs above predictions."""
        return self.checkpoints / "renders"

    def snapshot(self, iteration: int) -> Path:
        """The surface at a checkpoint (npz)."""
        return self.checkpoints / f"{iteration:07d}.npz"

    def table(self, which: RunFile) -> Path:
        """`HISTORY` or `CHECKS` as it grows: beside the checkpoint, where Snakemake removes no declared output."""
        aside = self.checkpoints / which.name
        return aside if aside.exists() else self.file(which)

    @property
    def validation(self) -> "ValidationFolder":
        """Where validation writes unless it is told otherwise."""
        return ValidationFolder(self.path / "validation")


class ValidationFolder(_Folder):
    """The paths of a validation's files."""

    def metrics(self, set_name: str) -> Path:
        """The metrics of a viewpoint set's views and their mean (JSON)."""
        return self.path / f"{set_name}.json"

    def sheet(self, set_name: str) -> Path:
        """Some views beside their prediction (PNG)."""
        return self.path / f"{set_name}.png"

    def gallery(self, set_name: str) -> Path:
        """The folder of pictures of every view."""
        return self.path / set_name

    def sets(self) -> list[str]:
        """The viewpoint sets that were measured."""
        return sorted(path.stem for path in self.path.glob("*.json") if path.stem not in RESERVED_SETS)

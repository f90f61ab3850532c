"""The configuration of a training run: the one source of every default.

The JSON schema in `workflow/schemas` is generated from these models.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recon.errors import ReconError
from recon.files import atomic

Integrator = Literal["euler", "midpoint", "rk4"]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Keys that belong together: frozen, unknown ones refused, defaults checked like values."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class SurfaceConfig(Section):
    """The velocity field and its integration (Cheng et al. 2022, section 3)."""

    representation: Literal["grid", "mlp"] = Field(
        "grid", description="the velocity field: B-splines on grids from coarse to fine, or the paper's network"
    )
    cells: tuple[Annotated[int, Field(ge=1, le=128)], ...] = Field(
        (4, 8, 16, 32), min_length=1, description="grid: cells of each grid along an axis, each twice the one before"
    )
    degree: int = Field(2, ge=1, le=3, description="grid: of the B-splines")
    falloff: float = Field(
        1.0, ge=0, le=4, description="grid: a grid n times as fine takes steps that are n^falloff times as small"
    )
    width: int = Field(128, ge=1, description="mlp: units of each hidden layer")
    layers: int = Field(3, ge=1, description="mlp: hidden layers")
    frequencies: int = Field(14, ge=1, description="bands of the positional encoding (mlp, and reflectance)")
    frequency_base: float = Field(1.5, gt=1, description="band i has frequency base^i")
    amplitude_base: float = Field(1.3, ge=1, description="band i has amplitude base^-i")
    steps: int = Field(5, ge=1, description="integration steps from the sphere to the object")
    integrator: Integrator = Field("midpoint", description="scheme of one step")

    @model_validator(mode="after")
    def _nested(self) -> "SurfaceConfig":
        _check_doubling(self.cells, "cells")
        return self


def _check_doubling(sizes: Sequence[int], key: str) -> None:
    if any(fine != 2 * coarse for coarse, fine in pairwise(sizes)):
        raise ValueError(f"'{key}' must each be twice the one before")


class CropConfig(Section):
    """Crops of the views that an iteration renders."""

    size: int | None = Field(None, ge=2, description="side of the crop in pixels; empty: whole views")
    mode: Literal["uniform", "object", "inside"] = Field(
        "object",
        description="where crops fall: anywhere, never where there is nothing to compare, or (the reference's) "
        "inside the picture, one offset for all views and without weights, where borders are seldom seen",
    )


class StoppingConfig(Section):
    """When a run ends before its schedule does. Checks are those of `train.checkpoints`."""

    set: str | None = Field(
        None, min_length=1, description="viewpoint set to watch, by its name in --validation; empty: train to the end"
    )
    patience: int = Field(3, ge=1, description="checks in a row without improvement that end training")
    min_change: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="fall of the mean absolute error that counts as improvement"
    )


class TrainConfig(Section):
    """The optimisation and its schedule."""

    iterations: int = Field(800, ge=1, description="length of the schedule without --max-minutes; mlp: 2000")
    learning_rate: float = Field(0.02, gt=0, le=1, description="Adam's step size at the start; mlp: 0.004")
    schedule: Literal["constant", "cosine", "step"] = Field("cosine", description="course of the learning rate")
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.5, 0.75), min_length=1, description="with step: parts of the schedule after which the learning rate falls"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="with step: what each fall multiplies the learning rate by")
    views_per_iteration: int | None = Field(
        None,
        ge=1,
        description="views rendered in an iteration; empty: 4, and of crops as many as make up their pixels",
    )
    levels: tuple[Annotated[int, Field(ge=0, le=7)], ...] = Field(
        (3, 4, 4, 5), min_length=1, description="icosphere levels over equal parts of the schedule"
    )
    constant_albedo: float = Field(
        0.35,
        ge=0,
        lt=1,
        description="part of the surface's schedule in which a reflectance that varies is coarse still (mlp: one "
        "albedo): what shading and outlines can explain becomes shape, not paint",
    )
    random_rotation: bool = Field(True, description="turn the icosphere at random in every iteration")
    seed: int = Field(0, ge=0, description="of every random choice")
    crop: CropConfig = CropConfig()
    checkpoints: int = Field(10, ge=1, description="times that validation and renders are logged")
    save_every: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="seconds between the states from which a stopped run goes on"
    )
    early_stopping: StoppingConfig = StoppingConfig()


class LossConfig(Section):
    """Weights of the loss terms; the paper's two are on, and three that keep flow and mesh from folding."""

    image: Weight = Field(1.0, description="mean absolute error of the images")
    robust: Weight = Field(
        0.0,
        description="radiance by which a pixel may be off before it counts less and less (Geman-McClure), so that "
        "highlights and moving shadows carve no dents: 0.1; 0: all count alike",
    )
    relative: float = Field(
        1.0,
        ge=0,
        le=2,
        description="exponent with which pixels of a painted object count more where it is dark, up to 4 times, so "
        "that dark paint has as true a shape; 0: all count alike; mlp: 0",
    )
    velocity: Weight = Field(
        1e-3, description="regularity of the velocity, mean |(1 - alpha Laplacian) v|^2; mlp: 0.03"
    )
    velocity_alpha: Weight = Field(0.01, description="alpha of the velocity term")
    velocity_points: int = Field(
        2048,
        ge=1,
        description="random points that estimate fold and distortion, of an mlp velocity too; mlp: 256",
    )
    fold: Weight = Field(5.0, description="mean hinge on the volume change of the flow's steps: keeps it from folding")
    distortion: Weight = Field(
        5.0, description="mean hinge on how unevenly the flow's steps stretch: keeps it from pleating; mlp: 0"
    )
    crossing: Weight = Field(
        1.0, description="in the last tenth: how deep triangles of the mesh pass through one another; mlp: 0"
    )
    silhouette: Weight = Field(0.0, description="mean absolute error of alpha; needs masks")
    pseudo_mask: Weight = Field(
        1.0, description="with a field: alpha against the pixels that the field leaves unexplained, less and less"
    )
    redundant_alpha: Weight = Field(
        0.3, description="with a field: alpha of outline pixels that the field explains alone"
    )
    field_opacity: Weight = Field(
        0.05,
        description="with a field: mean opacity in front of the unit sphere, from among the cameras too, with the "
        "light that it sends; half of it within, a twentieth elsewhere",
    )
    field_distortion: Weight = Field(
        0.02, description="with a field: how far apart along rays it stops light (mip-NeRF 360's distortion loss)"
    )
    smoothness: Weight = Field(1e-3, description="with a grid: mean absolute difference between neighbouring cells")
    light: Weight = Field(
        1e-3,
        description="with keys of light: mean squares of what is learned, to keep it near what is assumed without",
    )
    edge: Weight = Field(0.0, description="mean squared deviation of edge lengths from their mean")
    normal: Weight = Field(0.0, description="mean 1 - cos between the normals of adjacent faces")
    laplacian: Weight = Field(0.0, description="mean length of the uniform Laplacian of the vertices")


class TextureConfig(Section):
    """The textures of a reflectance that varies over a surface of velocity grids."""

    sizes: tuple[Annotated[int, Field(ge=2, le=4096)], ...] = Field(
        (4, 8, 16, 32, 64, 128, 256),
        min_length=1,
        description="texels of each texture along a side, each twice the one before",
    )
    falloff: float = Field(
        0.25, ge=0, le=4, description="a texture n times as fine takes steps that are n^falloff times as small"
    )
    least: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="relative contrast of the albedo, and error without it, up to which an object counts as one of "
        "one albedo, and textures are left out (varying only); 0: never",
    )

    @model_validator(mode="after")
    def _nested(self) -> "TextureConfig":
        _check_doubling(self.sizes, "sizes")
        return self


class FieldConfig(Section):
    """The radiance field outside the unit sphere, with `background: field`."""

    representation: Literal["grid", "mlp"] = Field("grid", description="explicit and fast, or a network")
    resolution: int = Field(64, ge=4, le=256, description="cells of the grid along each axis of contracted space")
    ambient: bool = Field(False, description="also light that does not come from the flash")
    samples: int = Field(32, ge=2, description="samples along a ray in front of the sphere and behind it")
    rays: int = Field(
        1500,
        ge=1,
        description="random rays of an iteration past the object; as many at most where something may stand before it, "
        "and four times as many on its outline",
    )
    learning_rate: float = Field(0.1, gt=0, le=1, description="Adam's step size for the grid at the start")
    warm_up: float = Field(0.1, ge=0, lt=1, description="part of the schedule in which a volume stands for the mesh")


class CamerasConfig(Section):
    """What is learned of the cameras."""

    refine: bool = Field(
        False,
        description="correct the poses of the training views by small motions, from 35% of the surface's schedule on; "
        "for poses that are not exact, as from structure from motion",
    )


class LightConfig(Section):
    """What is learned of the light beside the surface (docs/light.md)."""

    strength: bool = Field(
        False, description="of each view and channel: exposure and white balance that were not kept fixed"
    )
    offset: bool = Field(False, description="from the lens to the flash, one vector in the cameras' frame")
    ambient: bool = Field(
        False, description="light on the object that does not come from the flash: spherical harmonics of order 2"
    )
    shadows: bool = Field(
        False,
        description="shadows that the object casts on itself, where the light is not at the lens, by `offset` or by "
        "what the set says; nothing is learned",
    )
    vignetting: bool = Field(False, description="how the lens darkens towards the border, one polynomial for all views")


class RenderConfig(Section):
    """How views are rendered in training."""

    backend: Literal["torch", "pytorch3d"] = Field(
        "torch",
        description="rasteriser: recon's own (by Numba on a CPU and Triton on a CUDA device, where these serve), or "
        "PyTorch3D's",
    )
    samples: int = Field(2, ge=1, le=8, description="shading samples along each side of a pixel")
    antialias: bool = Field(True, description="blend silhouettes; without it outlines have no gradient")


class ExportConfig(Section):
    """The meshes as they leave the run."""

    up: Literal["y", "source"] = Field(
        "y",
        description="of mesh.glb: turn the source's z to glTF's y, or leave the source's axes (where its y is up); "
        "mesh.ply always has the source's",
    )
    metres: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="a unit of the source in metres, glTF's unit: 0.001 where the source has millimetres; empty: what "
        "a marker in the photographs told, else 1",
    )
    texture: int = Field(
        1024, ge=16, le=8192, description="texels along each side of the textures; a level of detail coarser has half"
    )


WHOLE_VIEWS = 4
"""Views of an iteration, where they are whole and `train.views_per_iteration` does not say how many."""

MLP_DEFAULTS: dict[str, dict[str, float]] = {
    "loss": {"relative": 0.0, "velocity": 0.03, "velocity_points": 256, "distortion": 0.0, "crossing": 0.0},
    "train": {"iterations": 2000, "learning_rate": 4e-3},
}
"""Where a network's defaults are other than a grid's."""


MLP_REFLECTANCE = "constant"
"""What a surface by a network has unless it is told otherwise: that of the reference work."""


class RunConfig(Section):
    """Everything that determines a training run, but for its data."""

    surface: SurfaceConfig = SurfaceConfig()
    reflectance: Literal["constant", "varying", "microfacet"] = Field(
        "varying",
        description="one diffuse albedo, an albedo over the sphere, or albedo and a glossy layer (mlp: Cook-Torrance "
        "lobes); mlp: constant",
    )
    texture: TextureConfig = TextureConfig()
    background: Literal["none", "constant", "field", "given"] = Field(
        "none",
        description="black, one colour that is learned, a radiance field outside the unit sphere, or the views "
        "without the object, where these are known",
    )
    field: FieldConfig = FieldConfig()
    cameras: CamerasConfig = CamerasConfig()
    light: LightConfig = LightConfig()
    render: RenderConfig = RenderConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_representation(cls, tree: Any) -> Any:
        """The network's own defaults, for keys that are left out; the result states every value."""
        surface = tree.get("surface") if isinstance(tree, Mapping) else None
        if not isinstance(surface, Mapping) or surface.get("representation") != "mlp":
            return tree
        sections = {name: tree.get(name, {}) for name in MLP_DEFAULTS}
        own = {name: {**MLP_DEFAULTS[name], **given} for name, given in sections.items() if isinstance(given, Mapping)}
        return {"reflectance": MLP_REFLECTANCE, **tree, **own}


RENAMED = {
    "loss.guide": "loss.pseudo_mask",
    "loss.surplus": "loss.redundant_alpha",
    "loss.veil": "loss.field_opacity",
    "loss.spread": "loss.field_distortion",
}
"""Keys of earlier versions, refused with their new name."""


def load_config(path: str | Path | None, overrides: Iterable[str] = ()) -> RunConfig:
    """The configuration in the YAML file `path` (defaults where None) with `key=value` overrides.

    Raises:
        ReconError: the file is missing or no YAML mapping; a key is unknown (the nearest known key
            is named); a value is out of range; an override is not of the form key=value.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise ReconError(f"{path}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ReconError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if loaded is not None and not isinstance(loaded, dict):
            raise ReconError(f"{path}: must hold a mapping of keys, got {type(loaded).__name__}")
        tree = loaded or {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ReconError(f"--set {override}: must have the form key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ReconError(f"--set {override}: the value is not YAML") from None
        _set(tree, key, value)
    return parse_config(tree, source=str(path or "--set"))


def parse_config(tree: Mapping[str, Any], source: str) -> RunConfig:
    """Validate a nested mapping; errors name `source` and the dotted key."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ReconError(f"{source}: {_explain(error)}") from None


def save_config(config: RunConfig, path: str | Path) -> None:
    """Write every key with its value as YAML, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of the leaves of a nested mapping."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def overrides(config: RunConfig) -> list[str]:
    """`key=value` of every key that is not at its default, as `recon train --set` takes them."""
    defaults = flatten(RunConfig().model_dump(mode="json"))
    chosen = flatten(config.model_dump(mode="json"))
    return [f"{key}={json.dumps(value)}" for key, value in chosen.items() if value != defaults[key]]


def known_keys() -> list[str]:
    """Every dotted configuration key."""
    return list(flatten(RunConfig().model_dump()))


def known_instead(key: str, known: Sequence[str]) -> str:
    """What to write instead of a key that is not one of the `known`, in words."""
    if key in RENAMED:
        return f"it is called '{RENAMED[key]}' now"
    return f"the nearest known key is '{difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]}'"


def _set(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ReconError(f"--set {dotted}: '{parent}' is a value, not a section")
        tree = child
    tree[leaf] = value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = known_keys()
        sections = {name.rsplit(".", 1)[0] for name in known if "." in name}
        return f"unknown key '{key}'; {known_instead(key, [*known, *sections])}"
    return f"key '{key}': {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"

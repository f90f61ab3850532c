"""A declared scene: `scene.yaml`."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from recon.config import Section
from recon.errors import ReconError
from recon.geometry.meshes import Primitive

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Color = tuple[
    Annotated[float, Field(ge=0, allow_inf_nan=False)],
    Annotated[float, Field(ge=0, allow_inf_nan=False)],
    Annotated[float, Field(ge=0, allow_inf_nan=False)],
]
Elevation = Annotated[float, Field(ge=-89, le=89)]
SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Pattern(Section):
    """Paint in two colours, in the frame of the object before it is rotated and moved."""

    pattern: Literal["checker", "stripes", "gradient", "half"] = Field(
        description="cubes, slabs or a course along the axis, or a half on either side of the centre"
    )
    colors: tuple[Color, Color] = Field(((0.8, 0.8, 0.8), (0.15, 0.15, 0.15)), description="linear RGB")
    size: Positive = Field(0.25, description="edge of a cube, width of a stripe, half the length of a gradient")
    axis: Literal["x", "y", "z"] = Field("z", description="of stripes, gradient and halves")


class ObjectConfig(Section):
    """A mesh, its pose (fitted, then rotated, then moved) and its material."""

    shape: Literal["bunny", "bunny_head"] | Primitive | None = Field(None, description="an object that recon makes")
    mesh: Path | None = Field(None, description="or a mesh file, relative to the scene's file")
    radius: Positive | None = Field(
        0.95, description="recentre, and scale to an enclosing sphere of this radius; empty: leave as it is"
    )
    rotation: tuple[Finite, Finite, Finite] = Field((0, 0, 0), description="degrees about x, then y, then z")
    position: tuple[Finite, Finite, Finite] = Field((0, 0, 0), description="where the centre goes")
    albedo: Color | Literal["vertex"] | Pattern = Field(
        (1, 1, 1), description="linear RGB, or `vertex`: the file's vertex colours, which are sRGB, or a pattern"
    )
    roughness: float | None = Field(
        None, ge=0.1, le=1, description="of a glossy layer, GGX with alpha = roughness^2; empty: all is diffuse"
    )
    specular: float = Field(0.04, ge=0, le=1, description="what that layer reflects along the normal (F0)")

    @model_validator(mode="after")
    def _one_source(self) -> "ObjectConfig":
        if (self.shape is None) == (self.mesh is None):
            raise ValueError("expected either 'shape' or 'mesh'")
        return self


class CameraConfig(Section):
    """The camera of all sets but keyframes, which bring their own intrinsics."""

    width: int = Field(100, ge=2, description="pixels")
    height: int = Field(100, ge=2, description="pixels")
    field_of_view: Annotated[float, Field(gt=0, lt=180)] = Field(49.0, description="horizontal, in degrees")
    focal_length: Positive | None = Field(None, description="in pixels, instead of the field of view")
    samples: int = Field(4, ge=1, le=16, description="samples along each side of a pixel")

    @model_validator(mode="after")
    def _one_lens(self) -> "CameraConfig":
        if self.focal_length is not None and "field_of_view" in self.model_fields_set:
            raise ValueError("expected either 'field_of_view' or 'focal_length'")
        return self


class LightConfig(Section):
    """The flash at the camera's centre."""

    intensity: Positive = Field(1.0, description="radiance of a white surface that faces it at distance 1")


class ArcPath(Section):
    """Cameras on a patch of a sphere about the object; angles in degrees."""

    path: Literal["arc"] = "arc"
    count: int = Field(30, ge=1)
    radius: Positive = 2.5
    azimuth: tuple[Finite, Finite] = Field((-70, 70), description="0 looks at the front, from +x")
    elevation: tuple[Elevation, Elevation] = Field((-15, 35), description="above the xy-plane")


class SpherePath(Section):
    """Cameras all around, evenly."""

    path: Literal["sphere"]
    count: int = Field(30, ge=1)
    radius: Positive = 2.5


class KeyframesPath(Section):
    """The viewpoints of a keyframes.npz in the scene's frame."""

    path: Literal["keyframes"]
    file: Path = Field(description="relative to the scene's file")


def _path_kind(entry: Any) -> str:
    return str(entry.get("path", "arc")) if isinstance(entry, dict) else str(getattr(entry, "path", "arc"))


Preset = Literal["none", "white_cubes", "coloured_cubes", "far_cubes"]

CameraPath = Annotated[
    Annotated[ArcPath, Tag("arc")] | Annotated[SpherePath, Tag("sphere")] | Annotated[KeyframesPath, Tag("keyframes")],
    Discriminator(_path_kind),
]

DEFAULT_SETS: dict[str, ArcPath | SpherePath | KeyframesPath] = {
    "front": ArcPath(),
    "full": ArcPath(azimuth=(0, 360), elevation=(10, 10)),
    "above": ArcPath(elevation=(45, 50)),
    "below": ArcPath(elevation=(-40, -35)),
}


class Scene(Section):
    """Objects inside the unit sphere, a background outside it, and cameras that carry the light."""

    objects: list[ObjectConfig] = Field(min_length=1, description="inside the unit sphere together")
    background: Preset | list[ObjectConfig] = Field("none", description="outside the unit sphere")
    empty_views: bool = Field(False, description="also photograph every view without the objects: `backgrounds`")
    light: LightConfig = LightConfig()
    camera: CameraConfig = CameraConfig()
    training_set: str = Field("front", description="its brightest pixel becomes 1 in all sets")
    sets: dict[SetName, CameraPath] = Field(default_factory=lambda: dict(DEFAULT_SETS), min_length=1)
    published: dict[SetName, Positive] = Field(
        {}, description="losses that a report of others gives for these sets: recon's report has them beside its own"
    )

    @model_validator(mode="after")
    def _training_set_exists(self) -> "Scene":
        if self.training_set not in self.sets:
            raise ValueError(f"'training_set' is {self.training_set}, but 'sets' has {', '.join(self.sets)}")
        return self

    @model_validator(mode="after")
    def _published_sets_exist(self) -> "Scene":
        if unknown := self.published.keys() - self.sets.keys():
            raise ValueError(f"'published' has {min(unknown)}, but 'sets' has {', '.join(self.sets)}")
        return self


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which does not let a key silently replace another."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{twice}' is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_scene(path: Path) -> Scene:
    """Read and validate a scene.

    Raises:
        ReconError: the file is missing or no YAML mapping; a key is unknown (the nearest is named),
            missing, or has a value out of range.
    """
    try:
        tree = _Loader(path.read_text()).get_single_data()
    except OSError as error:
        raise ReconError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ReconError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ReconError(f"{path}: must hold a mapping of keys, got {type(tree).__name__}")
    try:
        return Scene.model_validate(tree)
    except ValidationError as error:
        raise ReconError(f"{path}: {_explain(error)}") from None


def scene_files(scene: Scene, path: Path) -> list[Path]:
    """The meshes and keyframes that the scene of the file `path` refers to."""
    background = scene.background if isinstance(scene.background, list) else []
    meshes = [config.mesh for config in [*scene.objects, *background] if config.mesh is not None]
    keyframes = [entry.file for entry in scene.sets.values() if isinstance(entry, KeyframesPath)]
    return [path.parent / name for name in [*meshes, *keyframes]]


def _explain(error: ValidationError) -> str:
    """One line about the error that lies deepest: of a value that may be this or that, the closest miss."""
    first: Any = max(error.errors(), key=lambda e: len(e["loc"]))
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(str(first["loc"][-1]), _known_keys(), n=1, cutoff=0.0)
        return f"unknown key '{key}'; the nearest known key is '{nearest[0]}'"
    message = first["msg"].removeprefix("Value error, ")
    where = f"key '{key}': " if key else ""
    if first["type"] in ("missing", "value_error"):
        return f"{where}{message[0].lower()}{message[1:]}"
    return f"{where}{message[0].lower()}{message[1:]}, got {first['input']!r}"


def _known_keys() -> list[str]:
    models = (Scene, ObjectConfig, Pattern, CameraConfig, LightConfig, ArcPath, SpherePath, KeyframesPath)
    return sorted({name for model in models for name in model.model_fields})

"""recon inspect: every warning, and the picture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from shapes import sphere_views

from recon.camera import look_at
from recon.capture.paths import even_sphere
from recon.cli import main
from recon.config import load_config
from recon.errors import ReconError
from recon.images.black import BLACK
from recon.inspection.contact_sheet import BEYOND, _tile, best_columns, shown_views
from recon.inspection.coverage import coverage
from recon.inspection.doubts import doubts
from recon.inspection.falloff import Falloff, falloff
from recon.inspection.findings import Finding, find, spans
from recon.inspection.light import light_of
from recon.inspection.measure import measure
from recon.inspection.outlines import outlined
from recon.inspection.sphere import covered, outline, points_outside
from recon.views import Views, save_views


@pytest.fixture(scope="module")
def around() -> Views:
    """A white ball from twelve sides, at distances from 2 to 4 and as bright as these make it."""
    views = sphere_views(12, 32)
    poses = even_sphere(12, 1.0)
    distance = np.linspace(2, 4, 12)
    poses[:, :3, 3] *= distance[:, None]
    focal = 12 * distance  # the ball is equally large in every picture
    intrinsics = np.array([np.array([[f, 0, 16], [0, f, 16], [0, 0, 1]]) for f in focal])
    rows, columns = np.mgrid[:32, :32] + 0.5
    squared = ((rows - 16.3) ** 2 + (columns - 15.8) ** 2) / 8**2
    level = np.sqrt((1 - squared).clip(0)).astype(np.float32)
    brightness = ((2 - 0.6) / (distance - 0.6)) ** 2
    images = (brightness[:, None, None, None] * level[..., None] * np.ones(3)).astype(np.float32)
    masks = np.tile((squared < 1).astype(np.uint8) * 255, (12, 1, 1))
    return replace(views, images=images / images.max(), masks=masks, camera_to_world=poses, intrinsics=intrinsics)


def inspected(views: Views) -> tuple[list[Finding], Falloff]:
    measures, covered = measure(views), coverage(views)
    fall = falloff(views, measures, covered)
    return find(views, measures, covered, fall), fall


def words(views: Views) -> dict[str, tuple[int, ...]]:
    return {finding.word: finding.views for finding in inspected(views)[0]}


def test_a_good_set_has_no_warnings(around: Views) -> None:
    findings, fall = inspected(around)
    assert findings == []
    assert fall.verdict == "squared" and fall.exponent == pytest.approx(2, abs=0.2)


def changed(key: str, where: object, value: float) -> Callable[[Views], Views]:
    def change(views: Views) -> Views:
        array = getattr(views, key).copy()
        array[where] = value
        return replace(views, **{key: array})

    return change


def flat(views: Views) -> Views:
    """Ambient light: every view as bright as the others."""
    return replace(views, images=views.images / views.images.max(axis=(1, 2, 3), keepdims=True) * np.float32(0.9))


def clipped(views: Views) -> Views:
    return replace(views, images=views.images.clip(0, 0.5) * 2)


def one_side(views: Views) -> Views:
    eyes = 2.5 * np.array([[1, y, z] for y in (-0.3, 0, 0.3) for z in (-0.3, 0, 0.2)])
    poses = look_at(eyes, np.zeros(3), np.array([0, 0, 1.0]))
    return replace(views.select(slice(0, 9)), camera_to_world=poses)


def tiny() -> np.ndarray:
    mask = np.zeros((32, 32), np.uint8)
    mask[16:18, 16:18] = 255
    return mask


CASES: dict[str, tuple[Callable[[Views], Views], tuple[int, ...]]] = {
    "at border": (changed("masks", (4, 0, slice(10, 14)), 255), (4,)),
    "empty mask": (changed("masks", 3, 0), (3,)),
    "full mask": (changed("masks", slice(6, 8), 255), (6, 7)),
    "few cameras": (lambda views: views.select(slice(0, 5)), ()),
    "one side": (one_side, ()),
    "unseen": (one_side, ()),
    "inside": (changed("camera_to_world", (2, slice(0, 3), 3), 0.3), (2,)),
    "saturated": (clipped, (0, 1, 2)),
    "fall-off": (flat, ()),
    "no masks": (lambda views: replace(views, images=views.images.clip(0.2), masks=None), ()),
    "inverted": (lambda v: replace(v, masks=255 - v.masks), (0, 1, 2)),  # type: ignore[operator]
    "small mask": (lambda v: replace(v, masks=np.where(np.arange(12)[:, None, None] == 5, tiny(), v.masks)), (5,)),
    "exposure": (
        lambda v: replace(v, images=v.images * np.float32([1, 1, 0.001] + 9 * [1])[:, None, None, None]),
        (2,),
    ),
    "far light": (lambda v: replace(v, light_position=v.camera_to_world[:, :3, 3] + 99.0), (0, 1)),
    "negative": (changed("images", (5, 16, 16), -0.5), (5,)),
    "black": (lambda views: replace(views, images=0 * views.images), ()),
}


@pytest.mark.parametrize("word", CASES)
def test_warnings(around: Views, word: str) -> None:
    change, views = CASES[word]
    found = words(change(around))
    assert word in found
    assert found[word][: len(views)] == views and (views or found[word] == ())


def test_before_black_what_is_lit_is_the_object(around: Views) -> None:
    """With a shadow on it, too; but not where one wall is lit, nor where all is black."""
    assert around.masks is not None
    images = around.images.copy()
    images[:, 14:18, 14:18] = 0
    bare = replace(around, images=images, masks=None)
    masks = outlined(bare).masks
    assert masks is not None
    np.testing.assert_array_equal(masks > 0, around.images.max(axis=3) > BLACK)
    assert masks[:, 14:18, 14:18].all()
    assert "no masks" not in words(bare)
    wall = images.copy()
    wall[2, :, 0] = 0.2
    wall[5, 0] = 0.2
    for other in (wall, 0 * images):
        assert outlined(replace(bare, images=other)).masks is None
        assert "no masks" in words(replace(bare, images=other))
    assert outlined(around) is around


def test_a_black_border_that_no_photograph_shows_is_not_before_black(around: Views) -> None:
    images, known = np.full_like(around.images, 0.3), np.zeros(around.images.shape[:3], np.uint8)
    known[:, 1:-1, 1:-1] = 255
    images[known == 0] = 0
    assert outlined(replace(around, images=images, masks=None, known=known)).masks is None


def test_a_lone_brightest_pixel_is_not_saturated(around: Views) -> None:
    images = around.images * np.float32(0.5)
    images[0, 16, 16] = 1
    assert "saturated" not in words(replace(around, images=images))


def with_disc(views: Views, squared_radius: float, view: int = 3) -> Views:
    """The views at half their brightness, in one of which a disc in the middle is cut off at 1."""
    rows, columns = np.mgrid[:32, :32] + 0.5
    images = views.images * np.float32(0.5)
    images[view, (rows - 16) ** 2 + (columns - 16) ** 2 < squared_radius] = 1
    return replace(views, images=images)


def test_saturation_matters_from_a_hundredth_of_the_object_on(around: Views) -> None:
    """Of the ball's some 200 pixels 1 and 4 are 0.5% and 2%."""
    few, many = with_disc(around, 0.0), with_disc(around, 1.0)
    few.images[3, 16, 16] = 1
    assert "saturated" not in words(few) and words(many)["saturated"] == (3,)
    measures = measure(many)
    assert measures.cut_off.tolist() == [0, 0, 0, 4] + 8 * [0]
    assert measures.saturated[3] == pytest.approx(4 / (around.masks[3] > 0).sum())  # type: ignore[index]


def test_what_is_as_bright_as_resampling_leaves_it_is_cut_off(around: Views) -> None:
    views = with_disc(around, 4.0)
    views.images[3, 16, 16:] = np.nextafter(np.float32(1), np.float32(2))
    assert words(views)["saturated"] == (3,)


def test_a_lamp_beside_the_object_may_be_as_bright_as_it_likes(around: Views) -> None:
    images = around.images * np.float32(0.5)
    images[:, :4, :6] = 1  # a corner, beside the unit sphere, whose picture has a radius of some 13 pixels
    unmasked = replace(around, images=images, masks=None)
    assert "saturated" not in words(unmasked)
    assert not covered(unmasked.camera_to_world[0], unmasked.intrinsics[0], 32, 32)[:4, :6].any()
    inside = replace(with_disc(around, 4.0), masks=None)
    assert words(inside)["saturated"] == (3,)
    sentence = next(each.sentence for each in inspected(inside)[0] if each.word == "saturated")
    assert "of the unit sphere's picture" in sentence


def test_the_pixels_of_the_sphere_are_those_inside_its_outline(around: Views) -> None:
    pose, matrix = around.camera_to_world[2], around.intrinsics[2]
    edge = outline(pose, matrix)
    assert edge is not None
    rows, columns = np.mgrid[:32, :32] + 0.5
    radius = np.linalg.norm(edge - [16, 16], axis=1).mean()
    far = np.hypot(rows - 16, columns - 16) - radius
    inside = covered(pose, matrix, 32, 32)
    assert inside[far < -0.1].all() and not inside[far > 0.1].any()
    pose = pose.copy()
    pose[:3, 3] = [0.2, 0, 0]
    assert covered(pose, matrix, 32, 32).all()


def test_fall_off_that_cannot_be_told_is_no_warning(around: Views) -> None:
    directions = np.tile([0.0, 0, 1], (12, 1))
    cases = {
        "equally far": sphere_views(6, 24),
        "distant": replace(around, light_direction=directions),
        "too few": around.select(slice(0, 3)),
    }
    for reason, views in cases.items():
        findings, fall = inspected(views)
        assert fall.verdict == "unknown" and reason in fall.reason
        assert "fall-off" not in {finding.word for finding in findings}


def test_near_lights_are_what_brightness_falls_from(around: Views) -> None:
    centers = around.camera_to_world[:, :3, 3]
    moved = replace(around, camera_to_world=around.camera_to_world.copy(), light_position=centers)
    moved.camera_to_world[:, :3, 3] *= 3 / np.linalg.norm(centers, axis=1, keepdims=True)
    assert inspected(moved)[1].verdict == "squared"


def test_coverage_counts_the_views_of_each_part(around: Views) -> None:
    covered = coverage(around)
    assert covered.share(0, 0) == 0 and covered.share(0) == pytest.approx(1)
    ahead = (covered.directions @ np.array([1.0, 0, 0])) > 0.95
    # The ball has radius 0.6 or so: each part is seen by a good third of all cameras, but not by all.
    assert 2 <= covered.seen[ahead].mean() <= 8
    assert covered.radius.mean() == pytest.approx(8 / 12, abs=0.1)
    one = coverage(around.select(slice(0, 1)))
    eye = around.camera_to_world[0, :3, 3]
    facing = one.directions @ eye / np.linalg.norm(eye)
    assert one.seen[facing > 0.8].all() and not one.seen[facing < 0].any()


def test_images_of_one_camera_under_several_lights_all_count(around: Views) -> None:
    twice = around.select(np.repeat(np.arange(12), 2))
    assert np.array_equal(coverage(twice).seen, 2 * coverage(around).seen)


def test_views_are_named_in_spans() -> None:
    assert spans((0, 1, 2, 5, 7, 8)) == "0–2, 5, 7–8"
    assert Finding("x", "is odd", (3,)).line() == "view 3: is odd"
    assert Finding("x", "is odd", (3, 4)).line() == "views 3–4: is odd"


def test_a_tile_is_grey_where_no_photograph_shows_anything(around: Views) -> None:
    known = np.full(around.images.shape[:3], 255, np.uint8)
    known[2, :, :16] = 0
    tile = _tile(replace(around, known=known), 2, 2)
    assert tile.shape == (16, 16, 3) and (tile[:, :8] == BEYOND).all()
    assert np.array_equal(tile[:, 8:], _tile(around, 2, 2)[:, 8:])


def test_tiles() -> None:
    assert best_columns(30, 1.0, 1.0) == 5 and best_columns(30, 3.0, 1.0) == 10
    assert best_columns(1, 1.0, 1.0) == 1
    shown = shown_views(200, [7, 150])
    assert len(shown) == 48 and {7, 150} <= set(shown) and shown == sorted(shown)
    assert len(shown_views(200, list(range(100)))) == 48


def test_the_command_prints_a_table_and_draws_a_picture(
    around: Views, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_views(replace(around, metadata={"set": "front", "source": "a.json"}), tmp_path / "v.npz")
    with np.load(tmp_path / "v.npz") as archive:
        arrays = dict(archive)
    arrays["masks"][3] = 0  # which saving refuses
    np.savez(tmp_path / "v.npz", **arrays)
    assert main(["inspect", str(tmp_path / "v.npz"), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "front: 12 views of 32×32 pixels from a.json" in text
    assert "warning: view 3: the mask is empty" in text and "fall-off   brightness goes as" in text
    assert imageio.imread(tmp_path / "out" / "v.inspection.png").shape[:2] == (1200, 1920)


def test_extract_says_what_inspect_finds(
    around: Views, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*ignored: object) -> Views:
        return replace(changed("masks", slice(6, 8), 255)(around), metadata={"warnings": ["a.json: is odd"]})

    monkeypatch.setattr("recon.capture.extract.read_source", read)
    (tmp_path / "a.json").write_text("")
    out = tmp_path / "v.npz"
    assert main(["extract", str(tmp_path / "a.json"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines() == [
        "recon: warning: a.json: is odd",
        f"recon: warning: {out}: views 6–7: the mask is full: it marks the whole picture as object",
    ]
    assert main(["inspect", str(out)]) == 0
    assert "warning: a.json: is odd" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change", [lambda v: replace(v, masks=None), lambda v: v.select(slice(0, 1)), CASES["black"][0]]
)
def test_pictures_of_odd_sets(around: Views, tmp_path: Path, change: Callable[[Views], Views]) -> None:
    save_views(change(around), tmp_path / "v.npz")
    assert main(["inspect", str(tmp_path / "v.npz")]) == 0
    assert (tmp_path / "v.inspection.png").is_file()


def test_what_is_no_viewpoint_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "v.npz").write_bytes(b"PK nonsense")
    assert main(["inspect", str(tmp_path / "v.npz"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "out").exists()
    assert main(["inspect", str(tmp_path / "none.npz")]) == 2


def test_the_sphere_s_outline_is_where_rays_touch_it() -> None:
    pose = look_at(np.array([[2.0, -1.5, 0.7]]), np.array([0.3, 0.1, 0]), np.array([0, 0, 1.0]))[0]
    matrix = np.array([[50.0, 0, 20], [0, 40, 15], [0, 0, 1]])
    found = outline(pose, matrix)
    assert found is not None
    rays = np.c_[found, np.ones(len(found))] @ np.linalg.inv(matrix).T @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    assert np.allclose(np.linalg.norm(np.cross(pose[:3, 3], rays), axis=1), 1)
    pose[:3, 3] *= 0.3
    assert outline(pose, matrix) is None  # from inside


def test_points_outside_the_sphere_are_counted_and_told(around: Views, tmp_path: Path) -> None:
    places = np.zeros((40, 3), np.float32)
    places[:4, 0] = 1.5
    pairs = np.array([(point, view) for point in range(40) for view in range(2 if point == 3 else 5)], np.int32)
    some = replace(around, points=places, observations=pairs)
    assert points_outside(some) == (40, 4, 39, 3)
    (finding,) = [each for each in inspected(some)[0] if each.word == "sphere"]
    assert finding.sentence.startswith("3 of the 39 points that 4 or more views see lie outside the unit sphere")
    places[0] = 0
    places[1] = 0
    assert "sphere" not in words(replace(some, points=places))


def test_the_table_counts_points(around: Views, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = np.array([[0, 0, 0], [0, 0, 2]], np.float32)
    some = replace(around, points=places, observations=np.array([[0, 0], [1, 0]], np.int32))
    save_views(some, tmp_path / "v.npz")
    assert main(["inspect", str(tmp_path / "v.npz")]) == 0
    assert "points     2 of structure from motion; 1 (50.0%) lie outside" in capsys.readouterr().out


def lit(light: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], count: int = 16) -> Views:
    """Points of a ball of radius 0.7 with albedos of their own, seen from one distance; `light` takes points, normals
    and the camera's pose. Each point colours the pixel that it falls into."""
    random = np.random.default_rng(0)
    normals = random.normal(size=(900, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    places, albedo = 0.7 * normals, random.uniform(0.3, 0.8, 900)
    poses = even_sphere(count, 3.0)
    matrix = np.array([[400.0, 0, 128], [0, 400, 128], [0, 0, 1]])
    images, pairs = np.zeros((count, 256, 256, 3), np.float32), []
    for view, pose in enumerate(poses):
        local = (places - pose[:3, 3]) @ pose[:3, :3] @ matrix.T
        column, row = np.floor(local[:, :2] / local[:, 2:]).astype(int).T
        seen = np.flatnonzero(((pose[:3, 3] - places) * normals).sum(axis=1) > 0.3)
        images[view, row[seen], column[seen]] = (albedo * light(places, normals, pose))[seen, None]
        pairs += [(point, view) for point in seen]
    observations = np.array(sorted(pairs), np.int32)
    intrinsics = np.tile(matrix, (count, 1, 1))
    images *= np.float32(0.9) / images.max()
    return Views(images, poses, intrinsics, points=places.astype(np.float32), observations=observations)


def near(place: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    offset = place - points
    distance = np.linalg.norm(offset, axis=1)
    return ((offset * normals).sum(axis=1) / distance**3).clip(0)


@pytest.mark.parametrize(
    ("light", "kind"),
    [
        (lambda p, n, pose: 9 * near(pose[:3, 3], p, n), "flash"),
        (lambda p, n, pose: 9 * near(pose[:3, 3] - 0.2 * pose[:3, 1], p, n), "flash"),
        (lambda p, n, pose: 0.5 + 0.2 * n[:, 2], "fixed"),
        (lambda p, n, pose: 4.5 * near(pose[:3, 3], p, n) + 0.3, "mixed"),
        (
            lambda p, n, pose: 9 * near(pose[:3, 3] + 2.5 * pose[:3, 0] - 1.5 * pose[:3, 1], p, n),
            "fixed",
        ),  # a turntable
    ],
)
def test_the_light_is_told_at_one_distance(
    light: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], kind: str
) -> None:
    views = lit(light)
    found = light_of(views, coverage(views))
    assert found.kind == kind
    assert (f"{kind} light" in words(views)) == (kind != "flash")


FIXED = lit(lambda p, n, pose: 0.5 + 0.2 * n[:, 2])
MIXED = lit(lambda p, n, pose: 4.5 * near(pose[:3, 3], p, n) + 0.3)


@pytest.mark.parametrize(
    ("views", "settings", "words"),
    [
        (FIXED, [], "the light is fixed, not a flash"),
        (FIXED, ["loss.silhouette=1"], "the light is fixed, not a flash"),  # there are no outlines to fit
        (replace(FIXED, masks=np.full((16, 256, 256), 255, np.uint8)), ["loss.silhouette=1"], None),
        (MIXED, [], "'--set light.ambient=true'"),
        (MIXED, ["light.ambient=true"], None),
    ],
)
def test_light_that_a_training_does_not_assume_is_a_doubt(views: Views, settings: list[str], words: str | None) -> None:
    found = doubts(views, load_config(None, settings))
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


def test_surroundings_that_nothing_explains_are_a_doubt(around: Views) -> None:
    plain = load_config(None)
    assert not doubts(around, plain) and not doubts(replace(around, masks=None), plain)
    lit = replace(around, images=around.images.clip(0.2))
    assert not doubts(lit, plain)
    (found,) = doubts(replace(lit, masks=None), plain)
    assert "the surroundings are in view" in found and "--set background=field" in found
    assert not doubts(replace(lit, masks=None), load_config(None, ["background=field"]))


def test_doubts_are_told_before_a_training(
    around: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def begun(*_: object) -> None:
        raise ReconError("begun")

    monkeypatch.setattr("recon.training.run.initial_model", begun)
    save_views(replace(around, images=around.images.clip(0.2), masks=None), tmp_path / "v.npz")
    assert main(f"train --quiet --views {tmp_path / 'v.npz'} --out {tmp_path / 'run'}".split()) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"recon: warning: {tmp_path / 'v.npz'}: there are no masks") and "begun" in error


def test_masks_tell_the_light_too(around: Views) -> None:
    assert light_of(around, coverage(around)).kind == "flash"
    rows, columns = np.mgrid[:32, :32] + 0.5
    x, y = (columns - 15.8) / 8, (rows - 16.3) / 8
    z = np.sqrt((1 - x**2 - y**2).clip(0))
    beside = (0.8 * x - 0.5 * y + 0.33 * z).clip(0) * (x**2 + y**2 < 1)
    level = around.images.max(axis=(1, 2, 3))[:, None, None, None]
    images = (level * beside[..., None] * np.ones(3)).astype(np.float32)
    found = light_of(replace(around, images=images), coverage(around))
    assert found.kind == "fixed" and found.angle > 45
    assert light_of(replace(around, masks=None), coverage(around)).kind == "flash"  # before black
    lit = replace(around, images=around.images.clip(0.2), masks=None)
    assert light_of(lit, coverage(lit)).kind == "unknown"

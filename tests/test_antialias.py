"""Edge antialiasing, on rectangles whose share of every pixel is known exactly."""

import pytest
import torch
from shapes import bumpy, ring
from torch import Tensor

from recon.camera import Cameras
from recon.render.antialias import Crossings, antialias, find_crossings
from recon.render.intersect import intersect
from recon.render.rasterize import on_screen, visible_faces
from recon.render.renderer import Rendering, render
from recon.surface.icosphere import icosphere

HEIGHT, WIDTH = 12, 15
CAMERA = Cameras(
    torch.eye(4, dtype=torch.float64)[None],
    torch.tensor([[[20.0, 0, 7], [0, 25, 6.5], [0, 0, 1]]], dtype=torch.float64),
    HEIGHT,
    WIDTH,
)
RED, GREEN, BLUE = torch.eye(3, dtype=torch.float64)


class Mesh:
    """Coloured rectangles that face the camera, each given by where it is on the screen and by its depth there."""

    def __init__(self) -> None:
        self.vertices = torch.zeros(0, 3, dtype=torch.float64)
        self.colours = torch.zeros(0, 3, dtype=torch.float64)
        self.faces = torch.zeros(0, 3, dtype=torch.long)

    def add(
        self, left: float, top: float, right: float, bottom: float, depth: float, colour: Tensor, below: float = 0
    ) -> "Mesh":
        """`below`: the depth at the bottom, where it is not that at the top."""
        pixels = [[left, top, 1], [left, bottom, 1], [right, bottom, 1], [right, top, 1]]
        depths = torch.tensor([depth, below or depth, below or depth, depth], dtype=torch.float64)
        rays = torch.tensor(pixels, dtype=torch.float64) @ torch.linalg.inv(CAMERA.intrinsics[0]).T
        points = depths[:, None] * rays
        self.faces = torch.cat([self.faces, torch.tensor([[0, 1, 2], [0, 2, 3]]) + len(self.vertices)])
        self.vertices = torch.cat([self.vertices, points])
        self.colours = torch.cat([self.colours, colour.expand(4, 3)])
        return self

    def render(self, **options: object) -> Rendering:
        return render(
            self.vertices, self.faces, CAMERA, albedo=self.colours, shader=lambda attributes, *_: attributes, **options
        )


def wall(depth: float, colour: Tensor = BLUE, below: float = 0) -> Mesh:
    """What is behind everything, well beyond the borders of the picture."""
    return Mesh().add(-30, -30, WIDTH + 30, HEIGHT + 30, depth, colour, below)


def share(start: float, end: float, count: int) -> Tensor:
    """How much of each of `count` pixels in a line an interval covers."""
    low = torch.arange(count, dtype=torch.float64)
    return ((low + 1).clamp(max=end) - low.clamp(min=start)).clamp(min=0)


def corners(left: float, top: float, right: float, bottom: float) -> Tensor:
    """Where edges along both axes meet, and the blends of pairs are not exact."""
    found = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for y in (top, bottom):
        for x in (left, right):
            found[max(int(y - 1), 0) : int(y + 2), max(int(x - 1), 0) : int(x + 2)] = True
    return found


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "rectangle",
    [
        (3.3, 2.7, 10.8, 9.1),
        (3.8, 2.2, 10.25, 9.6),
        (-2.4, 2.2, 10.25, 9.6),
        (3.8, -3.3, 22.0, 9.6),
        (3.3, 2.7, 20, 30),
    ],
)
def test_the_edges_of_a_rectangle_cover_their_share_of_pixels(
    rectangle: tuple[float, float, float, float], behind: bool
) -> None:
    left, top, right, bottom = rectangle
    mesh = (wall(0.7) if behind else Mesh()).add(*rectangle, 0.5, RED)
    expected = share(top, bottom, HEIGHT)[:, None] * share(left, right, WIDTH)
    image = mesh.render()
    sure = ~corners(*rectangle)
    torch.testing.assert_close(image.radiance[0, ..., 0][sure], expected[sure])
    torch.testing.assert_close(image.radiance[0, ..., 2][sure], (1 - expected[sure]) * behind)
    torch.testing.assert_close(image.alpha[0][sure], torch.ones_like(expected)[sure] if behind else expected[sure])


@pytest.mark.parametrize("ratio", [1.25, 4.0])
def test_edges_close_before_a_wall_that_recedes_as_they_do(ratio: float) -> None:
    """The depth of an edge is told apart from what is behind it at every pixel, though it changes fourfold along it."""
    mesh = Mesh().add(-30, -5, 40, 20, 2 * ratio, BLUE, 8 * ratio).add(3.3, -5, 10.8, 20, 2, RED, 8)
    expected = share(3.3, 10.8, WIDTH).expand(HEIGHT, WIDTH)
    torch.testing.assert_close(mesh.render().radiance[0, ..., 0], expected)


def test_what_lies_between_pixel_centres_changes_nothing() -> None:
    """Both its edges hide what the far pixel sees, but the near pixel does not see it either: it sees the wall, which
    is another colour on this side than on that."""
    mesh = Mesh().add(-30, -30, 6, 40, 4, BLUE).add(6, -30, 40, 40, 4, GREEN)
    alone = mesh.render().radiance
    mesh.add(5.7, -5, 5.9, 20, 2, RED).add(-5, 7.6, 20, 7.8, 2, RED)
    mesh.vertices.requires_grad_()
    image = mesh.render().radiance
    assert torch.equal(image, alone)
    (gradient,) = torch.autograd.grad((image * torch.rand_like(image)).sum(), mesh.vertices)
    assert not gradient[8:].any()


def test_a_hidden_edge_changes_nothing() -> None:
    front = wall(2)
    front.colours = torch.rand(4, 3, dtype=torch.float64)
    alone = front.render().radiance
    assert torch.equal(front.add(3.3, 2.7, 10.8, 9.1, 3, RED).render().radiance, alone)
    assert torch.equal(front.add(3.3, 2.7, 10.8, 9.1, 0.5, RED, 0.00001).render(cull=True).radiance, alone)


def test_of_several_edges_between_two_centres_the_farthest_counts() -> None:
    """Sheets behind one another that end in the same pixel, however many and in whatever order."""
    for ends in ([8.6, 8.9, 8.7], [8.9, 8.6], [9.4, 8.7, 9.2]):
        mesh = Mesh()
        for i, end in enumerate(ends):
            mesh.add(-5, -5, end, 20, 2 + 0.01 * i, RED)
        torch.testing.assert_close(mesh.render().alpha[0, 5], share(-5, max(ends), WIDTH))


def test_sheets_that_end_towards_one_another_both_count() -> None:
    """Also those that end in the same pixel, which nothing covers at its centre."""
    mesh = Mesh().add(-5, -5, 7.2, 20, 2, RED).add(7.9, -5, 20, 20, 2, RED)
    expected = share(-5, 7.2, WIDTH) + share(7.9, 20, WIDTH)
    torch.testing.assert_close(mesh.render().alpha[0, 5], expected)


def test_a_blend_moves_the_border_of_two_colours() -> None:
    """Before the middle the near pixel changes, behind it the far one, by the share that changes hands."""
    image = torch.tensor([[[[1.0, 0.0, 5.0]]]], dtype=torch.float64)
    for distance, expected in ((0.25, [0.75, 0, 5]), (0.5, [1, 0, 5]), (0.75, [1, 0.25, 5]), (1.0, [1, 0.5, 5])):
        pair = Crossings(torch.tensor([0]), torch.tensor([1]), torch.tensor([distance], dtype=torch.float64))
        assert antialias(image, pair).flatten().tolist() == expected


def test_the_margin_is_enough_for_every_window() -> None:
    """A window's border is that of the whole picture, to the last bit of the blend."""
    vertices, faces = icosphere(2)
    cameras = ring(1, 24, 24).to(torch.float64)
    whole = render(vertices.double(), faces, cameras, albedo=torch.ones(len(vertices), 3).double()).alpha[0]
    for row in range(0, 20, 3):
        for column in range(0, 20, 3):
            window = cameras.cropped(torch.tensor([[row, column]]), 4, 4)
            part = render(vertices.double(), faces, window, albedo=torch.ones(len(vertices), 3).double()).alpha[0]
            torch.testing.assert_close(part, whole[row : row + 4, column : column + 4], atol=1e-12, rtol=0)


def crossings_of(mesh: Mesh) -> set[tuple[int, int, int, int, float]]:
    """(row, column) of the near and of the far pixel, and the distance, of every crossing in the picture itself,
    without a margin."""
    screen = on_screen(mesh.vertices, mesh.faces, CAMERA)
    seen = visible_faces(screen, mesh.faces, HEIGHT, WIDTH)
    hits = intersect(mesh.vertices, mesh.faces, CAMERA, seen)
    depth = torch.zeros(HEIGHT * WIDTH, dtype=torch.float64).index_copy(0, hits.pixel, hits.depth)
    found = find_crossings(mesh.vertices, mesh.faces, CAMERA, screen, depth.view(1, HEIGHT, WIDTH))
    pixels = zip(found.near.tolist(), found.far.tolist(), found.distance.tolist(), strict=True)
    crossings = [(*divmod(near, WIDTH), *divmod(far, WIDTH), round(distance, 9)) for near, far, distance in pixels]
    assert len(set(crossings)) == len(crossings)
    return set(crossings)


def test_crossings_lie_between_pixels_of_the_picture() -> None:
    """None with a pixel beside it, and all along its borders."""
    every_row, every_column = range(HEIGHT), range(WIDTH)
    # Within half a pixel of the borders there is no second pixel to blend with.
    assert crossings_of(Mesh().add(0.2, 0.3, WIDTH - 0.2, HEIGHT - 0.4, 2, RED)) == set()
    found = crossings_of(Mesh().add(0.7, -5, WIDTH - 0.6, HEIGHT + 5, 2, RED))
    left = {(row, 1, row, 0, 0.8) for row in every_row}
    right = {(row, WIDTH - 2, row, WIDTH - 1, 0.9) for row in every_row}
    assert found == left | right
    found = crossings_of(Mesh().add(-5, 0.7, WIDTH + 5, HEIGHT - 0.6, 2, RED))
    above = {(1, column, 0, column, 0.8) for column in every_column}
    below = {(HEIGHT - 2, column, HEIGHT - 1, column, 0.9) for column in every_column}
    assert found == above | below


def test_what_nothing_sees_has_no_crossings() -> None:
    assert crossings_of(Mesh().add(5.7, -5, 5.9, 20, 2, RED).add(-5, 7.6, 20, 7.8, 2, RED)) == set()


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_wedge_from_beside_the_picture(side: str) -> None:
    """Its third edge lies along that side of the picture, and meets none of its lines."""
    corners = torch.tensor([[7.3, 5.2], [-9, 5], [-2, 8.1]], dtype=torch.float64)
    size = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    if side in ("top", "bottom"):
        corners = corners.flip(1)
    if side in ("right", "bottom"):
        corners = size - corners
    mesh = Mesh()
    rays = torch.cat([corners, torch.ones(3, 1, dtype=torch.float64)], dim=1)
    mesh.vertices = 2 * rays @ torch.linalg.inv(CAMERA.intrinsics[0]).T
    # Seen from outside.
    mesh.faces = torch.tensor([[0, 1, 2] if side in ("left", "right") else [0, 2, 1]])
    mesh.colours = torch.ones(3, 3, dtype=torch.float64)
    exact = mesh.render(samples=16, antialias=False).alpha
    smooth, hard = mesh.render().alpha, mesh.render(antialias=False).alpha
    assert exact.sum() > 8
    assert (smooth - exact).abs().mean() < (hard - exact).abs().mean() / 3


def test_a_hole_that_nobody_sees_changes_nothing() -> None:
    """Of a mesh with a border the silhouettes are found in another way."""
    vertices, faces = bumpy(3)
    cameras = ring(1, 32, 32)
    normals = torch.linalg.cross(*(vertices[faces[:, i]] - vertices[faces[:, 0]] for i in (1, 2)))
    middles = vertices[faces].mean(1)
    hidden = ((cameras.centers - middles) * normals).sum(1) < -0.5 * normals.norm(dim=1) * 2.5
    assert 10 < hidden.sum() < len(faces) / 2
    whole = render(vertices, faces, cameras, albedo=torch.ones_like(vertices))
    holed = render(vertices, faces[~hidden], cameras, albedo=torch.ones_like(vertices), smooth=False)
    assert torch.equal(whole.alpha, holed.alpha)


def test_what_lies_behind_the_camera_changes_nothing() -> None:
    """Its silhouettes would be upside down in the middle of the picture."""
    front = Mesh().add(3.3, 2.7, 10.8, 9.1, 2, RED)
    alone = front.render()
    sphere, faces = icosphere(2)
    front.faces = torch.cat([front.faces, faces + len(front.vertices)])
    behind = 0.7 * sphere.double() + torch.tensor([0.1, 0.2, -3.0])
    front.vertices = torch.cat([front.vertices, behind])
    front.colours = torch.cat([front.colours, GREEN.expand(len(sphere), 3)])
    both = front.render()
    assert torch.equal(both.radiance, alone.radiance) and torch.equal(both.alpha, alone.alpha)

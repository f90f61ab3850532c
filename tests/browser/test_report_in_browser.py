"""The report, as a person uses it."""

import re
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from canvas import colour, covered, pixels, until
from conftest import SCREENSHOTS
from playwright.sync_api import Page, expect
from runs import write_run

from recon.report.page import report


def shown(page: Page, plot: str) -> list[tuple[int, str | None]]:
    """Run and curve of the traces of a plot that are visible."""
    page.locator(f"#{plot}").scroll_into_view_if_needed()
    page.wait_for_selector(f"#{plot}[data-drawn]")
    code = (
        f"document.getElementById('{plot}').data.filter(t => t.visible !== false).map(t => [t.meta.run, t.meta.curve])"
    )
    return [(run, curve) for run, curve in page.evaluate(code)]


def set_slider(page: Page, selector: str, value: float) -> None:
    page.locator(selector).evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', { bubbles: true })); }", value
    )


def test_the_mesh_is_shown_beside_the_reference(report_page: Page) -> None:
    picture = pixels(report_page, "object")
    left, right = np.array_split(picture, 2, axis=1)
    assert covered(left) > 5000
    assert len(np.unique(left.reshape(-1, 4), axis=0)) > 50  # shaded, not one colour
    # The reference is a sphere of 1.2 times the radius.
    assert covered(right) / covered(left) == pytest.approx(1.44, rel=0.05)
    expect(report_page.locator("#object .label")).to_have_text(["reconstruction", "reference"])


def test_it_turns_by_itself_until_somebody_takes_hold(open_page, report_file: Path) -> None:
    page = open_page(report_file.as_uri(), motion="no-preference")
    page.wait_for_selector("#object[data-drawn]")
    azimuth = lambda: page.evaluate("stages.object.pose.azimuth")  # noqa: E731
    before = azimuth()
    until(page, f"stages.object.pose.azimuth > {before} + 0.01")
    page.locator("#object canvas").click()
    held = azimuth()
    page.wait_for_timeout(120)
    assert azimuth() == held
    expect(page.locator("#object .turn")).to_have_attribute("aria-pressed", "false")


def test_keys_and_pointer_turn_and_zoom(report_page: Page) -> None:
    canvas = report_page.locator("#object canvas")
    canvas.focus()
    pose = lambda: report_page.evaluate("({ ...stages.object.pose })")  # noqa: E731
    first = pose()
    report_page.keyboard.press("ArrowRight")
    report_page.keyboard.press("ArrowUp")
    turned = pose()
    assert turned["azimuth"] < first["azimuth"] and turned["elevation"] > first["elevation"]
    small = covered(pixels(report_page, "object"))
    for _ in range(3):
        report_page.keyboard.press("+")
    assert covered(pixels(report_page, "object")) > 1.2 * small
    report_page.keyboard.press("0")
    assert pose() == first
    box = canvas.bounding_box()
    assert box is not None
    report_page.mouse.move(box["x"] + 200, box["y"] + 100)
    report_page.mouse.down()
    report_page.mouse.move(box["x"] + 300, box["y"] + 100)
    report_page.mouse.up()
    assert pose()["azimuth"] < first["azimuth"] - 0.5


def test_the_run_that_is_shown_is_chosen(report_page: Page) -> None:
    facts = report_page.locator(".facts:visible")
    expect(facts).to_contain_text("0.00400")
    report_page.select_option("#run", label="slow")
    expect(facts).to_contain_text("0.00300")
    expect(facts.locator("h2")).to_have_text("slow")
    expect(report_page.locator("#compare .pair")).to_have_attribute("aria-label", re.compile("run slow"))


def test_a_head_sorts_its_column(report_page: Page) -> None:
    panel = report_page.locator("#numbers .panel:visible").first
    names = panel.locator("tbody th")
    head = panel.get_by_role("button", name="front")
    expect(names).to_have_text(["paper", "slow"])
    head.click()
    expect(names).to_have_text(["slow", "paper"])
    expect(panel.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
    head.press("Enter")
    expect(names).to_have_text(["paper", "slow"])
    panel.get_by_role("button", name="run").click()
    expect(names).to_have_text(["paper", "slow"])
    report_page.get_by_text("PSNR", exact=True).click()
    expect(report_page.locator("#numbers .panel:visible td.best").first).to_have_text("37.00")


def test_curves_show_the_runs_and_sets_that_are_chosen(report_page: Page) -> None:
    everything = [(run, curve) for run in range(2) for curve in ("training", "front", "full")]
    assert shown(report_page, "curves-iteration") == everything
    report_page.locator("#shown-runs label").first.click()
    expect(report_page.locator("#shown-runs input").first).not_to_be_checked()
    until(report_page, "document.getElementById('curves-iteration').data[0].visible === false")
    assert shown(report_page, "curves-iteration") == everything[3:]
    report_page.locator("#shown-curves input[value=front]").press("Space")
    until(report_page, "document.getElementById('curves-iteration').data[4].visible === false")
    assert shown(report_page, "curves-iteration") == [(1, "training"), (1, "full")]
    report_page.get_by_text("time of an iteration").click()
    assert shown(report_page, "curves-time") == [(1, None)]
    assert shown(report_page, "curves-sweep") == [(1, None)]


def test_hovering_tells_the_value(report_page: Page) -> None:
    shown(report_page, "curves-iteration")
    box = report_page.locator("#curves-iteration .nsewdrag").bounding_box()
    assert box is not None
    # Where the training of the first run is, as the plot itself has it.
    place = report_page.evaluate(
        "() => { const { _fullLayout: { xaxis, yaxis }, data } = document.getElementById('curves-iteration');"
        " return [xaxis.d2p(data[0].x[150]), yaxis.d2p(data[0].y[150])]; }"
    )
    report_page.mouse.move(box["x"] + place[0] + 3, box["y"] + place[1] + 3)
    report_page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    expect(report_page.locator("#curves-iteration .hoverlayer")).to_contain_text("0.00")


def test_two_pictures_of_any_view_are_compared(report_page: Page) -> None:
    pair = report_page.locator("#compare .pair")
    pair.scroll_into_view_if_needed()
    expect(pair).to_have_attribute("aria-label", "View 0 of front, run paper: ground truth left, prediction right")
    assert len(set(_shades(report_page))) == 2  # truth and prediction differ by 5 of 255
    set_slider(report_page, "#compare .view", 5)
    expect(pair).to_have_attribute("aria-label", re.compile("View 5 of front"))
    expect(report_page.locator("#compare output")).to_have_text("5 · error 0.0040")
    bright = _shades(report_page)
    set_slider(report_page, "#compare .view", 1)
    assert max(_shades(report_page)) < min(bright)
    before = _shades(report_page)
    set_slider(report_page, "#compare .split input", 0)
    assert _shades(report_page)[0] == before[1]
    expect(report_page.locator("#scale-left")).to_be_hidden()
    report_page.select_option("#compare .left", "difference")
    expect(report_page.locator("#scale-left")).to_contain_text("absolute difference")
    expect(report_page.locator("#scale-left .high")).to_have_text("0.050")
    report_page.select_option("#compare .set", "full")
    expect(pair).to_have_attribute("aria-label", re.compile("of full"))
    report_page.locator("#compare .view").focus()
    report_page.keyboard.press("ArrowRight")
    expect(pair).to_have_attribute("aria-label", re.compile("View 2 of full"))


def test_a_small_picture_shows_its_view(report_page: Page) -> None:
    report_page.locator("#compare").scroll_into_view_if_needed()
    strip = report_page.locator("#compare .strip button")
    expect(strip).to_have_count(6)
    strip.nth(4).click()
    expect(report_page.locator("#compare .pair")).to_have_attribute("aria-label", re.compile("View 4 of front"))
    expect(strip.nth(4)).to_have_attribute("aria-current", "true")
    expect(report_page.locator("#compare .strip [aria-current]")).to_have_count(1)


def _shades(page: Page) -> list[int]:
    """Grey of the middle of the left and of the right half of the two pictures, from a screenshot."""
    picture = imageio.imread(page.locator("#compare .pair").screenshot(), extension=".png")
    height, width = picture.shape[:2]
    return [int(picture[height // 3, int(share * width), 0]) for share in (0.4, 0.6)]


def test_the_flow_is_scrubbed_over_pseudo_time_and_training(report_page: Page) -> None:
    end = covered(pixels(report_page, "flow"))
    lined = colour(pixels(report_page, "flow"))
    report_page.locator("#lines").uncheck()
    assert np.abs(colour(pixels(report_page, "flow")) - lined).max() > 5
    report_page.locator("#lines").check()
    set_slider(report_page, "#pseudo-time", 0)
    start = covered(pixels(report_page, "flow"))
    assert start / end == pytest.approx(4, rel=0.05)
    set_slider(report_page, "#pseudo-time", 0.25)
    # Between two steps: a radius of 0.875.
    assert covered(pixels(report_page, "flow")) / end == pytest.approx(3.06, rel=0.05)
    expect(report_page.locator("#pseudo-time + output")).to_have_text("25%")
    report_page.locator("#training-time").focus()
    report_page.keyboard.press("Home")
    expect(report_page.locator("#training-time + output")).to_have_text("iteration 400")
    early = covered(pixels(report_page, "flow"))
    report_page.keyboard.press("End")
    expect(report_page.locator("#training-time + output")).to_have_text("iteration 1,200")
    assert covered(pixels(report_page, "flow")) < 0.5 * early
    report_page.locator("#play").click()
    until(report_page, "Number(document.getElementById('pseudo-time').value) === 1")


def test_the_surface_shows_error_and_coverage_with_their_scales(report_page: Page) -> None:
    error = pixels(report_page, "surface")
    scale = report_page.locator("#scale-surface")
    expect(scale).to_contain_text("distance to the reference")
    expect(report_page.locator("#note-surface")).to_contain_text("Half of the vertices lie within 0.01")
    # 0 at the bottom is light, and dark at the top.
    assert colour(error[: error.shape[0] // 2]).sum() < colour(error[error.shape[0] // 2 :]).sum() - 60
    report_page.select_option("#quantity", "seen/front")
    report_page.wait_for_selector("#surface[data-shown='seen/front']")
    seen = pixels(report_page, "surface")
    expect(scale).to_contain_text("views of front that see a point")
    expect(scale.locator(".high")).to_have_text("2.00")
    assert np.abs(colour(seen) - colour(error)).max() > 20
    report_page.get_by_label("cameras").uncheck()
    closer = pixels(report_page, "surface")
    assert covered(closer) > 2 * covered(seen)  # the cameras no longer need room
    report_page.select_option("#quantity", "")
    report_page.wait_for_selector("#surface[data-shown='']")
    expect(scale).to_be_hidden()
    expect(report_page.locator("#note-surface")).to_be_empty()


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (400, "dark"), (1600, "light"), (1600, "dark")])
def test_every_section_is_readable(open_page, report_file: Path, width: int, scheme: str) -> None:
    page = open_page(report_file.as_uri(), width=width, scheme=scheme)
    page.wait_for_selector("#object[data-drawn]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # It would lie over the screenshots of what is taller than the window.
    page.evaluate("document.querySelector('.bar').style.position = 'static'")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for section in page.locator("main > section:visible").all():
        section.scroll_into_view_if_needed()
        for plot in section.locator(".plot:visible").all():
            plot.scroll_into_view_if_needed()
            page.wait_for_selector(f"#{plot.get_attribute('id')}[data-drawn]")
        for image in section.locator("img").all():
            image.scroll_into_view_if_needed()
            expect(image).to_have_js_property("complete", True)
        name = section.get_attribute("id")
        path = SCREENSHOTS / f"{name}-{width}-{scheme}.png"
        section.screenshot(path=path)
        assert path.stat().st_size > 3000
    ink, paper = page.evaluate(
        "['color', 'backgroundColor'].map(key => getComputedStyle(document.body)[key].match(/[0-9]+/g).map(Number))"
    )
    assert abs(sum(ink) - sum(paper)) > 450
    assert (sum(ink) > sum(paper)) == (scheme == "dark")


def test_everything_has_a_name_and_is_reached_by_keyboard(report_page: Page) -> None:
    nameless = report_page.evaluate(
        "() => [...document.querySelectorAll('button, select, input, img, canvas, [role=img], nav, [role=region]')]"
        ".filter(e => !(e.ariaLabel || e.alt || e.textContent.trim() || e.labels?.length))"
        ".map(e => e.outerHTML.slice(0, 90))"
    )
    assert nameless == []
    reached = set()
    for _ in range(60):
        report_page.keyboard.press("Tab")
        reached.add(
            report_page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
            )
        )
    assert {"run", "turn", "CANVAS", "set", "view", "pseudo-time", "training-time", "quantity"} <= reached


def test_hostile_names_do_nothing(open_page, tmp_path: Path) -> None:
    name = "<script>alert(1)<" + chr(0x2215) + "script>"
    runs = [write_run(tmp_path / name), write_run(tmp_path / '"><img src=x onerror=alert(2)>', 0.003, 0.0005)]
    report(runs, tmp_path / "out")
    page = open_page((tmp_path / "out" / "index.html").as_uri())
    page.wait_for_selector("#object[data-drawn]")
    expect(page.locator(".facts:visible h2")).to_have_text(name)
    assert shown(page, "curves-iteration")
    assert shown(page, "curves-sweep")
    page.select_option("#run", "1")
    expect(page.locator("img[src=x]")).to_have_count(0)

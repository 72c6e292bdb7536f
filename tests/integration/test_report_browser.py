"""Pages as people meet them, in headless Chromium: offline, on a phone, in the dark, on paper, by keyboard, and by axe's rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from report_picture import HEIGHT, WIDTH
from support.browser import needs_chromium
from support.documents import ROOT
from support.runs import DAY, Project, firesteel
from support.sample_run import failed, published, sample_plan, sample_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.integration, needs_chromium]

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
ERROR = "FS7001 gate output_ok on sink:scores: 1 of 2 expectations failed. Nothing was published."


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, flight_model: str) -> dict[str, Path]:
    """A real run's page and a real graph; and what a real run seldom shows: dead letters, and a run that failed."""
    from firesteel.jobs.report.write import render
    from support.data import write_days

    folder = tmp_path_factory.mktemp("pages")
    write_days(folder / "data", [DAY])
    project = Project(folder / "project", f"file://{folder / 'data'}", flight_model)
    project.pipeline()
    for words in (("run", "--start", DAY), ("explain", "--html", str(folder / "graph.html"))):
        done = firesteel(*words, "--param", f"root={project.root}", folder=project.folder)
        assert done.returncode == 0, done.stdout + done.stderr
    plan = sample_plan()
    made = {
        "dead letters": render(sample_result(plan, (published(plan, 1, dead=7), published(plan, 2))), plan),
        "failed": render(sample_result(plan, (published(plan, 1), failed(plan, 2, ERROR)), error=ERROR), plan),
    }
    for name, html in made.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    (report,) = folder.rglob("report.html")
    return {
        "run": report,
        "graph": folder / "graph.html",
        **{name: folder / f"{name}.html" for name in made},
    }


@pytest.fixture(params=["run", "graph", "dead letters", "failed"])
def page(request: pytest.FixtureRequest, browser: Browser, pages: dict[str, Path]) -> Iterator[Page]:
    """One that has asked for nothing but itself, and has complained of nothing."""
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda one: said.append(str(one)))
    page.goto(pages[request.param].as_uri())
    yield page
    assert asked == [pages[request.param].as_uri()]
    assert said == []
    context.close()


def broken(page: Page) -> list[Any]:
    """What axe finds: WCAG 2.1 A and AA, and its best practices."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    assert found.response["passes"], "axe has looked at nothing"
    return [
        (each["id"], each["help"], [node["html"][:120] for node in each["nodes"]])
        for each in found.response["violations"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    assert broken(page) == []


def test_a_phone_shows_it_without_scrolling_sideways(page):
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert broken(page) == []


def test_paper_shows_all_of_it(page, tmp_path):
    """Nothing is cut off at the sides, and what is folded on a screen is not."""
    shown = "[...document.querySelectorAll('details > :not(summary)')].map(e => e.checkVisibility())"
    assert not any(page.evaluate(shown))
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 without its margins, at 96 dots an inch
    cut = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 120))"
    )
    assert cut == []
    assert all(page.evaluate(shown))
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")


def test_the_keyboard_reaches_everything_that_does_something(page):
    wanted = page.evaluate("[...document.querySelectorAll('a[href], summary, button')].map(e => e.outerHTML)")
    reached = set()
    for _ in range(len(wanted) + 5):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML"))
    assert set(wanted) <= reached


def test_the_picture_in_the_readme_is_the_first_screen_of_a_report(browser, pages):
    """`tools/report_picture.py` drew it from the demo's report."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page.goto(pages["run"].as_uri())
    committed = (ROOT / "docs" / "report.png").read_bytes()
    assert committed[16:24] == page.screenshot()[16:24], "width and height of the two PNG files"
    page.close()

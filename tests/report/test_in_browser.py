"""The page as a reader meets it, in a real browser: it draws, asks nothing of a network, and its buttons work."""

from __future__ import annotations

import html
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from launcher.analysis.model import FileRow, Phase
from launcher.report import charts, page
from launcher.report.document import comparison_page
from tests.report import made
from tests.report.browser import Browser

HOSTILE = """</script><script>window.harmed=1</script><img src=x onerror="window.harmed=2">'"&<b>"""
LINES = "return [...document.querySelectorAll('.plot')].map(p => [...p.querySelectorAll('path.js-line')]"
SHOWN = f"{LINES}.filter(l => l.getAttribute('d').length > 9).length)"
CONTRAST = """
const channel = c => { c /= 255; return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const parse = text => text.match(/[\\d.]+/g).map(Number);
const ground = at => { for (; at; at = at.parentElement) {
  const found = parse(getComputedStyle(at).backgroundColor); if (found.length < 4 || found[3] === 1) return found; }
  return [255, 255, 255]; };
const bad = [];
for (const at of document.querySelectorAll('body *')) {
  const own = [...at.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || !at.checkVisibility() || at.closest('script, style, svg defs')) continue;
  const style = getComputedStyle(at);
  const paint = at instanceof SVGElement ? style.fill : style.color;
  const [a, b] = [light(parse(paint)), light(ground(at))].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < (at.closest('[aria-hidden]') ? 3 : 4.5)) bad.push([at.tagName, at.textContent.slice(0, 30), ratio]);
}
return bad;
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run against another."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page(made.analysis()), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs side by side."""
    file = tmp_path_factory.mktemp("page") / "compare.html"
    file.write_text(comparison_page(made.comparison()), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_a_complaint_and_without_a_request(
    browser: Browser, request: pytest.FixtureRequest, name: str, dark: bool
) -> None:
    file: Path = request.getfixturevalue(name)
    browser.open(file, dark=dark)
    assert browser.console() == []
    assert {url for url in browser.requests() if not url.startswith(("data:", "chrome:"))} == {file.as_uri()}
    assert browser.run(CONTRAST) == []


def test_every_chart_has_all_its_lines(browser: Browser, report: Path) -> None:
    browser.keep(report)
    assert browser.run(SHOWN) == [len([line for line in chart.lines if line.y]) for chart in charts(made.analysis())]


def test_a_run_can_be_hidden_with_the_keyboard_in_every_chart(browser: Browser, report: Path) -> None:
    browser.keep(report)
    before = browser.run(SHOWN)
    chip = browser.driver.find_element(By.CSS_SELECTOR, "button[data-run='1']")
    chip.send_keys(Keys.ENTER)
    browser.drawn()
    left = [[line for line in chart.lines if line.y and line.run != 1] for chart in charts(made.analysis())]
    assert browser.run(SHOWN) == [len(lines) for lines in left]
    every = browser.run("return [...document.querySelectorAll(\"[data-run='1']\")].map(b => b.ariaPressed)")
    assert set(every) == {"false"}
    chip.send_keys(Keys.SPACE)
    browser.drawn()
    assert browser.run(SHOWN) == before


def test_all_runs_of_a_large_comparison_are_shown_and_hidden_at_once(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "compare.html"
    file.write_text(comparison_page(made.comparison(runs=8)), encoding="utf-8")
    browser.open(file)
    band = 3  # its mean and its two edges
    assert browser.run(SHOWN)[0] == band
    for expected in (band + 8, band):
        browser.driver.find_element(By.CSS_SELECTOR, "[data-all]").click()
        browser.drawn()
        assert browser.run(SHOWN)[0] == expected


def test_losses_change_between_as_written_and_per_unit_of_gain(browser: Browser, report: Path) -> None:
    browser.keep(report)
    first = (
        "const p = document.querySelector('[data-chart=box-loss]'); return [p.data[0].y[0], p.layout.yaxis.title.text]"
    )
    divided, title = browser.run(first)
    assert title == "box loss per unit of gain", "two gains differ, so this is shown first"
    browser.driver.find_element(By.CSS_SELECTOR, "[data-divided='0']").click()
    browser.drawn()
    written, title = browser.run(first)
    assert written == pytest.approx(divided * 5.0)
    assert title == "box loss, as written"
    assert browser.run("return document.querySelector(\"[data-divided='0']\").ariaPressed") == "true"
    browser.driver.find_element(By.CSS_SELECTOR, "[data-divided='1']").click()
    browser.drawn()
    assert browser.run(first)[0] == pytest.approx(divided)


def test_a_chart_is_zoomed_by_dragging_and_reset_by_its_button(browser: Browser, report: Path) -> None:
    browser.keep(report)
    span = "const p = document.querySelector('.plot'); return p.layout.xaxis.range"
    whole = browser.run(span)
    area = browser.driver.find_element(By.CSS_SELECTOR, ".plot .nsewdrag")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", area)
    ActionChains(browser.driver).move_to_element(area).click_and_hold().move_by_offset(90, 30).release().perform()
    browser.wait(f"{span}[0] > {whole[0]} + 1")
    browser.driver.find_element(By.CSS_SELECTOR, "[data-reset]").click()
    browser.wait(f"{span}[0] === {whole[0]}")


def test_pointing_at_a_chart_tells_the_values(browser: Browser, report: Path) -> None:
    browser.keep(report)
    area = browser.driver.find_element(By.CSS_SELECTOR, ".plot .nsewdrag")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", area)
    ActionChains(browser.driver).move_to_element(area).move_by_offset(3, 3).perform()
    told = browser.wait("return document.querySelector('.plot .hoverlayer').textContent")
    assert "phase 2" in told
    assert "baseline" in told


def test_the_theme_can_be_changed_and_stays_readable(browser: Browser, report: Path) -> None:
    browser.keep(report)
    line = "getComputedStyle(document.querySelector('path.js-line')).stroke"
    colours = f"return [getComputedStyle(document.body).backgroundColor, {line}]"
    light = browser.run(colours)
    button = browser.driver.find_element(By.ID, "theme")
    assert button.text == "Dark theme"
    button.click()
    browser.drawn()
    dark = browser.run(colours)
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert button.text == "Light theme"
    assert browser.run(CONTRAST) == []
    button.click()
    browser.drawn()
    assert browser.run(colours) == light


def test_names_from_files_are_text_everywhere(browser: Browser, tmp_path: Path) -> None:
    said = made.analysis(references=2)
    finding = replace(said.key[0], message=HOSTILE, evidence=HOSTILE, remedy=HOSTILE, source=f"https://x/{HOSTILE}")
    marks = tuple(replace(mark, code=HOSTILE, text=HOSTILE) for mark in said.progression.marks)
    bad: dict[str, Any] = {"name": HOSTILE, "notes": HOSTILE, "status_text": HOSTILE, "where": Path(f"/{HOSTILE}")}
    bad["files"] = tuple(replace(row, path=HOSTILE, what=HOSTILE) for row in said.files)
    bad["moments"] = tuple(replace(one, name=HOSTILE, fields={HOSTILE: HOSTILE}) for one in said.run.moments)
    said = replace(
        said,
        run=replace(said.run, **bad),
        references=tuple(replace(one, **bad) for one in said.references),
        summary=replace(said.summary, name=HOSTILE, data=HOSTILE, model=HOSTILE, best_by=HOSTILE),
        key=(finding,),
        files=bad["files"],
        sections=tuple(replace(one, title=HOSTILE, findings=(finding,)) for one in said.sections),
        differences=tuple(
            replace(one, name=HOSTILE, note=HOSTILE, values=(HOSTILE,) * 3, at_default=(False,) * 3)
            for one in said.differences
        ),
        next_runs=tuple(replace(one, name=HOSTILE, change=HOSTILE, spec=HOSTILE) for one in said.next_runs),
        progression=replace(said.progression, marks=marks),
    )
    file = tmp_path / "hostile.html"
    file.write_text(page(said), encoding="utf-8")
    browser.open(file)
    area = browser.driver.find_element(By.CSS_SELECTOR, ".plot .nsewdrag")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", area)
    ActionChains(browser.driver).move_to_element(area).move_by_offset(3, 3).perform()
    told = browser.wait("return document.querySelector('.plot .hoverlayer').textContent")
    assert "</script><script>" in told, "Plotly takes tags for formatting, and leaves out those it does not know"
    assert browser.run("return window.harmed ?? null") is None
    assert browser.run("return document.querySelectorAll('img[src=x], b b').length") == 0
    assert browser.console() == []
    assert browser.run("return document.querySelector('h1').textContent") == HOSTILE
    assert browser.run("return document.querySelector('pre').textContent").strip() == HOSTILE


def test_a_script_that_got_into_the_page_all_the_same_would_not_run(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    file = tmp_path / "broken.html"
    file.write_text(report.read_text().replace("<main", "<script>window.harmed=1</script><main", 1))
    browser.open(file)
    assert browser.run("return window.harmed ?? null") is None
    assert any("Content Security Policy" in line for line in browser.console())


def test_a_picture_is_shown_large_and_closed_with_the_keyboard(browser: Browser, tmp_path: Path) -> None:
    said = made.analysis(references=0)
    (tmp_path / "run").mkdir()
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "run" / "labels.jpg")
    row = FileRow("labels.jpg", Phase.SETUP, "boxes", present=True)
    file = tmp_path / "pictures.html"
    file.write_text(page(replace(said, run=replace(said.run, where=tmp_path / "run", files=(row,)))), encoding="utf-8")
    browser.open(file)
    assert browser.run("return [...document.images].filter(i => i.closest('main')).map(i => i.naturalWidth)") == [300]
    button = browser.driver.find_element(By.CSS_SELECTOR, ".pictures button")
    button.send_keys(Keys.ENTER)
    assert browser.wait("return document.querySelector('dialog[open] img')?.naturalWidth") == 300
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    browser.wait("return !document.querySelector('dialog[open]')")
    assert browser.console() == []


def test_a_chart_keeps_its_size_and_its_panel_when_the_window_changes(browser: Browser, report: Path) -> None:
    browser.open(report)
    fits = """return [...document.querySelectorAll('.plot')].every(plot => {
      const [at, drawn] = [plot, plot.querySelector('.main-svg')].map(one => one.getBoundingClientRect());
      return Math.abs(at.width - drawn.width) < 1 && Math.abs(at.height - drawn.height) < 1; })"""
    for width in (1280, 1100, 600, 1280):
        browser.resize(width)
        browser.wait(fits)
        time.sleep(0.3)  # the charts follow a little later
        browser.wait(fits)
    browser.shown = None


def test_on_a_telephone_a_table_is_scrolled_and_what_it_says_above_is_not(browser: Browser, report: Path) -> None:
    browser.open(report, width=390, height=844)
    cut = """return [...document.querySelectorAll('.scroll')].filter(one => { one.scrollLeft = 9999;
      const [box, said] = [one, one.querySelector('caption')].map(at => at.getBoundingClientRect());
      return said.left < box.left - 1 || said.right > box.right + 1; }).map(one => one.ariaLabel)"""
    assert browser.run(cut) == []


def test_on_a_telephone_nothing_is_wider_than_the_screen(browser: Browser, report: Path) -> None:
    browser.open(report, width=390)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_printed_no_table_or_chart_is_cut(browser: Browser, request: pytest.FixtureRequest, name: str) -> None:
    browser.open(request.getfixturevalue(name), dark=True)
    browser.run("dispatchEvent(new Event('beforeprint'))")  # which comes while the page still is on the screen
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.command("Emulation.setEmulatedMedia", media="print", features=[dark])
    browser.resize(703)  # A4 without its margins, in pixels of CSS
    wide = (
        "return [...document.querySelectorAll('.scroll, .chart')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert browser.run(wide) == 0
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    blue = browser.run(
        "return getComputedStyle(document.querySelector('path.js-line[style*=\"stroke-width: 2\"]')).stroke"
    )
    assert blue == "rgb(0, 104, 168)", "the colours of the light page, whatever the screen has"
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("return document.documentElement.dataset.theme ?? null") is None


def test_it_prints_on_several_pages(browser: Browser, report: Path) -> None:
    browser.keep(report)
    assert len(re.findall(rb"/Type\s*/Page\b", browser.pdf())) > 2


def test_a_chart_is_saved_as_a_picture_with_its_legend(browser: Browser, report: Path, tmp_path: Path) -> None:
    browser.keep(report)
    browser.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.driver.find_element(By.CSS_SELECTOR, "[data-save=svg]").click()
    until = time.monotonic() + 20
    while not (saved := list(tmp_path.glob("*.svg"))) and time.monotonic() < until:
        time.sleep(0.05)
    text = saved[0].read_text()
    assert text.startswith("<svg")
    assert "phase 2" in text


def test_a_chart_of_a_notebook_draws_in_its_frame(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "notebook.html"
    shown = charts(made.analysis())[0]._repr_html_()
    file.write_text(f"<!doctype html><html data-ready=true><meta charset=utf-8>{shown}", encoding="utf-8")
    browser.open(file)
    browser.driver.switch_to.frame(0)
    try:
        browser.wait("return document.documentElement.dataset.ready === 'true'")
        assert browser.run(SHOWN) == [2]
    finally:
        browser.driver.switch_to.default_content()
    assert browser.console() == []
    assert html.escape("<script") in shown, "the page is carried as text"

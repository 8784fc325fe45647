"""The operator's pages in a real browser, inside the web pages of a real Airflow over a small observatory.

One story in the order of the tests of this module: they share the running Airflow.
"""

import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from lightcurver_ops.airflow.local import wait_for
from lightcurver_ops.bookkeeping import decisions
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.simulation.observatory import shifted
from lightcurver_ops.stages.base import Lens
from tests.chromium import Chromium
from tests.running_observatory import RunningObservatory, last_night, mjd_of
from tests.seasons import SMALL

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1200)]

# Where to keep screenshots, for people who want to look at them.
SCREENSHOTS = os.environ.get("LCOPS_SCREENSHOTS")
NIGHTS = int(os.environ.get("LCOPS_SCREENSHOT_NIGHTS", "2"))
FRAME = "document.querySelector('iframe').contentDocument"


@pytest.fixture(scope="module")
def observatory(tmp_path_factory):
    season = replace(SMALL, name="alpha", n_nights=NIGHTS, exposures_per_night=2, night_gap_days=2.0)
    observatory = RunningObservatory(
        tmp_path_factory.mktemp("observatory"),
        [shifted(season, mjd_of(last_night()))],
        settings={
            "watch": {"raw_roots": ["raw"], "poll_seconds": 1, "settle_seconds": 1, "gather_seconds": 1},
            "airflow": {"retries": 1, "retry_delay_seconds": 2, "season_poll_seconds": 2},
            "pools": {"frames": 2, "plate_solving": 2},
        },
        operations={"frames_per_task": 4, "alert_after_nights_without_frames": None},
        variables={"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,vera:user,visitor:viewer"},
    )
    observatory.configure("alpha", stars={"stars_to_use_control": 1})
    for night in range(NIGHTS):
        observatory.drop("alpha", night)
    observatory.airflow.prepare()
    observatory.airflow.start()
    try:
        observatory.airflow.wait_until_healthy()
        observatory.wait_for_runs(lambda _runs: epochs(observatory) == 2 * NIGHTS)
        yield observatory
    finally:
        observatory.airflow.stop()


def epochs(observatory) -> int:
    return len(observatory.light_curve("alpha")["mjd"]) if observatory.version("alpha") else 0


@pytest.fixture
def browser():
    browser = Chromium()
    yield browser
    browser.close()


def log_in(browser, observatory, user):
    airflow = observatory.airflow
    browser.open(f"{airflow.url}/auth/login")
    for selector, text in (("input[name=username]", user), ("input[name=password]", airflow.password(user))):
        browser.wait(f"document.querySelector('{selector}')")
        browser.run(f"document.querySelector('{selector}').focus()")
        browser.write(text)
    browser.key("Enter")
    browser.wait("!location.pathname.includes('login') && document.body.innerText.includes('Health')")


def look(browser, name):
    """Keep a screenshot, where somebody asked for them."""
    if SCREENSHOTS:
        browser.screenshot(Path(SCREENSHOTS) / f"{name}.png")


def wait_in_frame(browser, script, seconds=90.0):
    return browser.wait(f"(document => {script})({FRAME})", seconds)


def place_in_frame(browser, selector, last=False):
    """The middle of an element of the frame, as the mouse sees it."""
    choose = f"[...{FRAME}.querySelectorAll({json.dumps(selector)})].at({-1 if last else 0})"
    return browser.run(
        f"(() => {{ const one = {choose}; one.scrollIntoView({{block: 'center'}});"
        "const a = one.getBoundingClientRect(), b = document.querySelector('iframe').getBoundingClientRect();"
        "return [b.x + a.x + a.width / 2, b.y + a.y + a.height / 2, a.width, a.height] })()"
    )


def our_errors(browser):
    """What went wrong in our pages; Airflow's own is not ours."""
    return [one for one in browser.errors if "lcops" in one and "psf_fit.png" not in one]


def test_two_hundred_pictures_at_once_hold_up_neither_scripts_nor_heartbeats(observatory):
    """Most are asked to come again; what Airflow's tasks and browsers ask for meanwhile goes before those that wait."""
    airflow = observatory.airflow
    lens = f"{airflow.url}/lcops/lens/alpha__season"
    pictures = [f"{lens}/frames/{n % 4 + 1}/{('roi', 'stars', 'psf')[n % 3]}.png" for n in range(200)]
    others = {
        "script": f"{airflow.url}/lcops/static/pages.js",
        "health": f"{airflow.url}/api/v2/monitor/health",
    }
    begun = time.monotonic()
    came: list[tuple[str, float, float]] = []

    async def ask(client: httpx.AsyncClient, kind: str, url: str) -> httpx.Response:
        begin = time.monotonic()
        answer = await client.get(url)
        came.append((kind, time.monotonic() - begin, time.monotonic() - begun))
        return answer

    async def ask_for_all() -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {airflow.token()}"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(headers=headers, limits=limits, timeout=300) as client:
            at_work = [asyncio.create_task(ask(client, "picture", url)) for url in pictures]
            while not all(task.done() for task in at_work):
                for kind, url in others.items():
                    assert (await ask(client, kind, url)).status_code == 200
                await asyncio.sleep(0.02)
            return [task.result() for task in at_work]

    answers = asyncio.run(ask_for_all())
    assert Counter(answer.status_code for answer in answers).keys() == {200, 503}
    assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 503} == {"1"}
    lasted = max(when for kind, _, when in came if kind == "picture")
    for kind in others:
        waits = [wait for one, wait, _ in came if one == kind]
        print(
            f"{kind}: asked for {len(waits)} times during {lasted:.1f} s of pictures, at most {max(waits):.2f} s"
        )
        # Those that wait for a place to be drawn take long: whatever had to stand behind them would come seldom.
        assert len(waits) > 3


def test_the_observatory_is_in_the_navigation(observatory, browser):
    log_in(browser, observatory, "visitor")
    link = "document.querySelector('a[href*=\"plugin/lcops-observatory\"]')"
    browser.wait(link)
    browser.run(f"{link}.click()")
    row = wait_in_frame(browser, "document.querySelector('#lenses tbody tr').innerText")
    assert row.split()[0] == "alpha"
    assert row.split()[2:4] == ["2", "2"]
    look(browser, "observatory")
    # Filter and sort, by keyboard.
    browser.run(f"{FRAME}.querySelector('input[name=text]').focus()")
    browser.write("nobody")
    wait_in_frame(browser, "document.querySelector('[data-count]').textContent === '0 of 1'")
    assert browser.run(f"{FRAME}.querySelector('#lenses tbody tr').hidden") is True
    x, y, *_ = place_in_frame(browser, "thead button")
    browser.click(x, y)
    assert (
        wait_in_frame(browser, "document.querySelector('thead th').getAttribute('aria-sort')") == "ascending"
    )
    # From the list to the lens; Airflow's address follows.
    browser.run(f"{FRAME}.querySelector('#lenses tbody a').click()")
    wait_in_frame(browser, "document.querySelector('.chart[data-ready]')")
    browser.wait("location.pathname.endsWith('/lcops/lens/alpha__season/')")
    assert our_errors(browser) == []


def test_what_is_typed_before_the_script_has_come_is_filtered(observatory, browser):
    log_in(browser, observatory, "visitor")
    browser.hold("*static/pages.js*")
    browser.call("Page.navigate", url=f"{observatory.airflow.url}/lcops/observatory/")
    count = "document.querySelector('[data-count]').textContent"
    assert browser.wait(count) == "1 lens"
    browser.run("document.querySelector('input[name=text]').focus()")
    browser.write("nobody")
    assert browser.run(count) == "1 lens"
    browser.let_go()
    browser.wait(f"{count} === '0 of 1'")


def open_lens(browser, observatory, path=""):
    browser.open(f"{observatory.airflow.url}/dags/alpha__season/plugin/lcops-lens")
    wait_in_frame(browser, "document.querySelector('.chart[data-ready] svg circle')")
    if path:
        browser.run(f"{FRAME}.querySelector('nav a[href$=\"{path}\"]').click()")


def test_the_light_curve_is_zoomed_hovered_and_leads_to_the_frame(observatory, browser):
    log_in(browser, observatory, "visitor")
    open_lens(browser, observatory)
    dots = "document.querySelectorAll('svg.plot g.faint circle').length"
    assert wait_in_frame(browser, dots) == 2 * 2 * NIGHTS
    look(browser, "lens")
    x, y, width, height = place_in_frame(browser, "svg.plot")
    browser.drag((x + 0.2 * width, y - 0.1 * height), (x + 0.48 * width, y + 0.1 * height))
    assert 0 < browser.run(f"(document => {dots})({FRAME})") < 2 * 2 * NIGHTS
    browser.run(f"{FRAME}.querySelector('svg.plot').focus()")
    browser.key("0")
    assert browser.run(f"(document => {dots})({FRAME})") == 2 * 2 * NIGHTS
    # By keyboard: a point, the next one, its frame.
    browser.key("ArrowRight")
    text = wait_in_frame(
        browser, "!document.querySelector('.tip').hidden && document.querySelector('.tip').textContent"
    )
    assert text.startswith("A: ")
    # By mouse: the last exposure, then its frame.
    x, y, *_ = place_in_frame(browser, "svg.plot g.faint circle", last=True)
    browser.move(x, y)
    text = wait_in_frame(
        browser,
        "document.querySelector('.tip').textContent.includes('.fits') && document.querySelector('.tip').textContent",
    )
    assert "seeing" in text
    look(browser, "lens_hover")
    browser.click(x, y)
    name = wait_in_frame(
        browser,
        "document.querySelector('h2').textContent.endsWith('.fits') && document.querySelector('h2').textContent",
    )
    assert name in text
    wait_in_frame(
        browser,
        "[...document.images].filter(one => one.loading !== 'lazy').every(one => one.naturalWidth > 0)",
    )
    look(browser, "frame")
    assert our_errors(browser) == []


def test_airflows_theme_is_ours(observatory, browser):
    log_in(browser, observatory, "visitor")
    open_lens(browser, observatory)
    background = f"getComputedStyle({FRAME}.documentElement).backgroundColor"
    colours = set()
    for theme in ("dark", "light"):
        browser.run(f"document.documentElement.className = '{theme}'")
        wait_in_frame(browser, f"document.documentElement.dataset.theme === '{theme}'")
        colours.add(browser.run(background))
        look(browser, f"lens_{theme}")
    assert len(colours) == 2


@pytest.mark.parametrize("page", ["frames/", "stars/", "state/"])
def test_each_page_of_a_lens_opens(observatory, browser, page):
    log_in(browser, observatory, "visitor")
    open_lens(browser, observatory, page)
    wait_in_frame(
        browser, f"document.location.pathname.endsWith('/{page}') && document.querySelector('table')"
    )
    if page == "stars/":
        wait_in_frame(browser, "document.querySelector('.chart[data-ready] svg circle')")
    look(browser, page.strip("/"))
    assert our_errors(browser) == []


def test_a_run_says_what_its_night_did(observatory, browser):
    log_in(browser, observatory, "visitor")
    night = next(run for run in observatory.runs("alpha__nightly") if run["dag_run_id"].startswith("late__"))
    browser.open(f"{observatory.airflow.url}/dags/alpha__nightly/runs/{night['dag_run_id']}/plugin/lcops-run")
    text = wait_in_frame(browser, "document.querySelector('dl.numbers').innerText")
    assert text.split("\n")[:2] == ["frames in", "2"]
    look(browser, "run")
    assert our_errors(browser) == []


def test_a_viewer_decides_nothing(observatory, browser):
    log_in(browser, observatory, "visitor")
    open_lens(browser, observatory, "frames/")
    wait_in_frame(browser, "document.body.innerText.includes('You may look, not decide')")
    status = browser.run(
        "fetch('/lcops/lens/alpha__season/frames/decide', {method: 'POST', body: new URLSearchParams("
        "{action: 'eliminate', frame: '1', comment: 'x', csrf: 'x'})}).then(answer => answer.status)"
    )
    assert status == 403
    assert decided(observatory) == []


def decided(observatory):
    lens = Lens(observatory.config("alpha"))
    with reading(lens.engine) as connection:
        rows = decisions.decisions_of(connection, "alpha")
    lens.close()
    return [(row.kind, row.decided_by, row.comment) for row in rows]


def test_an_editor_eliminates_a_frame_and_sees_the_reprocessing(observatory, browser):
    before = epochs(observatory)
    log_in(browser, observatory, "vera")
    open_lens(browser, observatory, "frames/")
    wait_in_frame(browser, "document.querySelector('input[name=frame]')")
    browser.run(f"{FRAME}.querySelector('input[name=frame]').click()")
    # Without a reason nothing is sent.
    x, y, *_ = place_in_frame(browser, "button[value=eliminate]")
    browser.click(x, y)
    assert decided(observatory) == []
    browser.run(f"{FRAME}.querySelector('input[name=comment]').focus()")
    browser.write("a satellite")
    look(browser, "frames_decide")
    x, y, *_ = place_in_frame(browser, "button[value=eliminate]")
    browser.click(x, y)
    told = wait_in_frame(browser, "document.querySelector('.told').innerText")
    assert "1 frame eliminated by vera" in told
    assert "Reprocessing is under way" in told
    assert decided(observatory) == [(decisions.ELIMINATE, "vera", "a satellite")]
    look(browser, "frames_told")
    # The link leaves the frame: Airflow's own page of the run.
    run_id = browser.run(f"{FRAME}.querySelector('.told a').textContent")
    x, y, *_ = place_in_frame(browser, ".told a")
    browser.click(x, y)
    browser.wait(f"decodeURIComponent(location.pathname).endsWith('/runs/{run_id}')")
    observatory.wait_for_runs(lambda _runs: epochs(observatory) == before - 1)
    (run,) = (one for one in observatory.runs("alpha__season") if one["dag_run_id"] == run_id)
    assert run["state"] == "success"
    assert run["triggering_user_name"] == "vera"
    open_lens(browser, observatory)
    assert wait_in_frame(browser, "document.querySelectorAll('svg.plot g.faint circle').length") == 2 * (
        before - 1
    )
    version = browser.run(f"{FRAME}.querySelector('select[name=version]').value")
    assert int(version) == observatory.version("alpha")
    assert our_errors(browser) == []


def test_a_stranger_gets_nothing(observatory):
    url = f"{observatory.airflow.url}/lcops"
    paths = ["observatory/", "static/pages.css", "run/alpha__season/x/"]
    own = ("", "curve.json?filter=r", "frames/", "frames/1/", "frames/1/image.png", "frames.csv", "stars/", "state/",
           "stars.json?filter=r", "files/alpha_r_photometry_per_epoch.csv")  # fmt: skip
    paths += [f"lens/alpha__season/{each}" for each in own]
    for path in paths:
        assert httpx.get(f"{url}/{path}").status_code == 401, path
    for path in ("frames/decide", "stars/decide"):
        assert httpx.post(f"{url}/lens/alpha__season/{path}", data={"action": "eliminate"}).status_code == 401
    assert wait_for(lambda: httpx.get(f"{url}/docs").status_code in (401, 404), 1)

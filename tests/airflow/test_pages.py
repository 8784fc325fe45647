"""The operator's pages behind Airflow's login, on a reduced season: what they show, and whom they refuse."""

import html
import json
import re
import socket
import sqlite3
from collections import Counter
from datetime import timedelta
from urllib.parse import urljoin

import numpy as np
import pytest
import sqlalchemy as sa
import yaml

from lightcurver_ops.airflow.local import wait_for
from lightcurver_ops.bookkeeping import decisions, frames, ledger, photometry, stars
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.ledger import as_utc
from lightcurver_ops.bookkeeping.tables import frames as frames_table
from lightcurver_ops.bookkeeping.tables import (
    publications,
    stage_runs,
    star_flux_in_frame,
    star_normalization,
)
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.operations.arrivals import notice_raw_files
from lightcurver_ops.operations.nights import night_of_mjd, timezone_name
from lightcurver_ops.stages.control_stars import controls_of_lens
from lightcurver_ops.stages.read_convert_skysub_character_catalog import ReadConvertSkysubCharacterCatalog
from tests.seasons import copied

LENS = "/lcops/lens/small__season"
ORIGIN = {"Origin": "http://airflow.test:8080"}


@pytest.fixture(scope="module")
def season(controlled_season, tmp_path_factory):
    """A season with control stars, in an observatory; shared by the tests that only look."""
    return in_observatory(copied(controlled_season, tmp_path_factory.mktemp("pages") / "season"))


@pytest.fixture
def own_season(controlled_season, tmp_path, monkeypatch):
    """One to be changed."""
    season = in_observatory(copied(controlled_season, tmp_path / "season"))
    monkeypatch.setenv("LCOPS_OBSERVATORY", str(season.directory / "observatory.yaml"))
    return season


def in_observatory(season):
    content = {"name": "example", "lenses": [season.config_path.name]}
    (season.directory / "observatory.yaml").write_text(yaml.safe_dump(content))
    return season


@pytest.fixture
def looking(season, monkeypatch):
    monkeypatch.setenv("LCOPS_OBSERVATORY", str(season.directory / "observatory.yaml"))
    return season


@pytest.fixture
def viewer(web, looking):
    return web.client("viewer")


def frame_ids(season) -> list[int]:
    lens = season.lens()
    with reading(lens.engine) as connection:
        ids = [row.id for row in frames.all_frames(connection, lens.name)]
    lens.close()
    return ids


def got(client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, re.sub(r"<[^>]+>|\s+", " ", answer.text)[-500:]
    return answer.text


def token_of(text: str) -> str:
    return re.search(r'name="csrf" value="([^"]+)"', text)[1]


def test_the_observatory_lists_each_lens_with_its_last_night_and_curves(viewer, looking):
    text = got(viewer, "/lcops/observatory/")
    assert "<h1>example</h1>" in text
    row = re.search(r"<tr data-failing.*?</tr>", text, re.S)[0]
    assert 'href="../lens/small__season/"' in row
    cells = [
        html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()
        for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.S)
    ]
    assert cells[0] == ["small"]
    # Two exposures of the last night, both in the light curve of six.
    assert [cell[0] for cell in cells[2:6]] == ["2", "2", "0", "0"]
    assert 0.5 < float(cells[6][0]) < 3
    assert cells[7] == []
    assert cells[8] == ["6"]
    assert cells[9][0] == "A"
    assert abs(float(cells[9][1]) - 18.4) < 0.5
    assert row.count("<polyline") == 2


def hide_small(monkeypatch):
    """From now on nobody may read the DAGs of the lens `small`."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    seen = SimpleAuthManager.is_authorized_dag

    def only_others(self, *, details=None, **kwargs):
        return not details.id.startswith("small__") and seen(self, details=details, **kwargs)

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", only_others)


def test_a_lens_that_a_user_may_not_read_is_not_listed(web, looking, monkeypatch):
    hide_small(monkeypatch)
    client = web.client("viewer")
    assert "small" not in got(client, "/lcops/observatory/").replace("small__", "small")
    got(client, f"{LENS}/", 403)
    got(client, f"{LENS}/curve.json?filter=r", 403)


def test_the_light_curve_comes_with_error_bars_and_control_stars(viewer, looking):
    text = got(viewer, f"{LENS}/")
    assert 'data-source="curve.json?filter=r&amp;version=' in text
    assert "control stars" in text
    assert re.search(r"<p>error that all points of an image share, beside their own: A \d+\.\d mmag, B", text)
    assert "small_r_common_errors.json" in text
    data = json.loads(got(viewer, f"{LENS}/curve.json?filter=r"))
    assert data["labels"] == ["A", "B"]
    assert data["epochs"]["frame"] == frame_ids(looking)
    assert len(data["nights"]["mjd"]) == 3
    for label in data["labels"]:
        image = data["epochs"]["images"][label]
        assert all(0 < error < 0.5 for error in image["d_mag_up"])
        assert data["nights"]["images"][label]["count"] == [2, 2, 2]
    assert len(data["controls"]["images"]) == 2
    assert all(name.endswith(".fits") for name in data["epochs"]["name"])


def test_a_light_curve_of_before_common_errors_is_shown(web, own_season):
    lens = own_season.lens()
    with writing(lens.engine) as connection:
        connection.execute(sa.update(publications).values(common_errors=None, control_stars=None))
    lens.close()
    client = web.client("viewer")
    text = got(client, f"{LENS}/")
    assert "error that all points of an image share" not in text
    assert 'data-source="curve.json?filter=r&amp;version=' in text
    assert json.loads(got(client, f"{LENS}/curve.json?filter=r"))["labels"] == ["A", "B"]


def test_versions_and_filters_that_are_not_there_are_not_found(viewer):
    first = json.loads(got(viewer, f"{LENS}/curve.json?filter=r&version=1"))
    assert first["version"] == 1
    assert first["controls"] is None  # the files on disk are those of the newest version
    for path in (
        "/?version=99",
        "/?filter=z",
        "/curve.json?filter=z",
        "/stars/?filter=z",
        "/frames/?sort=password",
    ):
        got(viewer, f"{LENS}{path}", 404)
    for path in ("/?version=x", "/curve.json", "/frames/?number=0", "/frames/x/", "/frames/1/secret.png"):
        got(viewer, f"{LENS}{path}", 422)


def test_each_file_of_the_list_can_be_had_and_no_other(viewer, looking, tmp_path):
    text = got(viewer, f"{LENS}/")
    names = set(re.findall(r'(?:href|src)="files/([^"]+)"', text))
    assert "small_r_photometry_per_epoch.csv" in names
    for name in names:
        content = viewer.get(f"{LENS}/files/{name}").content
        assert content == (looking.work / "prepared_roi_cutouts" / name).read_bytes()
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    products = looking.work / "prepared_roi_cutouts"
    link = products / "small_r_photometry_per_secret.csv"
    link.symlink_to(secret)
    inner = products / "small_r_photometry_per_link.csv"
    inner.symlink_to(products / "small_r_photometry_per_epoch.csv")
    try:
        strange = (
            "database.sqlite3",
            "..%2Fdatabase.sqlite3",
            "%2e%2e%2f%2e%2e%2fobservatory.yaml",
            "a%00b",
            link.name,
        )
        for name in strange:
            got(viewer, f"{LENS}/files/{name}", 404)
        assert "secret" not in got(viewer, f"{LENS}/")
        got(viewer, f"{LENS}/files/{inner.name}")  # it stays inside
    finally:
        link.unlink()
        inner.unlink()


def test_a_directory_that_leads_out_of_the_workdir_is_not_followed(web, own_season, tmp_path):
    client = web.client("viewer")
    products = own_season.work / "prepared_roi_cutouts"
    outside = tmp_path / "elsewhere"
    products.rename(outside)
    products.symlink_to(outside)
    assert "files/small" not in got(client, f"{LENS}/")
    got(client, f"{LENS}/files/small_r_photometry_per_epoch.csv", 404)
    (frame,) = frame_ids(own_season)[:1]
    lens = own_season.lens()
    with writing(lens.engine) as connection:
        frames.update_frame(
            connection, frame, image_relpath="../observatory.yaml", sources_relpath="/etc/hostname"
        )
    lens.close()
    for picture in ("small", "image", "roi", "psf", "stars", "psf_fit"):
        got(client, f"{LENS}/frames/{frame}/{picture}.png", 404)
    assert "0 brightest" in got(client, f"{LENS}/frames/{frame}/")


def test_frames_are_listed_sorted_and_found(viewer, looking):
    text = got(viewer, f"{LENS}/frames/")
    ids = [int(one) for one in re.findall(r'name="frame" value="(\d+)"', text)]
    assert ids == frame_ids(looking)[::-1]
    up = got(viewer, f"{LENS}/frames/?sort=mjd&down=false")
    assert [int(one) for one in re.findall(r'name="frame" value="(\d+)"', up)] == ids[::-1]
    assert "6 of 6 frames; 6 used, 0 not" in text
    assert "No frame is like that." in got(viewer, f"{LENS}/frames/?show=unused")
    every = got(viewer, f"{LENS}/frames/?columns=all")
    for column in set(frames_table.columns.keys()) - {
        "image_relpath",
        "sources_relpath",
        "pixel_hash",
        "inputs_hash",
        "id",
    }:
        assert f"sort={column}" in every
    table = got(viewer, f"{LENS}/frames.csv").splitlines()
    assert len(table) == 7
    assert set(frames_table.columns.keys()) < set(table[0].split(","))


def test_a_frame_shows_its_pictures_stars_and_history(viewer, looking):
    frame = frame_ids(looking)[0]
    text = got(viewer, f"{LENS}/frames/{frame}/")
    assert '<strong class="good">used</strong>' in text
    assert text.count('class="psf"') == 5
    assert "psf_modeling" in text
    for picture in ("small", "image", "roi", "psf", "stars"):
        answer = viewer.get(f"{LENS}/frames/{frame}/{picture}.png")
        assert answer.content.startswith(b"\x89PNG"), picture
    got(viewer, f"{LENS}/frames/{frame}/psf_fit.png", 404)  # compute.diagnostics is false
    got(viewer, f"{LENS}/frames/999999/", 404)


def test_the_star_page_has_curves_scatter_and_controls(viewer):
    text = got(viewer, f"{LENS}/stars/")
    assert text.count("<td>control</td>") == 2
    data = json.loads(got(viewer, f"{LENS}/stars.json?filter=r"))
    assert len(data["coefficient"]) == 6
    assert len(data["stars"]) >= 5
    values = [value for star in data["stars"] for value in star["value"] if value is not None]
    assert abs(sum(values) / len(values) - 1) < 0.02


PLOTTED = ("usual", "variable", "control", "excluded", "other")


def plotted(text: str) -> dict[str, tuple[str, float, float, float | None]]:
    """star: kind, x and y of its point, y of what is expected, in the diagram of the stars' scatter."""
    found = {}
    for kind, title, content in re.findall(r'<g class="(\w+)"><title>(.*?)</title>(.*?)</g>', text):
        x, y = (float(one) for one in re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)"', content).groups())
        expected = re.search(r'<line class="expected".*? y1="([\d.]+)"', content)
        found[title.split(",")[0]] = (kind, x, y, float(expected[1]) if expected else None)
    return found


def test_the_star_page_plots_scatter_over_magnitude_with_what_is_expected(web, own_season):
    lens = own_season.lens()
    with writing(lens.engine) as connection:
        selection = stars.current_selection(connection, "small")
        norms = photometry.star_normalizations_of(connection, "small", selection)
        variable, excluded = norms[0].star_gaia_id, norms[1].star_gaia_id
        of_variable = star_flux_in_frame.c.star_gaia_id == variable
        connection.execute(
            sa.update(star_normalization)
            .where(star_normalization.c.star_gaia_id == variable)
            .values(variable=True)
        )
        # Twice as bright in every other frame.
        connection.execute(
            sa.update(star_flux_in_frame)
            .where(of_variable, star_flux_in_frame.c.frame_id % 2 == 0)
            .values(flux=2 * star_flux_in_frame.c.flux)
        )
        known = {star.gaia_id: star for star in stars.stars_of(connection, "small", selection)}
        stars.exclude_star(connection, "small", known[excluded], "a galaxy", "Vera")
        controls = controls_of_lens(connection, lens.config, selection).ids
        coefficients = photometry.coefficients_of(connection, "small", selection)
        fluxes = photometry.fluxes_of(connection, "small", selection)
    lens.close()
    pairs = [
        (row.flux / c.coefficient, row.flux_uncertainty / c.coefficient)
        for row in fluxes
        if row.star_gaia_id == variable and (c := coefficients.get(row.frame_id))
    ]
    values, errors = np.array(pairs).T
    scatter = 148.26 * np.median(np.abs(values - np.median(values))) / np.median(values)
    expected = 100 * np.median(errors) / np.median(values)
    assert scatter > 40
    text = got(web.client("viewer"), f"{LENS}/stars/")
    points = plotted(text)
    names = {star_id: star.name for star_id, star in known.items()}
    often = Counter(row.star_gaia_id for row in fluxes if row.frame_id in coefficients)
    assert points.keys() == {names[star_id] for star_id, count in often.items() if count > 1}
    kinds = {kind: {name for name, point in points.items() if point[0] == kind} for kind in PLOTTED}
    assert kinds["variable"] == {names[variable]}
    assert kinds["excluded"] == {names[excluded]}
    assert kinds["control"] == {names[one] for one in controls}
    # A star that was measured once has no scatter, and no point.
    assert kinds["usual"] == {names[row.star_gaia_id] for row in norms[2:]} & points.keys()
    assert len(kinds["usual"]) > 5
    magnitudes = {star.name: star.gmag for star in known.values()}
    assert list(points) == sorted(points, key=magnitudes.get)
    assert list(points) == sorted(points, key=lambda one: points[one][1])
    assert min(points, key=lambda one: points[one][2]) == names[variable]  # the largest scatter is on top
    assert all(point[3] is not None for point in points.values())
    assert f"scatter {scatter:.2f} %, expected {expected:.2f} %, variable</title>" in text


def test_the_state_page_has_every_stage(viewer):
    text = got(viewer, f"{LENS}/state/")
    assert '<th scope="row">model_calibrated_cutouts</th>' in text


def test_a_lens_without_bookkeeping_says_so(web, looking, tmp_path, monkeypatch):
    content = yaml.safe_load(looking.config_path.read_text())
    (tmp_path / "new.yaml").write_text(
        yaml.safe_dump({**content, "name": "small", "workdir": str(tmp_path / "none")})
    )
    (tmp_path / "observatory.yaml").write_text(yaml.safe_dump({"name": "new", "lenses": ["new.yaml"]}))
    monkeypatch.setenv("LCOPS_OBSERVATORY", str(tmp_path / "observatory.yaml"))
    client = web.client("viewer")
    assert "There is no light curve yet." in got(client, f"{LENS}/")
    assert "nothing was done yet" in got(client, f"{LENS}/state/")
    assert "small: nothing was done yet" in got(client, f"{LENS}/frames/", 404)
    assert 'href="../lens/small__season/"' in got(client, "/lcops/observatory/")
    assert not (tmp_path / "none").exists()


def test_where_a_connection_must_be_no_page_falls_back_to_a_file(web, looking, monkeypatch):
    monkeypatch.setenv("LCOPS_REQUIRE_CONNECTION", "true")
    client = web.client("viewer")
    for path in (f"{LENS}/", f"{LENS}/state/", f"{LENS}/frames/", "/lcops/observatory/"):
        assert "there is no Airflow connection lightcurver_db" in html.unescape(got(client, path, 503))


def test_what_is_in_the_data_is_shown_not_executed(web, own_season):
    bad = "<script>alert(1)</script>"
    lens = own_season.lens()
    frame = frame_ids(own_season)[0]
    with writing(lens.engine) as connection:
        frames.update_frame(
            connection, frame, warnings=bad, comment=bad, eliminated=True, eliminated_by=f"user {bad}"
        )
    lens.close()
    client = web.client("viewer")
    for path in ("frames/", f"frames/{frame}/"):
        text = got(client, f"{LENS}/{path}")
        assert bad not in text
        assert html.escape(bad) in text
    page = got(client, f"{LENS}/frames/?told={bad}&q={bad}")
    assert bad not in page


def test_what_is_kept_of_a_database_is_that_of_all_its_lenses_whoever_looked_first(
    web, own_season, monkeypatch
):
    from tests.airflow.conftest import know_dags

    know_dags("other__season", "other__nightly")
    other = copied(own_season, own_season.directory.parent / "other")
    database = f"sqlite:///{own_season.work / 'database.sqlite3'}"
    other.configure(name="other", database=database)
    (own_season.directory / "observatory.yaml").write_text(
        yaml.safe_dump({"name": "two", "lenses": [own_season.config_path.name, str(other.config_path)]})
    )
    client = web.client("viewer")
    with monkeypatch.context() as patch:
        hide_small(patch)
        first = got(client, "/lcops/observatory/")
    assert "small__season" not in first
    assert "other__season" in first
    row = re.search(
        r"<tr data-failing[^>]*>(?:(?!</tr>).)*small__season.*?</tr>",
        got(client, "/lcops/observatory/"),
        re.S,
    )
    assert re.search(r"\d{4}-\d{2}-\d{2}", row[0])


def test_what_is_not_there_names_no_path_of_the_server(web, own_season):
    client = web.client("viewer")
    frame = frame_ids(own_season)[0]
    for path in (own_season.work / "frames").glob("*.fits"):
        path.write_text("not a frame")
    pages = [got(client, f"{LENS}/frames/{frame}/small.png", 404)]
    own_season.config_path.write_text("name: small\nroi: [")
    pages.append(got(client, f"{LENS}/", 404))
    for page, said in zip(
        pages,
        ("the pixels of this picture are not there", "there is no lens small whose file can be used"),
        strict=True,
    ):
        assert said in page
        assert str(own_season.directory) not in page
        assert own_season.config_path.name not in page


def test_a_link_puts_no_words_into_our_mouth(web, own_season):
    vera, client = web.client("user", name="Vera"), web.client("user", name="Otto")
    frame = frame_ids(own_season)[0]
    pages = (f"{LENS}/frames/", f"{LENS}/frames/{frame}/", f"{LENS}/stars/")
    for page in pages:
        for words in (
            "done=Send+me+your+password",
            "told=Send+me+your+password",
            "told=WyIxIix7ImRvbmUiOiJTZW5kIn1d.x.y",
        ):
            text = got(client, f"{page}?{words}")
            assert "Send" not in text
            assert 'role="status"' not in text
    # What the pages say themselves is said to whom it is meant for.
    answer = decide(vera, "frames", action="eliminate", frame=[frame], comment="satellite")
    for page in pages:
        told = answer.headers["location"].removeprefix("./")
        assert "1 frame eliminated by Vera" in got(vera, page + told)
        assert "eliminated by Vera" not in got(client, page + told).split("<table")[0]


def test_a_number_that_no_database_can_hold_is_no_frame(web, own_season):
    client = web.client("user", name="Vera")
    for number in (10**22, -(10**22), 2**63, 0):
        got(client, f"{LENS}/frames/{number}/", 404)
        got(client, f"{LENS}/frames/{number}/small.png", 404)
        answer = decide(client, "frames", action="eliminate", frame=[number], comment="satellite")
        assert answer.status_code == 404


def decide(client, path, **form):
    token = token_of(got(client, f"{LENS}/{path}/"))
    return client.post(f"{LENS}/{path}/decide", data={"csrf": token, **form}, headers=ORIGIN)


def test_an_editor_eliminates_and_restores_frames_and_it_is_recorded(web, own_season):
    client = web.client("user", name="Vera")
    chosen = frame_ids(own_season)[:2]
    answer = decide(client, "frames", action="eliminate", frame=chosen, comment=" satellite ")
    assert answer.status_code == 303, answer.text
    text = got(client, f"{LENS}/frames/{answer.headers['location']}")
    assert "2 frames eliminated by Vera" in text
    assert "eliminated by user Vera: satellite" in text
    answer = decide(client, "frames", action="restore", frame=chosen[:1], back="frame")
    assert answer.headers["location"].startswith(f"./{chosen[0]}/?told=")
    page = got(client, f"{LENS}/frames/{answer.headers['location']}")
    assert "1 frame restored by Vera" in page
    assert "restore frame" in page
    assert "eliminate frame" in page
    lens = own_season.lens()
    with reading(lens.engine) as connection:
        record = decisions.decisions_of(connection, "small")
        rows = {row.id: row for row in frames.all_frames(connection, "small")}
    lens.close()
    assert [(row.kind, row.decided_by, row.comment) for row in record] == [
        (decisions.RESTORE, "Vera", None),
        (decisions.ELIMINATE, "Vera", "satellite"),
        (decisions.ELIMINATE, "Vera", "satellite"),
    ]
    assert [rows[one].eliminated for one in chosen] == [False, True]


def test_an_editor_excludes_and_includes_stars(web, own_season):
    client = web.client("user", name="Vera")
    ids = re.findall(r'name="star" value="(\d+)"', got(client, f"{LENS}/stars/"))
    assert decide(client, "stars", action="exclude", star=ids[:1], comment="a galaxy").status_code == 303
    assert "Vera: a galaxy" in got(client, f"{LENS}/stars/")
    lens = own_season.lens()
    with reading(lens.engine) as connection:
        assert stars.excluded_ids(connection, "small") == ids[:1]
    assert decide(client, "stars", action="include", star=ids[:1]).status_code == 303
    with reading(lens.engine) as connection:
        assert stars.excluded_ids(connection, "small") == []
    lens.close()
    assert decide(client, "stars", action="exclude", star=["1"], comment="none").status_code == 404


def test_a_decision_wants_a_comment_a_frame_and_an_action(web, own_season):
    client = web.client("user")
    frame = frame_ids(own_season)[0]
    answer = decide(client, "frames", action="eliminate", frame=frame, comment=" ")
    assert answer.status_code == 400
    assert "say why" in answer.text
    assert decide(client, "frames", action="eliminate", comment="x").status_code == 422
    assert decide(client, "frames", action="delete", frame=frame, comment="x").status_code == 422
    assert decide(client, "frames", action="eliminate", frame=999999, comment="x").status_code == 404
    assert nothing_decided(own_season)


def nothing_decided(season) -> bool:
    lens = season.lens()
    with reading(lens.engine) as connection:
        rows = decisions.decisions_of(connection, "small")
        out = [row for row in frames.all_frames(connection, "small") if row.eliminated]
    lens.close()
    return not rows and not out


def test_a_run_that_airflow_cannot_start_is_told_and_the_decision_holds(web, own_season):
    client = web.client("user")
    frame = frame_ids(own_season)[0]
    answer = decide(client, "frames", action="eliminate", frame=frame, comment="x", reprocess="true")
    assert answer.status_code == 303
    text = got(client, f"{LENS}/frames/{answer.headers['location']}")
    assert "1 frame eliminated by user" in text
    assert "the run could not be started: " in text  # Airflow has not serialized this DAG


def test_a_viewer_may_look_but_not_decide(web, own_season):
    client = web.client("viewer")
    frame = frame_ids(own_season)[0]
    text = got(client, f"{LENS}/frames/{frame}/")
    assert "You may look, not decide" in text
    assert 'name="csrf"' not in text
    editor = web.client("user")
    token = token_of(got(editor, f"{LENS}/frames/"))
    client.cookies.set("lcops_session", editor.cookies["lcops_session"])
    form = {"csrf": token, "action": "eliminate", "frame": frame, "comment": "x"}
    assert client.post(f"{LENS}/frames/decide", data=form, headers=ORIGIN).status_code == 403
    assert client.post(f"{LENS}/stars/decide", data={**form, "star": "1"}, headers=ORIGIN).status_code == 403
    assert nothing_decided(own_season)


@pytest.mark.parametrize(
    ("headers", "change", "why"),
    [
        ({"Origin": "https://evil.example"}, {}, "another site"),
        ({"Origin": "null"}, {}, "another site"),
        ({}, {}, "another site"),
        ({**ORIGIN, "Sec-Fetch-Site": "cross-site"}, {}, "another site"),
        (ORIGIN, {"csrf": ""}, "not of your session"),
        (ORIGIN, {"csrf": "WyJ1c2VyIiwieCJd.aaa.bbb"}, "not of your session"),
        (ORIGIN, {"session": "another"}, "not of your session"),
        (ORIGIN, {"user": "somebody"}, "not of your session"),
    ],
)
def test_a_forged_request_changes_nothing(web, own_season, headers, change, why):
    client = web.client("user")
    token = token_of(got(client, f"{LENS}/frames/"))
    other = web.client("user", name=change.get("user"))
    other.cookies.set("lcops_session", change.get("session", client.cookies["lcops_session"]))
    form = {
        "csrf": change.get("csrf", token),
        "action": "eliminate",
        "frame": frame_ids(own_season)[0],
        "comment": "x",
    }
    answer = other.post(f"{LENS}/frames/decide", data=form, headers=headers)
    assert answer.status_code == 403
    assert why in answer.text
    assert nothing_decided(own_season)


def test_a_get_never_decides(web, own_season):
    client = web.client("admin")
    frame = frame_ids(own_season)[0]
    answer = client.get(
        f"{LENS}/frames/decide", params={"action": "eliminate", "frame": frame, "comment": "x"}
    )
    assert answer.status_code in (307, 404, 405, 422)
    assert nothing_decided(own_season)


def every_route() -> list[tuple[str, set[str]]]:
    """Path and methods of every route of the pages, also of those that are included."""
    from lightcurver_ops.airflow import pages

    found = []

    def walk(routes, prefix=""):
        for route in routes:
            if getattr(route, "routes", None):
                walk(route.routes, prefix + getattr(route, "path", ""))
            elif hasattr(route, "original_router"):  # an included router
                walk(route.original_router.routes, prefix)
            else:
                found.append((prefix + route.path, set(route.methods or ())))

    walk(pages.app.routes)
    return found


PLACES = {
    "dag_id": "small__season",
    "run_id": "manual__1",
    "number": "1",
    "picture": "small",
    "name": "pages.css",
}


def every_address(season) -> list[str]:
    """What every GET route shows of a season and its run `manual__1`."""
    places = {**PLACES, "number": str(frame_ids(season)[0])}
    found = []
    for path, methods in every_route():
        if "GET" not in methods:
            continue
        names = {"/static/{name}": ["pages.css"]}.get(path, ["small_r_photometry_per_epoch.csv"])
        pictures = ["small", "image", "roi", "psf", "stars"] if "{picture}" in path else [""]
        query = "?filter=r" if path.endswith(("curve.json", "stars.json")) else ""
        dag = "small__nightly" if path.startswith("/run/") else "small__season"
        found += [
            "/lcops" + path.format(**{**places, "dag_id": dag, "name": name, "picture": picture}) + query
            for name in names
            for picture in pictures
        ]
    return found


def test_no_page_needs_the_raw_files_or_asks_where_they_are(web, runs, own_season):
    """The API server of the compose file does not mount raw directories, and a store is not listed for every reader."""
    lens = own_season.lens()
    notice_raw_files(lens, Watch(settle_seconds=0))
    with writing(lens.engine) as connection:
        # A copy of a season has forgotten what it imported.
        stage = ReadConvertSkysubCharacterCatalog(lens)
        for unit, inputs_hash in stage.plan(connection).items():
            ledger.record(connection, "small", stage.name, unit, inputs_hash)
    lens.close()
    client = web.client("viewer")
    addresses = every_address(own_season)
    assert len(addresses) >= 17
    (own_season.directory / "raw").rename(own_season.directory / "not_mounted")
    for address in addresses:
        got(client, address)
    text = got(client, f"{LENS}/state/")
    assert "The newest raw file was noticed on 20" in text
    assert counts_of(text, stage.name) == ["6", "0", "0", "0", "0"]
    with socket.create_server(("127.0.0.1", 0)) as store:
        store.setblocking(False)
        endpoint = f"http://127.0.0.1:{store.getsockname()[1]}"
        own_season.configure(raw={"raw_dirs": ["s3://bucket/small"], "s3_endpoint_url": endpoint})
        for address in addresses:
            got(client, address)
        with pytest.raises(BlockingIOError):  # nobody has called
            store.accept()


def counts_of(text: str, stage: str) -> list[str]:
    """Done, stale, missing, quarantined and failed units of a stage, on the page of the stages."""
    row = re.search(rf'<th scope="row">{stage}</th>.*?</tr>', text, re.S)[0]
    return re.findall(r'<td class="number">(\d+)</td>', row)


def two_lenses(season) -> None:
    """Another lens beside `small`, called `other`: a copy with a bookkeeping of its own."""
    from tests.airflow.conftest import know_dags

    know_dags("other__season", "other__nightly")
    other = copied(season, season.directory.parent / "other")
    other.configure(name="other")
    with sqlite3.connect(other.work / "database.sqlite3") as connection:
        connection.execute("update lenses set name = 'other'")
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            if any(column[1] == "lens" for column in connection.execute(f'pragma table_info("{table}")')):
                connection.execute(f"update \"{table}\" set lens = 'other'")
    (season.directory / "observatory.yaml").write_text(
        yaml.safe_dump({"name": "two", "lenses": [season.config_path.name, str(other.config_path)]})
    )


def give_rights(monkeypatch, **lens_of: str) -> None:
    """From now on these users, by name, have their role's rights for the DAGs of one lens alone."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    usual = SimpleAuthManager.is_authorized_dag

    def narrowed(self, *, user, details=None, **kwargs):
        lens = lens_of.get(user.get_name())
        own = lens is None or (details is not None and str(details.id).startswith(f"{lens}__"))
        return own and usual(self, user=user, details=details, **kwargs)

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", narrowed)


def forget_all_that_is_kept():
    from lightcurver_ops.airflow.pages import lenses, observatory, pictures

    for kept in (
        observatory._kept,
        observatory._rows,
        observatory._databases,
        pictures._kept,
        lenses._loaded,
    ):
        kept.clear()


def lens_shown(text: str) -> set[str]:
    return set(re.findall(r"\b(small|other)__(?:season|nightly)", text))


@pytest.mark.parametrize("order", [("Vera", "Otto"), ("Otto", "Vera")])
def test_what_is_kept_for_one_user_is_not_shown_to_another(web, runs, own_season, monkeypatch, order):
    """Vera may see all lenses, Otto only `other`: whoever fills the caches first."""
    two_lenses(own_season)
    give_rights(monkeypatch, Otto="other")
    forget_all_that_is_kept()
    of_small = every_address(own_season)
    of_other = [one.replace("small__", "other__") for one in of_small if "/run/" not in one]
    clients = {name: web.client("user", name=name) for name in order} | {"nobody": web.client()}
    for name in (*order, *order, "nobody"):
        client = clients[name]
        for address in of_small:
            of_lens = "small__" in address
            status = 401 if name == "nobody" else 403 if of_lens and name == "Otto" else 200
            answer = client.get(address)
            assert answer.status_code == status, (name, address)
            control = answer.headers["cache-control"]
            assert "no-store" in control or "private" in control, "no proxy may keep it for others"
            if status != 200 or address.endswith("/observatory/"):
                expected = {"nobody": set(), "Otto": {"other"}, "Vera": {"small", "other"}}[name]
                assert lens_shown(answer.text.replace(address, "")) - expected == set(), (name, address)
        for address in of_other:
            got(client, address, 401 if name == "nobody" else 200)
    assert lens_shown(got(clients["Otto"], "/lcops/observatory/")) == {"other"}
    assert lens_shown(got(clients["Vera"], "/lcops/observatory/")) == {"small", "other"}


AGAIN = {"from_stage": "psf_modeling", "redo": "true", "comment": "the focus"}


def ask_again(client, of="small", **form):
    """What the page Reprocess sends; its token is from any page that the user may see."""
    token = token_of(got(client, "/lcops/lens/other__season/frames/"))
    return client.post(
        f"/lcops/lens/{of}__season/reprocess/start", data={"csrf": token, **AGAIN, **form}, headers=ORIGIN
    )


@pytest.fixture
def reprocess_dag(own_season):
    """The DAG `lens_reprocess`, as Airflow's DAG processor enters it; no run of it yet."""
    from airflow.models import DagRun
    from airflow.models.dag_version import DagVersion
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    from lightcurver_ops.airflow.factory import REPROCESS, build_dags
    from tests.airflow.conftest import know_dags

    know_dags(REPROCESS)
    SerializedDagModel.write_dag(
        LazyDeserializedDAG.from_dag(build_dags("dags.py")[REPROCESS]), bundle_name="here"
    )
    yield
    with create_session() as session:
        for table in (DagRun, SerializedDagModel, DagVersion):
            session.execute(sa.delete(table))


def reprocessings() -> list[tuple[str, str, dict]]:
    """Kind, user and what was asked for, of the runs of `lens_reprocess`."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.scalars(sa.select(DagRun).where(DagRun.dag_id == "lens_reprocess").order_by(DagRun.id))
        return [(row.run_type, row.triggering_user_name, row.conf) for row in rows]


@pytest.mark.usefixtures("reprocess_dag", "empty_audit_log")
def test_who_may_edit_one_lens_has_no_other_reduced_again(web, own_season, monkeypatch):
    two_lenses(own_season)
    give_rights(monkeypatch, Otto="other")
    otto = web.client("user", name="Otto")
    assert ask_again(otto, "small", exclude_frames="*").status_code == 403
    # Nor by what the form says: the lens is that of the address.
    assert ask_again(otto, "other", lens="small").status_code == 303
    assert reprocessings() == [
        (
            "operator_triggered",
            "Otto",
            {"lens": "other", "from_stage": "psf_modeling", "redo": True, "comment": "the focus"},
        )
    ]
    event, user, run_id, extra = audit_log("other__season")[-1]
    assert (event, user, extra["from_stage"]) == ("lens_reprocess", "Otto", "psf_modeling")
    assert run_id.startswith("operator_triggered__")
    viewer = web.client("viewer", name="Otto")
    assert "You may look, not decide" in got(viewer, "/lcops/lens/other__season/reprocess/")
    assert len(reprocessings()) == 1
    assert nothing_decided(own_season)  # that is for the run


@pytest.mark.usefixtures("reprocess_dag")
def test_the_form_of_a_lens_says_what_is_wrong_before_anything_starts(web, own_season):
    two_lenses(own_season)
    client = web.client("user", name="Vera")
    name = f"{frame_ids(own_season)[0]}"
    for form, status, why in (
        ({"exclude_frames": "nothing*"}, 400, "no frame matches nothing*"),
        ({"exclude_stars": "zz"}, 400, "no reference star is called zz"),
        ({"exclude_frames": name, "comment": " "}, 400, "comment: say why"),
        ({"first_night": "2026-03-02", "last_night": "2026-03-01"}, 400, "is after last_night"),
        ({"first_night": "yesterday"}, 422, ""),
        ({"from_stage": "make_coffee"}, 422, ""),
    ):
        answer = ask_again(client, **form)
        assert answer.status_code == status, form
        assert why in html.unescape(answer.text)
    assert reprocessings() == []
    answer = ask_again(client, exclude_frames=f" {name} \n\n", first_night="2026-03-01", last_night="")
    assert reprocessings()[0][2] == {
        **AGAIN, "redo": True, "lens": "small", "exclude_frames": [name], "first_night": "2026-03-01",
    }  # fmt: skip
    text = got(client, f"{LENS}/reprocess/{answer.headers['location']}")
    assert "small is reduced again from psf_modeling on, for Vera" in text
    assert "dags/lens_reprocess/runs/operator_triggered__" in text


def test_a_reprocessing_that_airflow_cannot_start_is_told(web, own_season):
    two_lenses(own_season)
    client = web.client("user")
    answer = ask_again(client)
    assert "Nothing is done" in (text := got(client, f"{LENS}/reprocess/{answer.headers['location']}"))
    assert "the run could not be started: " in text


def test_nobody_gets_anything_without_a_login(web, looking):
    client = web.client()
    routes = every_route()
    assert len(routes) >= 15
    assert {"/observatory/", "/lens/{dag_id}/frames/decide", "/static/{name}"} <= {path for path, _ in routes}
    for path, methods in routes:
        url = "/lcops" + path.format(**PLACES)
        for method in {*methods, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}:
            for headers in ({}, {"Authorization": "Bearer nonsense"}, ORIGIN):
                answer = client.request(method, url, headers=headers)
                assert answer.status_code in (401, 403, 405), (method, path, answer.status_code)
                assert "small" not in answer.text.replace("small__season", "")
    for path in ("docs", "redoc", "openapi.json", "", "static/", "lens/", "../lcops/static/..%2Fapp.py"):
        assert client.get(f"/lcops/{path}").status_code in (401, 404), path


def test_every_route_of_a_lens_asks_for_its_dag(web, looking):
    client = web.client("viewer")
    for path, methods in every_route():
        if "{dag_id}" in path and "GET" in methods:
            for dag in ("nobody__season", "lcops_arrivals", "small", "..", "small__season%2F.."):
                url = "/lcops" + path.format(**{**PLACES, "dag_id": dag})
                assert client.get(url).status_code in (404, 422), url


def test_every_answer_forbids_strange_scripts_and_no_page_needs_them(web, looking):
    client = web.client("viewer")
    frame = frame_ids(looking)[0]
    own = ("", "frames/", "nothing", f"frames/{frame}/", "stars/", "state/")
    for path in ("/lcops/observatory/", *(f"{LENS}/{each}" for each in own)):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        text = answer.text
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:", text)
        assert not re.search(r'(?:src|href|action)="(?:/|https?:)', text), "a proxy's prefix would be lost"
    assert web.client().get("/lcops/observatory/").headers["content-security-policy"] == policy


def test_scripts_and_styles_load_nothing_from_elsewhere(viewer):
    for name in ("pages.css", "pages.js", "chart.js"):
        answer = viewer.get(f"/lcops/static/{name}")
        assert answer.status_code == 200
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text
        assert "//" not in re.sub(r"^\s*//.*$|  //.*$|'//'", "", text, flags=re.M)
    assert viewer.get("/lcops/static/..%2Fapp.py").status_code == 404
    assert viewer.get("/lcops/static/app.py").status_code == 404


@pytest.fixture
def runs(looking):
    """Runs in Airflow's metadata, at the time when the season was reduced: a night, the season, one that waits."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    lens = looking.lens()
    with reading(lens.engine) as connection:
        began, ended = connection.execute(
            sa.select(sa.func.min(stage_runs.c.started_at), sa.func.max(stage_runs.c.finished_at))
        ).one()
        mjd = frames.all_frames(connection, "small")[-1].mjd
    lens.close()
    night = night_of_mjd(mjd, timezone_name(lens.config)).isoformat()
    common = {"run_type": "manual", "run_after": as_utc(began)}
    made = [
        DagRun(dag_id="small__nightly", run_id="manual__1", conf={"night": night}, state="success", **common),
        DagRun(dag_id="small__season", run_id="manual__1", state="success", **common),
        DagRun(dag_id="small__nightly", run_id="manual__2", state="queued", **common),
    ]
    with create_session() as session:
        for run in made:
            session.add(run)
        for run in made[:2]:
            run.start_date, run.end_date = as_utc(began), as_utc(ended) + timedelta(minutes=1)
    yield night
    with create_session() as session:
        session.execute(sa.delete(DagRun))


def test_a_run_says_in_numbers_what_its_night_did(viewer, runs):
    text = got(viewer, "/lcops/run/small__nightly/manual__1/")
    assert f"<h2>Night {runs}</h2>" in text
    numbers = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", text))
    assert [numbers[key] for key in ("frames in", "solved", "used", "not used")] == ["2", "2", "2", "0"]
    assert re.search(
        r'<th scope="row">psf_modeling</th><td class="number">\d</td><td class="number">2</td>', text
    )
    # What each stage of the lens cost: minutes, minutes of cores, MiB.
    costs = re.search(
        r'<th scope="row">psf_modeling</th><td>done</td><td>[^<]*</td><td class="number">(\d+\.\d)</td>'
        r'<td class="number">(\d+\.\d)</td><td class="number">(\d+)</td><td class="number">6 of 6</td>', text
    )  # fmt: skip
    assert int(costs[3]) > 50
    season = got(viewer, "/lcops/run/small__season/manual__1/")
    assert "<h3>Filter r: version 2</h3>" in season
    assert "6 epochs (+0 against the version before)" in season
    queued = got(viewer, "/lcops/run/small__nightly/manual__2/")
    assert "A run without a night" in queued
    assert "queued, not begun" in queued
    got(viewer, "/lcops/run/small__nightly/manual__3/", 404)
    got(viewer, "/lcops/run/lcops_arrivals/manual__1/", 404)


def test_pages_keep_the_prefix_of_a_proxy(web, looking):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from lightcurver_ops.airflow import pages

    app = FastAPI(root_path="/observatory/airflow")
    app.mount("/lcops", pages.app)
    client = TestClient(app, base_url="http://airflow.test:8080")
    client.cookies.set("_token", web.client("viewer").cookies["_token"])
    start = "http://airflow.test:8080/observatory/airflow/lcops/"
    todo, seen = [f"{start}observatory/"], set()
    while todo:
        url = todo.pop()
        seen.add(url)
        answer = client.get(url)
        assert answer.status_code == 200, url
        if "text/html" not in answer.headers["content-type"] or len(seen) > 40:
            continue
        for link in re.findall(r'(?:href|src)="([^"#?]+)', answer.text):
            target = urljoin(url, html.unescape(link))
            assert target.startswith("http://airflow.test:8080/observatory/airflow/"), (url, link)
            if target.startswith(start) and target not in seen and "psf_fit" not in target:
                todo.append(target)
    assert f"{start}lens/small__season/stars/" in seen
    assert f"{start}static/chart.js" in seen


def test_slow_bookkeeping_is_read_aside_and_the_page_says_how_old_it_is(web, own_season, monkeypatch):
    from lightcurver_ops.airflow.pages import observatory

    monkeypatch.setattr(observatory, "_SLOW_S", 0.0)
    client = web.client("viewer")
    assert "s ago" not in got(client, "/lcops/observatory/")
    lens = own_season.lens()
    with writing(lens.engine) as connection:
        run = ledger.begin_run(connection, "small", "psf_modeling", 1)
        ledger.end_run(connection, run, "failed", n_done=0, n_failed=1, message="no GPU", error=ValueError())
    lens.close()
    assert "s ago" in got(client, "/lcops/observatory/")
    assert wait_for(lambda: "s ago" not in got(client, "/lcops/observatory/"), 30, 0.05)
    text = got(client, "/lcops/observatory/")
    # In the disk around the lens a night does it; the link is to its task.
    assert 'href="../../dags/small__nightly/tasks/psf_modeling" title="no GPU">psf_modeling</a>' in text


def audit_log(dag_id: str = "small__season") -> list[tuple[str, str, str | None, dict]]:
    """event, user, run and content of what Airflow's own audit log has of a DAG, the oldest first."""
    from airflow.models import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.scalars(sa.select(Log).where(Log.dag_id == dag_id).order_by(Log.id))
        return [(row.event, row.owner, row.run_id, json.loads(row.extra)) for row in rows]


@pytest.fixture
def empty_audit_log(web):
    from airflow.models import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        session.execute(sa.delete(Log))


@pytest.mark.usefixtures("empty_audit_log")
def test_each_decision_is_in_the_audit_log_of_airflow(web, own_season):
    client = web.client("user", name="Vera")
    chosen = frame_ids(own_season)[:2]
    lens = own_season.lens()
    with reading(lens.engine) as connection:
        names = [row.image_relpath.removeprefix("frames/") for row in frames.all_frames(connection, "small")]
        selection = stars.current_selection(connection, "small")
        star = stars.stars_of(connection, "small", selection)[0]
    lens.close()
    decide(client, "frames", action="eliminate", frame=chosen, comment=" clouds ")
    decide(client, "frames", action="restore", frame=chosen)
    decide(client, "frames", action="restore", frame=chosen)  # nothing is decided
    decide(client, "stars", action="exclude", star=star.gaia_id, comment="a galaxy")
    decide(client, "stars", action="include", star=star.gaia_id)
    decide(client, "frames", action="eliminate", frame=chosen, comment="")  # refused
    star_name = [f"{star.name} ({star.gaia_id})"]
    assert audit_log() == [
        ("eliminate_frame", "Vera", None, {"frames_or_stars": names[:2], "comment": "clouds"}),
        ("restore_frame", "Vera", None, {"frames_or_stars": names[:2], "comment": ""}),
        ("exclude_star", "Vera", None, {"frames_or_stars": star_name, "comment": "a galaxy"}),
        ("include_star", "Vera", None, {"frames_or_stars": star_name, "comment": ""}),
    ]


def test_a_decision_holds_where_the_audit_log_cannot_be_written(web, own_season):
    from airflow.utils.session import create_session

    client = web.client("user")
    with create_session() as session:
        session.execute(sa.text("alter table log rename to log_elsewhere"))
    try:
        answer = decide(client, "frames", action="eliminate", frame=frame_ids(own_season)[0], comment="x")
    finally:
        with create_session() as session:
            session.execute(sa.text("alter table log_elsewhere rename to log"))
    text = got(client, f"{LENS}/frames/{answer.headers['location']}")
    assert "1 frame eliminated by user" in text
    assert "audit log did not take it (OperationalError)" in html.unescape(text)


@pytest.fixture
def known_dags(own_season):
    """The DAGs of the season's lens as Airflow's DAG processor enters them; no run of them yet."""
    from airflow.models import DagRun
    from airflow.models.dag_version import DagVersion
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    from lightcurver_ops.airflow.factory import build_dags

    for dag in build_dags("dags.py").values():
        if dag.dag_id.startswith("small__"):
            SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name="here")
    yield
    with create_session() as session:
        for table in (DagRun, SerializedDagModel, DagVersion):
            session.execute(sa.delete(table))


@pytest.mark.usefixtures("known_dags", "empty_audit_log")
def test_restored_frames_go_through_their_night_first_where_they_are_not_solved(web, own_season):
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    client = web.client("user", name="Vera")
    ids = frame_ids(own_season)
    lens = own_season.lens()
    with writing(lens.engine) as connection:
        rows = frames.all_frames(connection, "small")
        for row in rows[:3]:
            # The first night was never solved; one frame of the second was.
            frames.update_frame(connection, row.id, eliminated=True, plate_solved=row is rows[2])
    night = night_of_mjd(rows[0].mjd, timezone_name(lens.config)).isoformat()
    lens.close()
    answer = decide(client, "frames", action="restore", frame=ids[:3], reprocess="true")
    text = got(client, f"{LENS}/frames/{answer.headers['location']}")
    assert "3 frames restored by Vera" in text
    assert "Reprocessing is under way" in text
    with create_session() as session:
        runs = [
            (run.dag_id, run.run_id, run.conf, run.triggering_user_name)
            for run in session.scalars(sa.select(DagRun).order_by(DagRun.id))
        ]
    assert [(dag, conf, user) for dag, _, conf, user in runs] == [
        ("small__nightly", {"night": night}, "Vera"),
        ("small__season", {}, "Vera"),
    ]
    assert runs[0][1].startswith(f"reprocess__{night}__")
    assert f"dags/small__season/runs/{runs[1][1].replace(':', '%3A').replace('+', '%2B')}" in text
    assert audit_log("small__nightly") == [
        ("trigger_dag_run", "Vera", runs[0][1], {"conf": {"night": night}})
    ]
    assert [entry[:3] for entry in audit_log()] == [
        ("restore_frame", "Vera", None),
        ("trigger_dag_run", "Vera", runs[1][1]),
    ]


@pytest.mark.usefixtures("known_dags")
def test_frames_that_are_solved_need_no_run_of_their_night(web, own_season):
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    client = web.client("user")
    for action, comment in (("eliminate", "x"), ("restore", "")):
        form = {"action": action, "comment": comment, "frame": frame_ids(own_season)[0], "reprocess": "true"}
        assert decide(client, "frames", **form).status_code == 303
    with create_session() as session:
        assert set(session.scalars(sa.select(DagRun.dag_id))) == {"small__season"}


def test_of_many_embedded_files_only_those_that_changed_are_read_again(web, own_season):
    from lightcurver_ops.airflow.pages import observatory
    from tests.airflow.conftest import know_dags

    know_dags("other__season", "other__nightly")
    other = copied(own_season, own_season.directory.parent / "other")
    other.configure(name="other")
    with sqlite3.connect(other.work / "database.sqlite3") as connection:
        connection.execute("update lenses set name = 'other'")
    (own_season.directory / "observatory.yaml").write_text(
        yaml.safe_dump({"name": "two", "lenses": [own_season.config_path.name, str(other.config_path)]})
    )
    client = web.client("viewer")
    assert got(client, "/lcops/observatory/").count("<tr data-failing") == 2
    files = [f"sqlite:///{one.work / 'database.sqlite3'}" for one in (own_season, other)]
    before = [observatory._kept[file] for file in files]
    got(client, "/lcops/observatory/")
    assert [observatory._kept[file] for file in files] == before
    lens = own_season.lens()
    with writing(lens.engine) as connection:
        run = ledger.begin_run(connection, "small", "psf_modeling", 1)
        ledger.end_run(connection, run, "failed", n_done=0, n_failed=1, message="no GPU", error=ValueError())
    # It is in the write-ahead log: the lens is open still.
    assert wait_for(lambda: "no GPU" in got(client, "/lcops/observatory/"), 30, 0.1)
    lens.close()
    after = [observatory._kept[file] for file in files]
    assert after[0] is not before[0]
    assert after[1] is before[1]

"""A real Airflow over a small observatory: nights come one by one, one late, one broken frame, one night without any.

One story in the order of the tests of this module: they share the running Airflow.
"""

import json
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from lightcurver_ops.airflow.local import wait_for
from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.simulation import faults
from lightcurver_ops.simulation.observatory import shifted
from lightcurver_ops.stages.base import Lens
from tests.planted import said_by_server, said_in_files
from tests.running_observatory import (
    PATIENCE_S,
    RunningObservatory,
    arrived_nights,
    has_imported,
    last_night,
    mjd_of,
    same_light_curve,
    scheduled_nights,
)
from tests.seasons import SMALL

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(2400)]

NIGHTS = 4
PLANTED = {
    name: f"planted-{number:012x}"
    for number, name in enumerate(
        ("of the mail server", "of the webhook", "of the store", "of the pages"), 0xC0FFEE
    )
}
IMPORT = "read_convert_skysub_character_catalog"


@pytest.fixture(scope="module")
def observatory(tmp_path_factory, mailbox, posts):
    season = replace(SMALL, n_nights=NIGHTS, exposures_per_night=2, night_gap_days=2.0)
    lenses = [
        shifted(replace(season, name=name, seed=seed), mjd_of(last_night()))
        for name, seed in (("alpha", 4), ("beta", 5))
    ]
    smtp = {"conn_type": "smtp", "host": "127.0.0.1", "port": mailbox.port, "login": "lcops",
            "password": PLANTED["of the mail server"], "extra": {"disable_ssl": True, "disable_tls": True}}  # fmt: skip
    directory = tmp_path_factory.mktemp("observatory")
    (directory / "webhook").write_text(f"{posts.url}?token={PLANTED['of the webhook']}\n")
    observatory = RunningObservatory(
        directory,
        lenses,
        settings={
            "watch": {"raw_roots": ["raw"], "poll_seconds": 1, "settle_seconds": 2, "gather_seconds": 2},
            # This morning's summary is sent when Airflow starts, the next one in half a day.
            "summary": {"time": (datetime.now(UTC) - timedelta(hours=12)).strftime("%H:%M")},
            "alerts": {
                "email": {"to": ["operator@example.org"], "sender": "lcops@example.org"},
                "webhook": {"url_file": "webhook"},
            },
            "airflow": {"retries": 2, "retry_delay_seconds": 2, "season_poll_seconds": 2},
            "pools": {"frames": 2, "plate_solving": 2},
        },
        operations={"frames_per_task": 1, "alert_after_nights_without_frames": 3},
        variables={
            "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(smtp),
            "AWS_SECRET_ACCESS_KEY": PLANTED["of the store"],
        },
    )
    # Every season run of beta takes longer than this.
    observatory.configure("beta", operations={"season_overdue_hours": 0.002})
    # What is there before the first run: the last night of alpha, and an old one of beta, which has none since.
    observatory.drop("alpha", 3)
    observatory.drop("beta", 0)
    time.sleep(2.5)
    observatory.airflow.prepare()
    observatory.airflow.start()
    try:
        observatory.airflow.wait_until_healthy()
        yield observatory
    finally:
        observatory.airflow.stop()
        assert observatory.airflow.running() == {}
        assert observatory.workers() == []


def test_nights_come_one_by_one(observatory, mailbox, posts, tmp_path):
    alpha, beta = ([observatory.night(lens, n) for n in range(NIGHTS)] for lens in ("alpha", "beta"))
    observatory.wait_for_runs(
        lambda runs: alpha[3] in scheduled_nights(runs, "alpha") and beta[0] in arrived_nights(runs, "beta")
    )
    observatory.drop("alpha", 0)
    observatory.drop("beta", 1)
    observatory.wait_for_runs(
        lambda runs: alpha[0] in arrived_nights(runs, "alpha") and beta[1] in arrived_nights(runs, "beta")
    )
    observatory.drop("alpha", 2)
    broken = observatory.directory / "raw" / "beta" / "broken.fits"
    faults.truncated(observatory.frames("beta", 2)[0], broken)
    observatory.drop("beta", 2)
    observatory.wait_for_runs(
        lambda runs: alpha[2] in arrived_nights(runs, "alpha") and beta[2] in arrived_nights(runs, "beta")
    )
    observatory.drop("alpha", 1)  # late: the nights after it were done long ago
    runs = observatory.wait_for_runs(lambda runs: alpha[1] in arrived_nights(runs, "alpha"))

    assert {run["state"] for run in runs} == {"success"}
    for lens in ("alpha", "beta"):
        seasons = [run for run in runs if run["dag_id"] == f"{lens}__season"]
        assert any(observatory.states(run)["model_calibrated_cutouts"] == ["success"] for run in seasons)
        same_light_curve(observatory.light_curve(lens), observatory.by_hand(lens, tmp_path))
    assert len(observatory.light_curve("alpha")["mjd"]) == 2 * NIGHTS
    assert len(observatory.light_curve("beta")["mjd"]) == 2 * (NIGHTS - 1)

    # Two frames, a frame a task: mapped over two chunks.
    (late,) = (
        run
        for run in runs
        if run["dag_id"] == "alpha__nightly" and run["dag_run_id"].startswith(f"late__{alpha[1]}")
    )
    states = observatory.states(late)
    assert states["plate_solving"] == ["success", "success"]
    assert states["psf_modeling"] == ["success"]

    # Its log has one summary, for people.
    path = f"/dags/alpha__nightly/dagRuns/{late['dag_run_id']}/taskInstances/plate_solving/logs/1"
    text = observatory.api.get(path, params={"map_index": 0}).text
    assert "plate_solving: 1 of 1 done" in text

    # The night without frames is a skip.
    scheduled = [run for run in runs if run["dag_id"] == "beta__nightly" and run["run_type"] == "scheduled"]
    states = observatory.states(scheduled[0])
    assert states.pop("look_for_frames") == ["success"]
    assert {state for each in states.values() for state in each} == {"skipped"}

    # The broken frame is quarantined, with the reason.
    lens = Lens(observatory.config("beta"))
    with reading(lens.engine) as connection:
        products = ledger.products_of(connection, "beta", IMPORT)
    lens.close()
    assert products[str(broken)].status == "quarantined"
    assert "truncated or corrupt" in products[str(broken)].reason

    # Exactly these alerts, once each, on both channels.
    overdue = {run["dag_run_id"] for run in runs if run["dag_id"] == "beta__season"}
    expected = {"no_frames": 1, "morning_summary": 1, "season_overdue": len(overdue)}
    assert wait_for(lambda: Counter(body["kind"] for body in posts.bodies) == expected, 60), posts.bodies
    assert {body["what"].split()[2] for body in posts.of_kind("season_overdue")} == overdue
    (no_frames,) = posts.of_kind("no_frames")
    assert no_frames["lens"] == "beta"
    assert no_frames["night"] == beta[3]
    assert "No raw frame for 6 nights" in no_frames["text"]
    assert no_frames["link"].startswith(observatory.airflow.url)
    assert sorted(mailbox.subjects) == sorted(body["subject"] for body in posts.bodies)
    (mail,) = (one for one in mailbox.messages if "no frames" in str(one["Subject"]))
    assert mail["To"] == "operator@example.org"
    assert "What to do:" in mail.get_body(("html",)).get_content()


def test_the_pages_of_a_lens_are_for_those_who_may_read_it(observatory):
    url = f"{observatory.airflow.url}/lcops"
    token = {"Authorization": observatory.api.headers["Authorization"]}
    name = "alpha_r_photometry_per_epoch.csv"
    for dag in ("alpha__nightly", "alpha__season"):
        page = httpx.get(f"{url}/lens/{dag}/", headers=token, timeout=60)
        assert page.status_code == 200, page.text
        assert f'href="files/{name}"' in page.text
        frames = httpx.get(f"{url}/lens/{dag}/frames/", headers=token, timeout=60).text
        assert "8 used, 0 not" in frames
        assert "http://" not in page.text + frames
        assert "https://" not in page.text + frames
    table = httpx.get(f"{url}/lens/alpha__season/files/{name}", headers=token)
    assert table.content == (observatory.config("alpha").workdir / "prepared_roi_cutouts" / name).read_bytes()
    beta = httpx.get(f"{url}/lens/beta__season/state/", headers=token, timeout=60).text
    assert "beta: no frames (night" in beta
    broken = httpx.get(f"{url}/lens/beta__season/frames/", headers=token, timeout=60).text
    assert "truncated or corrupt" in broken

    # Nobody else's files, and nothing for strangers.
    strange = (
        "files/database.sqlite3",
        "files/..%2F..%2Fdatabase.sqlite3",
        "files/beta_r_photometry_per_epoch.csv",
    )
    for path in (*(f"alpha__season/{each}" for each in strange), "lcops_arrivals/", "nobody__season/"):
        assert httpx.get(f"{url}/lens/{path}", headers=token).status_code == 404, path
    for path in (
        "observatory/",
        "lens/alpha__season/",
        f"lens/alpha__season/files/{name}",
        "static/pages.js",
    ):
        assert httpx.get(f"{url}/{path}").status_code == 401
    for path in ("/docs", "/openapi.json", "/redoc"):
        assert httpx.get(f"{url}{path}").status_code in (401, 404)


def test_a_killed_scheduler_and_a_killed_task_change_nothing(observatory):
    before, modelled = observatory.light_curve("alpha"), observatory.modelled("alpha")
    version = observatory.version("alpha")
    observatory.reprocess("alpha", from_stage=IMPORT, redo="true")

    assert has_imported(
        observatory.airflow.running()["scheduler"], "shapely"
    )  # what tasks need, before they fork
    assert wait_for(lambda: observatory.workers("psf_modeling"), PATIENCE_S, 0.05)
    for pid in observatory.workers("psf_modeling"):
        os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: observatory.workers("star_photometry"), PATIENCE_S, 0.05)
    observatory.airflow.kill("scheduler")
    assert wait_for(lambda: not observatory.workers(), 30)  # its tasks go with it, their work with them
    observatory.airflow.start("scheduler")

    runs = observatory.wait_for_runs(lambda _runs: observatory.modelled("alpha") not in (None, modelled))
    again = [run for run in runs if run["dag_run_id"].startswith("reprocess__")]
    assert len([run for run in again if run["dag_id"] == "alpha__nightly"]) == NIGHTS
    assert {run["state"] for run in again} == {"success"}
    assert max(task["try_number"] for run in again for task in observatory.tasks(run)) > 1
    same_light_curve(observatory.light_curve("alpha"), before)
    assert (
        observatory.version("alpha") - version <= 1
    )  # none where the results are the same to the last digits


def test_a_missed_quality_gate_fails_at_once_with_one_alert(observatory, mailbox, posts):
    heard = len(posts.bodies), len(mailbox.messages)
    observatory.configure("beta", plate_solving={"min_success_fraction": 1.0})
    time.sleep(1)
    for number, source in enumerate(observatory.frames("beta", 3)):
        faults.other_field(source, observatory.directory / "raw" / "beta" / f"elsewhere_{number}.fits")
    night = observatory.night("beta", 3)
    runs = observatory.wait_for_runs(lambda runs: night in arrived_nights(runs, "beta", "failed"))

    (failed,) = (run for run in runs if run["state"] == "failed")
    states = observatory.states(failed)
    assert states[IMPORT] == ["success", "success"]
    assert "failed" in states["plate_solving"] + states["query_gaia_for_stars"]
    assert max(task["try_number"] for task in observatory.tasks(failed)) == 1
    assert wait_for(lambda: len(mailbox.messages) > heard[1], 60)
    time.sleep(10)  # a second message, of the DAG's own callback, would have come by now
    new = posts.bodies[heard[0] :]
    assert [body["kind"] for body in new] == ["quality_gate"]
    assert len(mailbox.messages) - heard[1] == len(new)
    assert new[0]["lens"] == "beta"
    assert new[0]["night"] == night
    assert "min_success_fraction" in new[0]["what"]


def test_a_new_lens_comes_and_a_broken_one_spoils_no_other(observatory):
    lenses = observatory.directory / "lenses"
    text = (lenses / "alpha.yaml").read_text()
    (lenses / "gamma.yaml").write_text(text.replace("name: alpha", "name: gamma"))
    (lenses / "broken.yaml").write_text("name: broken\nroii: {ra: 1}\n")

    def known() -> set[str]:
        return {dag["dag_id"] for dag in observatory.api.get("/dags", params={"limit": 100}).json()["dags"]}

    def errors() -> list[dict]:
        return observatory.api.get("/importErrors").json()["import_errors"]

    assert wait_for(lambda: {"gamma__nightly", "gamma__season"} <= known() and errors(), 120, 2)
    assert [error["filename"] for error in errors()] == ["lightcurver_ops_broken_lenses.py"]
    message = errors()[0]["stack_trace"]
    assert "unknown key 'roii'; did you mean 'roi'?" in message
    assert f"{lenses / 'broken.yaml'}, line 2" in message
    (lenses / "broken.yaml").unlink()
    assert wait_for(lambda: not errors(), 120, 2)
    assert {"alpha__nightly", "beta__nightly", "gamma__nightly"} <= known()


def test_no_password_is_found_in_any_file_row_log_or_page(observatory, mailbox, posts):
    """After all that has happened here, with a lens whose pages cannot read their database on top."""
    home, url = observatory.airflow.home, observatory.airflow.url
    assert mailbox.passwords == {PLANTED["of the mail server"]}
    assert posts.bodies
    gamma = observatory.directory / "lenses" / "gamma.yaml"
    password = PLANTED["of the pages"]
    gamma.write_text(
        gamma.read_text() + f"database_read_only: postgresql+psycopg://pages:{password}@127.0.0.1:9/x\n"
    )
    secrets = {
        **PLANTED,
        "of the admin": observatory.airflow.password(),
        **json.loads((home / "keys.json").read_text()),
    }
    lenses = [
        f"{url}/lcops/lens/{lens}__{kind}/"
        for lens in ("alpha", "beta", "gamma")
        for kind in ("season", "nightly")
    ]
    said, read = said_by_server(
        secrets, observatory.api, [f"{url}/lcops/observatory/", *lenses], observatory.runs
    )
    assert said == []
    for part in (
        "/alpha__season/frames/1/",
        "/curve.json",
        "/stars.json",
        "/state/",
        "/logs/1",
        "importErrors",
    ):
        assert any(part in address for address in read), (part, sorted(read))
    own = [home / "keys.json", home / "simple_auth_manager_passwords.json.generated"]
    assert (
        said_in_files(secrets, [observatory.directory], but=[*own, observatory.directory / "webhook", gamma])
        == []
    )

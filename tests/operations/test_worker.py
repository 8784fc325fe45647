"""The worker as its callers start it: a request on standard input, an answer in a file, a log on standard error."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.operations import worker
from lightcurver_ops.operations.arrivals import notice_raw_files
from lightcurver_ops.simulation import faults
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.pipeline import STAGE_NAMES
from lightcurver_ops.storage.tables import read_table

READY = {"settle_seconds": 0}
COMMAND = [sys.executable, "-m", "lightcurver_ops.operations.worker"]
IMPORT, SOLVE, _, STARS, STAMPS, PSF, PHOTOMETRY, *JOINT = STAGE_NAMES[1:]
PER_EPOCH = "prepared_roi_cutouts/small_r_photometry_per_epoch.csv"


@dataclass(frozen=True)
class Outcome:
    """What became of a request."""

    status: int
    log: str
    answer: Any
    """None: there is no file."""


@pytest.fixture
def ask(tmp_path):
    """Sends a request to a worker of its own."""

    def send(action: str, **request: Any) -> Outcome:
        path = tmp_path / "answers" / "answer.json"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        content = {"action": action, "parent": os.getpid(), "answer": str(path), **request}
        done = subprocess.run(COMMAND, input=json.dumps(content), capture_output=True, text=True, check=False)
        assert done.stdout == ""
        assert [one for one in path.parent.iterdir() if one != path] == []
        return Outcome(done.returncode, done.stderr, json.loads(path.read_text()) if path.exists() else None)

    return send


@pytest.fixture
def do():
    """Does what a request asks for in this process: what it costs to start one is paid by few tests."""

    def work(action: str, **request: Any) -> Any:
        return worker.work({"action": action, **request})

    return work


def test_a_night_from_its_first_look_to_its_plate_solutions(season, ask, do):
    config = {"config": str(season.config_path)}
    stages = [IMPORT, SOLVE]
    season.configure(operations={"frames_per_task": 1})
    looked = ask("look_at_arrivals", **config, watch=READY)
    assert (looked.status, sorted(looked.answer)) == (0, ["nights"])
    assert len(looked.answer["nights"]) == 3
    assert "INFO small: 6 raw files, 6 new or changed" in looked.log
    night = min(looked.answer["nights"])
    look = do("look_at_night", **config, night=night, stages=stages, watch=READY)
    assert {key: look[key] for key in ("night", "frames", "waits", "last_night")} == {
        "night": night, "frames": 2, "waits": True, "last_night": night,
    }  # fmt: skip
    assert [len(chunk) for chunk in look["chunks"]] == [1, 1]
    (one,), (other,) = look["chunks"]
    first = ask("stage", **config, stage=IMPORT, raw_ids=[one], in_parts=True)
    assert first.answer == {
        "summary": "1 of 1 done", "selected": 1, "done": 1, "quarantined": 0, "failed": 0, "first_failure": None,
    }  # fmt: skip
    assert f"INFO {IMPORT}: 1 of 1 done" in first.log
    again = ask("stage", **config, stage=IMPORT, raw_ids=[one], in_parts=True)
    assert again.status == 0
    assert again.answer == {
        "error": {"class": "NothingToDo", "message": f"small: {IMPORT}: everything is up to date"}
    }
    assert do("stage", **config, stage=IMPORT, raw_ids=[one, other])["done"] == 1
    assert do("stage", **config, stage=SOLVE, raw_ids=[one, other])["done"] == 2
    look = do("look_at_night", **config, night=night, stages=stages, watch=READY)
    assert (look["waits"], look["chunks"]) == (False, [])
    assert do("look_at_season", **config, first=JOINT[0]) == {"waits": False}


def test_reasons_are_in_the_log_a_few_of_many(season, do, caplog):
    for number in range(worker.REASONS_SHOWN + 2):
        (season.directory / "raw" / f"x{number:02d}.fits").write_text("no FITS file")
    done = do("stage", config=str(season.config_path), stage=IMPORT)
    assert (done["done"], done["quarantined"]) == (6, worker.REASONS_SHOWN + 2)
    said = [
        record.getMessage() for record in caplog.records if record.name == "lightcurver_ops.operations.worker"
    ]
    assert sum(line.startswith("quarantined: ") for line in said) == worker.REASONS_SHOWN
    assert said[-1] == "and 2 more quarantined"


def test_a_quality_gate_with_its_numbers(season, ask, do):
    for path in season.raw[1:]:
        path.unlink()
    faults.other_field(season.raw[0], season.directory / "raw" / "elsewhere.fits")
    config = {"config": str(season.config_path)}
    assert do("stage", **config, stage=IMPORT)["done"] == 2
    part = do("stage", **config, stage=SOLVE, in_parts=True)
    assert (part["done"], part["quarantined"]) == (1, 1)  # its gate is for after the last part
    outcome = ask("look_at_season", **config, first=JOINT[0], gates=[SOLVE])
    assert outcome.status == 0
    gates = [do("stage", **config, stage=SOLVE), do("stage", **config, stage=STARS, gates=[SOLVE])]
    for gate in (outcome.answer, *gates):
        assert gate["error"]["class"] == "QualityGate"
        assert gate["error"]["measured"] == {"solved": 1, "attempted": 2}
        assert "only 1 of 2 frames are plate solved" in gate["error"]["message"]


def test_a_night_of_which_no_frame_can_be_imported_is_a_missed_gate_of_that_night(season, do):
    config = {"config": str(season.config_path)}
    for path in season.raw[-2:]:
        faults.without_exposure_time(path, path)
    good, _, bad = sorted(do("look_at_arrivals", **config, watch=READY)["nights"])
    ids = {
        night: do("look_at_night", **config, night=night, stages=[IMPORT], watch=READY)["chunks"]
        for night in (good, bad)
    }
    (night,) = ids[bad]
    in_parts = [do("stage", **config, stage=IMPORT, raw_ids=[one], in_parts=True) for one in night]
    assert [part["quarantined"] for part in in_parts] == [1, 1]
    after = do("stage", **config, stage=STAMPS, raw_ids=night, gates=[IMPORT])["error"]
    again = do("stage", **config, stage=IMPORT, raw_ids=night)["error"]
    for error in (after, again):
        assert error["class"] == "QualityGate"
        assert error["message"].startswith("small: no raw frame could be imported (2 tried); 2 of them: ")
        assert "EXPTIME" in error["measured"]["reason"]
    # The lens's other nights go on.
    assert do("stage", **config, stage=IMPORT, raw_ids=ids[good][0])["done"] == 2
    assert do("stage", **config, stage=SOLVE, raw_ids=ids[good][0], gates=[IMPORT])["done"] == 2


def test_a_quality_gate_whose_numbers_come_from_arrays(season, do):
    season.configure(stars={"min_gmag": 17.0, "max_gmag": 17.2, "min_number_stars": 12})
    config = {"config": str(season.config_path)}
    for stage in (IMPORT, SOLVE):
        do("stage", **config, stage=stage)
    error = json.loads(json.dumps(do("stage", **config, stage=STARS)))["error"]
    assert error["class"] == "QualityGate"
    assert 0 <= error["measured"]["n_stars"] < 12
    assert error["measured"]["removed_by_min_gmag"] > 0


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"stage": "psf_modelling"}, "there is no stage 'psf_modelling'; did you mean 'psf_modeling'?"),
        ({"stage": IMPORT, "gates": ["nothing"]}, "there is no stage 'nothing'"),
        ({"stage": IMPORT, "config": "none.yaml"}, "there is no such configuration file"),
        ({"stage": IMPORT}, "no file matches '*.fit*'"),
    ],
)  # fmt: skip
def test_errors_that_a_user_can_cure(site, ask, request_, message):
    outcome = ask("stage", **{"config": str(site.lens_file()), **request_})
    assert outcome.status == 0
    assert outcome.answer["error"]["class"] == "ConfigurationError"
    assert message in outcome.answer["error"]["message"]
    assert outcome.answer["error"]["measured"] == {}


def test_a_decision(season_copy, do):
    season = season_copy()
    for path in season.raw:
        os.utime(path, (1e9, 1e9))
    wanted = {"from_stage": PSF, "redo": True, "exclude_frames": ["1"], "comment": "trail"}
    answer = do("decide", config=str(season.config_path), reprocessing=wanted, by="ada")
    assert len(answer["nights"]) == 3
    refused = do("decide", config=str(season.config_path), reprocessing={**wanted, "comment": ""}, by="ada")
    assert refused["error"]["class"] == "ConfigurationError"
    assert refused["error"]["message"].startswith("comment: say why")


def test_an_action_that_there_is_not_leaves_no_answer(site, ask):
    outcome = ask("dance", config=str(site.lens_file()))
    assert outcome.status != 0
    assert outcome.answer is None
    assert "there is no action 'dance'; there are stage, look_at_night" in outcome.log


def test_what_stops_one_lens_does_not_stop_the_others(site, ask):
    files = {name: site.lens_file(name) for name in ("a", "b", "c", "d")}
    files["a"].write_text("name: [\n")
    (site.directory / "work/b").mkdir(parents=True)
    (site.directory / "work/b/database.sqlite3").write_bytes(b"no database " * 1000)
    files["e"] = site.directory / "lenses/e.yaml"
    (site.directory / "raw/c").rmdir()
    site.frame("d/1.fits")
    outcome = ask("look_at_arrivals", configs=[str(path) for path in files.values()], watch=READY)
    assert outcome.status == 0
    a, b, c, d, e = outcome.answer["lenses"]
    assert "this is not valid YAML" in a["error"]["message"]
    assert f"{files['b']}: " in b["error"]["message"]
    assert "file is not a database" in b["error"]["message"]
    assert "is not a directory" in c["error"]["message"]
    assert list(d["nights"]) == ["2026-03-09"]
    assert "there is no such configuration file" in e["error"]["message"]


def test_a_request_for_no_lens(ask):
    assert ask("summarize", configs=[], sigma=5).answer == {"lenses": []}


SECRETS = {
    "server that is not there": ("postgresql://lcops:geheim@127.0.0.1:1/none", "TemporaryFailure"),
    "driver that is not there": ("nosuch://lcops:geheim@127.0.0.1/none", "ConfigurationError"),
    "port that is no number": ("postgresql://lcops:x@127.0.0.1:geheim/none", "ConfigurationError"),
    "no host": ("postgresql://lcops:geheim#1:5432/none", "ConfigurationError"),
    "no URL": ("geheim", "ConfigurationError"),
}


@pytest.mark.parametrize(
    ("kind", "where"), [*((kind, "lens") for kind in SECRETS), ("server that is not there", "request")]
)
def test_a_password_is_neither_in_the_log_nor_in_the_answer(site, ask, kind, where):
    url, error = SECRETS[kind]
    path = site.lens_file(**({"database": url} if where == "lens" else {}))
    outcome = ask("stage", config=str(path), stage=IMPORT, database=url if where == "request" else None)
    assert outcome.answer["error"]["class"] == error
    assert "geheim" not in json.dumps(outcome.answer)
    assert "geheim" not in outcome.log


def test_the_bookkeeping_of_the_request_is_for_lenses_that_name_none(site, do):
    elsewhere, own = site.directory / "elsewhere.sqlite3", site.directory / "own.sqlite3"
    request = {
        "night": "2026-03-09",
        "stages": [IMPORT],
        "watch": READY,
        "database": f"sqlite:///{elsewhere}",
    }
    site.frame("demo/a.fits")
    path = site.lens_file(database=f"sqlite:///{own}")
    assert do("look_at_night", config=str(path), **request)["frames"] == 1
    assert (own.exists(), elsewhere.exists()) == (True, False)
    path = site.lens_file()
    assert do("look_at_night", config=str(path), **request)["frames"] == 1
    assert elsewhere.exists()
    assert not (site.directory / "work/demo/database.sqlite3").exists()


# Its life


PARENT = """
import json, os, subprocess, sys, time
request = json.loads(sys.argv[1])
child = subprocess.Popen({command!r}, stdin=subprocess.PIPE, start_new_session=True)
child.stdin.write(json.dumps(dict(request, parent=os.getpid())).encode())
child.stdin.close()
print(child.pid, flush=True)
time.sleep(600)
"""


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def has_open(pid: int, path: Path) -> bool:
    try:
        return any(os.path.realpath(link) == str(path) for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the worker dies with its parent on Linux only")
def test_it_dies_with_its_parent(site):
    lens = Lens(site.config())
    ensure_initialized(lens)
    lens.close()
    database = (site.directory / "work/demo/database.sqlite3").resolve()
    site.frame("demo/a.fits")
    # The worker waits for a lock that it will not get: at work, and never done by itself within this test.
    lock = sqlite3.connect(database, isolation_level=None)
    lock.execute("begin immediate")
    request = {"action": "look_at_arrivals", "config": str(site.directory / "lenses/demo.yaml"), "watch": READY,
               "answer": str(site.directory / "answer.json")}  # fmt: skip
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(command=COMMAND), json.dumps(request)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    try:
        deadline = time.monotonic() + 50
        while not has_open(pid, database) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert runs(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        while runs(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not runs(pid)
    finally:
        parent.kill()
        parent.communicate()
        if runs(pid):
            os.kill(pid, signal.SIGKILL)
        lock.close()
    assert not (site.directory / "answer.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the worker dies with its parent on Linux only")
def test_it_does_not_begin_where_its_parent_is_gone_already(site, ask):
    site.frame("demo/a.fits")
    outcome = ask("look_at_arrivals", config=str(site.lens_file()), watch=READY, parent=1)
    assert (outcome.status, outcome.answer) == (1, None)
    assert not (site.directory / "work").exists()


# The light curve


@pytest.mark.end_to_end
def test_night_by_night_the_same_light_curve_as_in_one_go(season, reduced_season):
    season.configure(operations={"frames_per_task": 1})
    lens = season.lens()
    ensure_initialized(lens)
    frames = {path: path.read_bytes() for path in season.raw}
    for path in frames:
        path.unlink()
    nights = sorted({path.stem.split("_")[2] for path in frames})
    stages = [IMPORT, SOLVE, STARS, STAMPS, PSF, PHOTOMETRY]
    for name in nights:
        for path, content in frames.items():
            if name in path.stem:
                path.write_bytes(content)
        notice_raw_files(lens, Watch(**READY))
        (night,) = worker.look_at_arrivals(lens, {"watch": READY})["nights"]
        look = worker.look_at_night(lens, {"night": night, "stages": stages, "watch": READY})
        assert (look["frames"], look["waits"]) == (2, True)
        for stage in stages:
            if stage == STARS:
                ids = [number for chunk in look["chunks"] for number in chunk]
                worker.run_stage(lens, {"stage": stage, "raw_ids": ids, "gates": [SOLVE]})
                continue
            for chunk in look["chunks"]:
                done = worker.run_stage(lens, {"stage": stage, "raw_ids": chunk, "in_parts": True})
                assert (done["done"], done["failed"], done["quarantined"]) == (1, 0, 0)
        assert worker.look_at_season(lens, {"first": JOINT[0]}) == {"waits": True}
    for stage in JOINT:
        worker.run_stage(lens, {"stage": stage})
    assert worker.look_at_season(lens, {"first": JOINT[0]}) == {"waits": False}
    lens.close()
    mine, theirs = read_table(season.work / PER_EPOCH), read_table(reduced_season.work / PER_EPOCH)
    assert list(mine) == list(theirs)
    for column in mine.keys() - {"frame_id"}:
        np.testing.assert_allclose(mine[column], theirs[column], rtol=1e-6, err_msg=column)

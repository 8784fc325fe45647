"""`lcops run` and `lcops status`, from the first raw frame to the light curve."""

import signal
import subprocess
import sys
import time

import pytest

from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.simulation import faults
from lightcurver_ops.stages.pipeline import STAGE_NAMES

IMPORT, SOLVE = STAGE_NAMES[1:3]


def states(result):
    """stage: done, stale, missing, quarantined, failed, last run."""
    rows = [
        line.split() for line in result.out.splitlines() if line.split()[:1] and line.split()[0].isdigit()
    ]
    return {row[1]: (*map(int, row[2:7]), row[7]) for row in rows}


def with_header_parser(season, body):
    parser = season.directory / "parse_header.py"
    parser.write_text(f"import os\n\ndef parse_header(header):\n    {body}\n")
    season.configure(raw={"header_parser": str(parser)})
    return season.config_path


def test_a_quarantined_frame_is_told_and_the_others_go_on(lcops, season):
    broken = season.directory / "raw" / "truncated.fits"
    faults.truncated(season.raw[1], broken)
    result = lcops("run", season.config_path, "--to", SOLVE)
    assert result.code == 0
    assert f"{IMPORT}: 6 of 7 done, 1 quarantined\n{SOLVE}: 6 of 6 done\n" in result.out
    (told,) = result.err.splitlines()  # and no progress bar
    assert told.startswith(f"  quarantined: {broken}: truncated")
    again = lcops("run", season.config_path, "--to", SOLVE)
    assert (again.code, again.out, again.err) == (0, "small: everything is up to date\n", "")
    status = lcops("status", season.config_path)
    assert states(status)[IMPORT] == (6, 0, 0, 1, 0, "done")
    assert f"\n{IMPORT}:\n  {broken}: truncated" in status.out


def test_a_run_of_which_no_frame_can_be_imported_fails_with_the_commonest_reason(lcops, season):
    for path in season.raw[1:4]:
        faults.not_fits(path, path.with_name(f"bad_{path.name}"))
    faults.truncated(season.raw[0], season.raw[0].with_name("bad_truncated.fits"))
    for path in season.raw:
        path.unlink()
    result = lcops("run", season.configure(raw={"files_match_pattern": "bad_*.fits"}))
    assert result.code == 3
    assert "small: no raw frame could be imported (4 tried); 3 of them: not a FITS file" in result.err
    assert result.out == ""
    again = lcops("run", season.config_path)
    assert (again.code, "no raw frame could be imported" in again.err) == (3, True)


def test_many_reasons_are_cut_short_and_say_where_the_rest_is(lcops, season):
    for number in range(7):
        faults.not_fits(season.raw[0], season.directory / "raw" / f"bad_{number}.fits")
    result = lcops("run", season.config_path, "--to", IMPORT)
    assert result.err.count("  quarantined: ") == 5
    assert f"and 2 more quarantined: see `lcops status {season.config_path}`" in result.err
    assert "and 4 more (--reasons 7 shows all)" in lcops("status", season.config_path).out
    shown = lcops("status", season.config_path, "--reasons", 7).out
    assert all(f"bad_{number}.fits" in shown for number in range(7))
    assert "bad_" not in lcops("status", season.config_path, "--reasons", 0).out


def test_only_what_is_asked_for_is_run(lcops, season):
    config, name = season.config_path, season.raw[2].name
    assert f"{IMPORT}: 1 of 1 done" in lcops("run", config, "--to", 1, "--frames", name).out
    assert lcops("run", config, "--to", "read", "--frames", "*_001.fits").out.startswith(
        f"{IMPORT}: 2 of 2 done"
    )
    assert lcops("run", config, "--from", SOLVE, "--to", "plate").out == f"{SOLVE}: 3 of 3 done\n"
    assert (
        lcops("run", config, "--to", 2, "--redo", "plate").out
        == f"{IMPORT}: 3 of 3 done\n{SOLVE}: 6 of 6 done\n"
    )
    assert lcops("run", config, "--to", 2, "--redo", 2, "--frames", name).out == f"{SOLVE}: 1 of 1 done\n"


def test_what_each_stage_cost_is_shown_and_kept(lcops, season):
    out = lcops("run", season.config_path, "--to", 2, "--timings").out
    header, *rows = out[out.index("stage ") :].splitlines()
    assert header.split() == ["stage", "units", "seconds", "cpu", "seconds", "peak", "MiB", "units/s"]
    assert [row.split()[0] for row in rows[:3]] == [IMPORT, SOLVE, "all"]
    shown = {row.split()[0]: [float(number) for number in row.split()[1:]] for row in rows[:2]}
    lens = season.lens()
    with reading(lens.engine) as connection:
        for stage, (units, seconds, cpu_seconds, peak, rate) in shown.items():
            kept = ledger.last_run(connection, lens.name, stage)
            assert units == 6
            assert seconds == pytest.approx((kept.finished_at - kept.started_at).total_seconds(), abs=1.0)
            assert (cpu_seconds, peak) == (
                pytest.approx(kept.cpu_seconds, abs=0.06),
                pytest.approx(kept.peak_mib, abs=0.6),
            )
            assert peak > 50
            assert rate == pytest.approx(6 / seconds, rel=0.2)
    lens.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "psf_modelling"], "did you mean 'psf_modeling'?"),
        (["--to", "12"], "11 model_calibrated_cutouts"),
        (["--redo", "stamps"], "did you mean 'stamp_extraction'?"),
        (["--from", "5", "--to", "3"], "nothing would run"),
        (["--from", "5", "--redo", "3"], "lies outside"),
        (["--frames", "nosuch*"], "no frame or raw file matches --frames nosuch*"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(lcops, season, arguments, message):
    result = lcops("run", season.config_path, *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not (season.work / "frames").exists()


def test_quiet_is_quiet(lcops, season):
    faults.not_fits(season.raw[0], season.directory / "raw" / "bad.fits")
    result = lcops("run", "--quiet", season.config_path, "--to", IMPORT)
    assert (result.code, result.out) == (0, "")
    assert len(result.err.splitlines()) == 1
    again = lcops("run", "-q", season.config_path, "--to", IMPORT)
    assert (again.code, again.out, again.err) == (0, "", "")


def test_bars_are_drawn_on_a_terminal_and_stay_out_of_a_log_file(lcops, season, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    result = lcops("run", season.config_path, "--to", SOLVE, errors_to_terminal=True)  # lcops run ... > log
    assert result.out == f"{IMPORT}: 6 of 6 done\n{SOLVE}: 6 of 6 done\n"
    assert "0/6" in result.err
    assert "━" in result.err
    quiet = lcops("run", "-q", season.config_path, "--to", SOLVE, "--redo", 1, errors_to_terminal=True)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_verbose_logs_every_unit(lcops, season):
    result = lcops("-v", "run", season.config_path, "--to", IMPORT)
    logged = [line for line in result.err.splitlines() if line.startswith("INFO ")]
    for path in season.raw:
        assert any(str(path) in line for line in logged)


def test_a_missed_limit_is_3_and_status_says_why(lcops, season_copy):
    season = season_copy()
    season.configure(stars={"min_number_stars": 500})
    result = lcops("run", season.config_path)
    assert result.code == 3
    assert "too few reference stars" in result.err
    assert "Traceback" not in result.err
    status = lcops("status", season.config_path)
    assert status.code == 0
    assert states(status)["query_gaia_for_stars"][-1] == "failed"
    assert "query_gaia_for_stars failed: " in status.out
    assert "min_number_stars asks for 500" in status.out


def test_a_database_that_does_not_answer_is_4(lcops, season):
    season.configure(database="postgresql+psycopg://nobody@127.0.0.1:1/none")
    result = lcops("run", season.config_path)
    assert result.code == 4
    assert "does not answer" in result.err


def test_a_crash_on_one_frame_is_5_and_tried_again_by_the_next_run(lcops, season):
    season.configure(compute={"processes": 2})
    fields = "{'mjd': 60281.2, 'gain': header['GAIN'], 'exptime': header['EXPTIME'], 'filter': 'r'}"
    config = with_header_parser(season, f"return {fields} if 'UNKNOWN' in header else os._exit(1)")
    arguments = (
        "run",
        config,
        "--to",
        IMPORT,
        "--frames",
        season.raw[0].name,
        "--frames",
        season.raw[1].name,
    )
    result = lcops(*arguments)
    assert result.code == 5
    assert f"{IMPORT}: 0 of 2 done, 2 failed" in result.out
    assert result.err.count("died twice") == 2
    assert "2 failed without a known reason; the next run tries again" in result.err
    assert states(lcops("status", config))[IMPORT][4] == 2
    with_header_parser(season, f"return {fields}")
    season.configure(compute={"processes": 1})
    assert lcops(*arguments).code == 0


def test_an_interrupt_is_130_and_the_next_run_completes_the_work(lcops, season):
    config = with_header_parser(season, "raise KeyboardInterrupt")
    result = lcops("run", config)
    assert result.code == 130
    assert result.err == "lcops: interrupted; run again to go on from here\n"
    status = lcops("status", config)
    assert states(status)[IMPORT][-1] == "interrupted"
    assert f"{IMPORT} interrupted" in status.out


def test_control_c_on_the_real_program(season):
    marker = season.directory / "started"
    config = with_header_parser(season, f"open({str(marker)!r}, 'w'); import time; time.sleep(600)")
    # A test run in the background of a shell has SIGINT ignored, and children inherit that.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from lightcurver_ops.cli import main; main()"
    program = subprocess.Popen(
        [sys.executable, "-c", code, "run", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not marker.exists() and program.poll() is None:
            time.sleep(0.05)
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=30)
    finally:
        program.kill()
    assert program.returncode == 130, err
    assert err == "lcops: interrupted; run again to go on from here\n"


def test_a_full_run_says_where_the_light_curves_are(lcops, season_copy):
    season = season_copy()
    result = lcops("run", season.config_path)
    assert result.code == 0
    assert f"light curves: {season.work / 'prepared_roi_cutouts'}" in result.out
    assert f"`lcops lightcurve {season.config_path}`" in result.out
    assert all(
        row[:5] == (row[0], 0, 0, 0, 0) for row in states(lcops("status", season.config_path)).values()
    )


def test_status_before_any_run(lcops, season):
    fresh = states(lcops("status", season.config_path))
    assert list(fresh) == list(STAGE_NAMES)
    assert fresh[IMPORT] == (0, 0, 6, 0, 0, "never")


def test_status_shows_what_a_changed_key_made_stale(lcops, season_copy):
    season = season_copy()
    lcops("run", season.config_path, "--to", IMPORT)
    season.configure(zero_points={"photometric_band": "G"})
    after = states(lcops("status", season.config_path))
    stale = [stage for stage, row in after.items() if row[1]]
    assert stale == [
        "calculate_absolute_zeropoints",
        "prepare_calibrated_cutouts",
        "model_calibrated_cutouts",
    ]

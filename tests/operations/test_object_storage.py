"""New objects in S3 storage are noticed, given to their nights and imported as new files are."""

import shutil

import boto3
import pytest
import yaml
from astropy.io import fits

from lightcurver_ops.bookkeeping import frames
from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.operations import watching
from lightcurver_ops.operations.arrivals import nights_waiting, notice_raw_files
from lightcurver_ops.operations.observatory import open_observatory
from lightcurver_ops.operations.watching import ObservatoryWatch, RawWatch
from lightcurver_ops.stages.astrometry_index import frame_shape
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.pipeline import run_pipeline

READY = Watch(settle_seconds=1e9)
"""Objects are whole when they appear, however young they are."""


@pytest.fixture
def lens_at(site, s3):
    """Makes a lens whose raw frames are in the store, with an empty bookkeeping."""
    opened = []

    def make(name="demo", endpoint=None, directory="lens"):
        raw = {"raw_dirs": [s3.url(directory)], "s3_endpoint_url": endpoint or s3.endpoint}
        lens = Lens(site.config(name, raw=raw))
        ensure_initialized(lens)
        opened.append(lens)
        return lens

    yield make
    for lens in opened:
        lens.close()


def rows_of(lens):
    with reading(lens.engine) as connection:
        return raw_rows.known_raw_files(connection, lens.name)


def test_new_and_overwritten_objects_are_announced(site, s3, lens_at):
    content = site.frame("elsewhere/a.fits").read_bytes()
    lens = lens_at()
    watch = RawWatch(s3.url(), [lens.config], READY)
    s3.put("lens/a.fits", content)
    s3.put("other/a.fits", content)
    assert watch.poll() == {"demo": 1}
    assert watch.poll() == {}
    s3.put("lens/night/b.fits", content)
    assert watch.poll() == {"demo": 1}
    assert notice_raw_files(lens, READY).new == 2
    assert watch.poll() == {}
    s3.put("lens/a.fits", site.frame("elsewhere/a.fits", "2026-03-12T03:00:00").read_bytes())
    assert watch.poll() == {"demo": 1}
    assert watch.poll() == {}
    assert RawWatch(s3.url(), [lens.config], READY).poll() == {"demo": 1}  # of a new triggerer
    s3.put("lens/night/b.fits", content)  # the same bytes once more
    assert watch.poll() == {}
    assert notice_raw_files(lens, READY).new == 1
    assert rows_of(lens)[s3.url("lens/a.fits")].night == "2026-03-11"


def test_the_size_of_frames_is_known_before_the_first_is_imported(site, s3, lens_at):
    path = site.frame("elsewhere/a.fits")
    s3.put("lens/a.fits", path.read_bytes())
    lens = lens_at()
    with reading(lens.engine) as connection:
        assert frame_shape(connection, lens.config) == fits.getdata(path).shape


def test_objects_have_their_nights_and_say_why_not(site, s3, lens_at):
    s3.put("lens/a.fits", site.frame("elsewhere/a.fits").read_bytes())
    s3.put("lens/b.fits", site.frame("elsewhere/b.fits", begin=None).read_bytes())
    lens = lens_at()
    noticed = notice_raw_files(lens, READY)
    assert (noticed.listed, noticed.new, list(noticed.unplaced)) == (2, 2, [s3.url("lens/b.fits")])
    assert rows_of(lens)[s3.url("lens/a.fits")].night == "2026-03-09"
    assert "2026-03-09" in nights_waiting(lens)


def test_an_object_waits_for_its_marker(site, s3, lens_at):
    s3.put("lens/a.fits", site.frame("elsewhere/a.fits").read_bytes())
    lens, settings = lens_at(), Watch(marker_suffix=".done")
    watch = RawWatch(s3.url(), [lens.config], settings)
    assert watch.poll() == {}
    assert notice_raw_files(lens, settings).incomplete == 1
    s3.put("lens/a.fits.done", b"")
    assert watch.poll() == {"demo": 1}
    assert notice_raw_files(lens, settings).new == 1


def test_buckets_of_one_name_in_two_stores(site, s3, proxy, lens_at):
    """Each lens hears of the frames of its own store."""
    s3.put("lens/a.fits", site.frame("elsewhere/a.fits").read_bytes())
    here, there = lens_at("here"), lens_at("there", endpoint=proxy.address)
    watch = RawWatch(s3.url(), [here.config, there.config], READY)
    assert watch.poll() == {"here": 1, "there": 1}
    assert [path for _, path in proxy.requests if "list-type" in path]


def test_an_observatory_watches_a_store(site, s3, monkeypatch):
    monkeypatch.setattr(watching, "_RELOAD_S", -1.0)
    path = site.directory / "observatory.yaml"
    settings = {
        "lenses": ["lenses/*.yaml"],
        "watch": {"raw_roots": [s3.url()]},
        "defaults": {"raw": {"s3_endpoint_url": s3.endpoint}},
    }
    path.write_text(yaml.safe_dump(settings))
    site.lens_file("a", observatory="../observatory.yaml", raw={"raw_dirs": [s3.url("a")]})
    s3.put("a/1.fits", site.frame("elsewhere/a.fits").read_bytes())
    watch = ObservatoryWatch(open_observatory(path), s3.url())
    assert watch.poll() == {"a": 1}
    site.lens_file("b", observatory="../observatory.yaml", raw={"raw_dirs": [s3.url("b")]})
    s3.put("b/1.fits", site.frame("elsewhere/b.fits").read_bytes())
    assert watch.poll() == {"b": 1}


def test_a_header_that_could_not_be_read_is_not_taken_for_one_without_a_time(site, s3, proxy, lens_at):
    s3.put("lens/a.fits", site.frame("elsewhere/a.fits").read_bytes())
    lens = lens_at(endpoint=proxy.address)
    proxy.faults = [lambda body: body[:100]] * 50
    with pytest.raises(TemporaryFailure):
        notice_raw_files(lens, READY)
    assert rows_of(lens) == {}
    proxy.faults = []
    assert notice_raw_files(lens, READY).new == 1


def test_a_wrong_bucket_is_told(site, s3, lens_at):
    raw = {"raw_dirs": ["s3://nosuch/lens"], "s3_endpoint_url": s3.endpoint}
    lens = Lens(site.config("wrong", raw=raw))
    ensure_initialized(lens)
    with pytest.raises(ConfigurationError, match="s3://nosuch/lens: there is no bucket nosuch"):
        notice_raw_files(lens, READY)
    lens.close()


# The season in a store


@pytest.fixture
def stored(season, s3):
    """The small season, its raw frames in the store and nowhere else."""
    for path in season.raw:
        s3.put(f"small/{path.name}", path.read_bytes())
    shutil.rmtree(season.directory / "raw")
    season.configure(raw={"raw_dirs": [s3.url("small")], "s3_endpoint_url": s3.endpoint})
    return season


def imported(lens):
    with reading(lens.engine) as connection:
        return {row.original_image_path: row for row in frames.all_frames(connection, lens.name)}


def test_frames_are_imported_as_from_a_disk(stored, s3, reduced_season):
    before = s3.state()
    lens = stored.lens()
    report = run_pipeline(lens, last=1)[-1].report
    assert (report.done, report.failures, report.quarantined) == (6, {}, {})
    rows = imported(lens)
    assert all(path.startswith(s3.url("small")) for path in rows)
    local = reduced_season.lens()
    for mine, theirs in zip(rows.values(), imported(local).values(), strict=True):
        for column in ("pixel_hash", "raw_sha256", "mjd", "n_sources", "seeing_pixels", "image_relpath"):
            assert getattr(mine, column) == getattr(theirs, column), column
    local.close()
    assert s3.state() == before
    assert len(list((stored.work / "raw_cache").glob("*.fits"))) == 6
    assert run_pipeline(lens, last=1)[-1].report is None  # nothing to do
    lens.close()


def test_spoiled_downloads_are_never_imported(stored, s3, proxy):
    """One object is stored with other bytes than its sum says: the others go on, and the next run has it."""
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=s3.endpoint, config=Config(request_checksum_calculation="when_required")
    )
    key = "small/small_r_60281_001.fits"
    client.put_object(
        Bucket=s3.bucket, Key=key, Body=client.get_object(Bucket=s3.bucket, Key=key)["Body"].read()
    )
    stored.configure(raw={"s3_endpoint_url": proxy.address})
    spoil = lambda body: body[:-2000] + bytes(2000)  # noqa: E731
    proxy.faults, proxy.lies = [spoil] * 3, True
    lens = stored.lens()
    report = run_pipeline(lens, last=1)[-1].report
    assert (report.done, list(report.quarantined)) == (5, [s3.url(key)])
    assert "the store holds other bytes than it announces" in report.quarantined[s3.url(key)]
    assert s3.url(key) not in imported(lens)
    report = run_pipeline(lens, last=1)[-1].report
    assert (report.selected, report.done) == (1, 1)
    assert len(imported(lens)) == 6
    proxy.faults = [lambda body: body[:5000]] * 3
    s3.put("small/small_r_60281_003.fits", client.get_object(Bucket=s3.bucket, Key=key)["Body"].read())
    with pytest.raises(TemporaryFailure, match="5000 bytes instead of"):
        run_pipeline(lens, last=1)
    assert len(imported(lens)) == 6
    lens.close()


def test_an_overwritten_object_is_imported_again(stored, s3):
    from astropy.io import fits

    lens = stored.lens()
    run_pipeline(lens, last=1)
    url = next(iter(imported(lens)))
    key = url.split("/", 3)[3]
    old = imported(lens)[url]
    copy = stored.directory / "copy.fits"
    copy.write_bytes(s3.client.get_object(Bucket=s3.bucket, Key=key)["Body"].read())
    with fits.open(copy, mode="update") as hdus:
        hdus[0].data[:20] += 1
    s3.put(key, copy.read_bytes())
    report = run_pipeline(lens, last=1)[-1].report
    assert (report.selected, report.done) == (1, 1)
    new = imported(lens)[url]
    assert new.id == old.id
    assert (new.pixel_hash, new.raw_sha256) != (old.pixel_hash, old.raw_sha256)
    lens.close()

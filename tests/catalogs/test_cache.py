"""Answers kept on disk, and what they may answer."""

import json
import subprocess
import threading

import numpy as np
import pytest
from astropy.io import fits

from lightcurver_ops.catalogs import store
from lightcurver_ops.catalogs.base import GAIA_UNITS
from lightcurver_ops.catalogs.cache import Cached
from lightcurver_ops.catalogs.gaia_archive import GaiaArchive
from lightcurver_ops.catalogs.panstarrs import Panstarrs
from lightcurver_ops.catalogs.regions import Disk
from lightcurver_ops.config.sections import Catalogs
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure

DISK = Disk(0.05, 40.0, 0.3)


@pytest.fixture
def cached(server, tmp_path):
    """Makes caches of one directory; offline ones have no network to fall back on."""

    def make(kind=GaiaArchive, *, offline=False, **more):
        return Cached(kind(Catalogs(**server.settings(**more))), tmp_path / "cache", offline=offline)

    return make


def files(cache):
    return sorted(path.name for path in cache.directory.iterdir())


def ids(table):
    return table["source_id"].tolist()


@pytest.mark.parametrize("kind", [GaiaArchive, Panstarrs])
def test_a_kept_answer_equals_a_fresh_one(cached, server, kind):
    fresh = cached(kind).query(DISK)
    asked = len(server.asked)
    kept = cached(kind, offline=True).query(DISK)
    assert len(server.asked) == asked
    assert kept.colnames == fresh.colnames
    assert kind is Panstarrs or kept.colnames == list(GAIA_UNITS)
    for name in fresh.colnames:
        assert kept[name].unit == fresh[name].unit
        assert kept[name].dtype == fresh[name].dtype
        np.testing.assert_array_equal(np.ma.getmaskarray(kept[name]), np.ma.getmaskarray(fresh[name]))
        np.testing.assert_array_equal(np.ma.filled(kept[name], -1), np.ma.filled(fresh[name], -1))
    assert len(files(cached(kind))) == 1


@pytest.mark.parametrize("of", [{}, {"max_gmag": 17.0}, {"epoch_mjd": 57388.5}])
def test_a_wider_and_deeper_answer_answers_as_the_service_does(cached, server, of):
    within = Disk(0.1, 40.05, 0.2)
    direct = cached().catalog.query(within, **of)
    cached().query(DISK)
    asked = len(server.asked)
    assert ids(cached().query(within, **of)) == ids(direct)
    assert len(server.asked) == asked


def test_what_is_not_covered_is_asked_for(cached):
    cached().query(DISK, max_gmag=17.0)
    for number, (disk, depth) in enumerate(
        [(DISK, 17.5), (DISK, None), (Disk(0.05, 40.0, 0.31), 17.0), (Disk(0.2, 40.0, 0.3), 17.0)], 2
    ):
        assert ids(cached().query(disk, max_gmag=depth)) == ids(cached().catalog.query(disk, max_gmag=depth))
        assert len(files(cached())) == number


def test_another_release_is_another_answer(cached, server):
    cached().query(DISK)
    server.tables["gaiadr4.gaia_source"] = server.tables["gaiadr3.gaia_source"][:100]
    newer = cached(gaia_table="gaiadr4.gaia_source").query(DISK)
    assert 0 < len(newer) < len(cached().query(DISK))
    with pytest.raises(ConfigurationError, match="has nothing at this place"):
        cached(gaia_table="gaiadr5.gaia_source", offline=True).query(DISK)
    with pytest.raises(ConfigurationError, match=r"mast:ps1dr2: it has nothing"):
        cached(Panstarrs, panstarrs="mast", offline=True).query(DISK)


def test_a_mirror_gives_the_same_release(cached, server):
    cached().query(DISK)
    assert len(cached(gaia_url="http://127.0.0.1:1/tap").query(DISK)) > 50


def test_offline_says_what_is_there_and_what_to_do(cached, server):
    cached().query(DISK, max_gmag=17.0)
    asked = len(server.asked)
    with pytest.raises(ConfigurationError) as error:
        cached(offline=True).query(DISK, max_gmag=19.0)
    for part in (
        "does not cover 0.3000 degrees around ra 0.05000, dec 40.00000, G <= 19 of gaia:gaiadr3.gaia_source",
        "it has 0.3000 degrees around ra 0.05000, dec 40.00000, G <= 17",
        "lcops catalog fetch LENS",
        "lcops catalog import FILE",
        "offline: false",
    ):
        assert part in str(error.value)
    assert len(server.asked) == asked


def test_an_empty_answer_is_kept(cached):
    empty = Disk(180.0, 20.0, 0.1)
    cached().query(empty)
    assert len(cached(offline=True).query(empty)) == 0


def test_a_file_that_is_not_whole_is_not_believed(cached, server):
    fresh = ids(cached().query(DISK))
    (path,) = cached().directory.iterdir()
    whole = path.read_bytes()
    broken = [whole[: int(len(whole) * part)] for part in (0, 0.01, 0.2, 0.5, 0.97)]
    rng = np.random.default_rng(1)
    for place in rng.integers(2880, 2880 * (len(whole) // 2880 - 1), 6):
        broken.append(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"is broken|nothing at this place"):
            cached(offline=True).query(DISK)
    assert ids(cached().query(DISK)) == fresh
    assert ids(cached(offline=True).query(DISK)) == fresh
    assert path.read_bytes()[-2880:] == whole[-2880:]  # repaired in place


def test_a_head_that_does_not_fit_the_stars_is_not_believed(cached):
    cached().query(DISK)
    (path,) = cached().directory.iterdir()
    with fits.open(path, mode="update") as hdus:
        kept = json.loads(hdus[0].header["KEPT"])
        hdus[0].header["KEPT"] = json.dumps(kept | {"rows": kept["rows"] + 1})
    (entry,) = store.entries(cached().directory)
    with pytest.raises(ValueError, match=r"checksum|its head says otherwise"):
        store.read(entry)


def test_what_killed_processes_left_is_ignored_and_removed(cached):
    fresh = cached().query(DISK)
    (path,) = cached().directory.iterdir()
    left = path.with_name(f".lcops-00000000.1.1-00000000-{path.name}")
    left.write_bytes(path.read_bytes()[:5000])
    assert len(store.entries(cached().directory)) == 1
    assert len(cached(offline=True).query(DISK)) == len(fresh)


def test_tasks_that_ask_for_the_same_at_once_do_no_harm(cached, server):
    server.faults.extend(["slow"] * 4)
    server.slow_s = 0.2
    answers: list[list[int]] = []
    tasks = [threading.Thread(target=lambda: answers.append(ids(cached().query(DISK)))) for _ in range(4)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
    assert len(answers) == 4
    assert all(answer == answers[0] for answer in answers)
    assert len(files(cached())) == 1
    assert ids(cached(offline=True).query(DISK)) == answers[0]


def test_a_full_disk_is_temporary_and_leaves_nothing(server, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        cache = Cached(GaiaArchive(Catalogs(**server.settings())), disk)
        with pytest.raises(TemporaryFailure, match="Free space"):
            cache.query(DISK)
        assert list(disk.iterdir()) == []
        cache.offline = True
        with pytest.raises(ConfigurationError, match="nothing at this place"):
            cache.query(DISK)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_place_that_cannot_be_written_is_said(cached):
    cached().directory.write_text("")
    with pytest.raises(ConfigurationError, match="could not be written"):
        cached().query(DISK)

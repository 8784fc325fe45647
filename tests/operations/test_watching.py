"""Watching raw directories: each new, complete file is announced once, to the lenses that take it."""

import os
import tempfile
import time
from pathlib import Path

import fsspec
import pytest

from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.engine import open_engine
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.operations import watching
from lightcurver_ops.operations.arrivals import notice_raw_files
from lightcurver_ops.operations.observatory import open_observatory
from lightcurver_ops.operations.watching import (
    LocalRoot,
    ObservatoryWatch,
    RawWatch,
    RemoteRoot,
    open_root,
    resolved,
    roots_of,
)
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.raw_listing import list_raw_files
from tests.rights import without_rights

READY = Watch(settle_seconds=0)
NOW = 2e9
"""Later than all files of these tests."""
AGAIN = NOW + watching._REPEAT_S + 1


def names(files):
    return sorted(Path(file.path).name for file in files)


def age(*directories):
    """Make it long ago that these directories changed; after that, only what changes is listed."""
    for directory in directories:
        os.utime(directory, (1e9, 1e9))


# Roots


@pytest.fixture
def root(tmp_path):
    """A directory with a file, and two of its subdirectories with one each."""
    for name in ("a.fits", "one/b.fits", "one/two/c.fits"):
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    age(tmp_path / "raw/one/two", tmp_path / "raw/one", tmp_path / "raw")
    return tmp_path / "raw"


def test_only_directories_that_changed_are_listed_again(root):
    local = LocalRoot(str(root))
    first = local.changed_files()
    assert names(first) == ["a.fits", "b.fits", "c.fits"]
    assert first[0].modified == str(Path(first[0].path).stat().st_mtime_ns)
    assert local.changed_files() == []
    (root / "one/d.fits").write_bytes(b"x")
    assert names(local.changed_files()) == ["b.fits", "d.fits"]


def test_a_directory_that_changed_a_moment_ago_is_listed_again(root):
    local = LocalRoot(str(root))
    (root / "one/d.fits").write_bytes(b"x")
    moment = time.time()
    os.utime(root / "one", (moment, moment))
    assert names(local.changed_files()) == ["a.fits", "b.fits", "c.fits", "d.fits"]
    # A second file within the same tick of the clock of the file system leaves the directory's time as it is.
    (root / "one/e.fits").write_bytes(b"x")
    os.utime(root / "one", (moment, moment))
    assert names(local.changed_files()) == ["b.fits", "d.fits", "e.fits"]


def test_new_subdirectories_and_what_is_in_them(root):
    local = LocalRoot(str(root))
    local.changed_files()
    path = root / "one/three/four/f.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert "f.fits" in names(local.changed_files())


def test_a_directory_can_be_asked_for_again(root):
    local = LocalRoot(str(root))
    local.changed_files()
    local.look_again(str(root / "one/b.fits"))
    assert names(local.changed_files()) == ["b.fits"]
    assert local.changed_files() == []


def test_directories_that_vanish_and_come_back(root):
    local = LocalRoot(str(root))
    local.changed_files()
    (root / "one/two").rename(root.parent / "away")
    assert "c.fits" not in names(local.changed_files())
    (root.parent / "away").rename(root / "one/two")
    assert "c.fits" in names(local.changed_files())
    root.rename(root.parent / "unmounted")
    assert local.changed_files() == []
    root.mkdir()
    (root / "g.fits").write_bytes(b"x")
    assert names(local.changed_files()) == ["g.fits"]


def test_a_root_that_is_not_there_yet(tmp_path):
    local = LocalRoot(str(tmp_path / "raw"))
    assert local.changed_files() == []
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.fits").write_bytes(b"x")
    assert names(local.changed_files()) == ["a.fits"]


def test_an_unreadable_directory_hides_no_other(caplog):
    with tempfile.TemporaryDirectory() as directory:  # pytest's own is for its user alone
        root = Path(directory)
        root.chmod(0o755)
        (root / "one").mkdir()
        for name in ("a.fits", "one/b.fits"):
            (root / name).write_bytes(b"x")
        age(root / "one", root)
        (root / "one").chmod(0)
        local = LocalRoot(directory)
        with without_rights():
            assert names(local.changed_files()) == ["a.fits"]
            assert local.changed_files() == []
        assert f"{root / 'one'}: cannot be listed" in caplog.text
        (root / "one").chmod(0o755)
        assert names(local.changed_files()) == ["b.fits"]  # the next look tries again


def test_an_entry_that_cannot_be_looked_at_hides_no_other(root, caplog):
    (root / "loop").symlink_to(root / "loop")
    (root / "nowhere").symlink_to(root / "none")
    age(root)
    local = LocalRoot(str(root))
    assert names(local.changed_files()) == ["a.fits", "b.fits", "c.fits"]
    assert f"{root / 'loop'}: cannot be looked at" in caplog.text
    assert names(local.changed_files()) == ["a.fits"]  # tried again


def test_the_same_files_as_the_stages_list(root):
    """Else a run would be started for a file that no stage ever sees."""
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked.fits").write_bytes(b"x")
    (root / "link").symlink_to(elsewhere)
    (root / "file.fits").symlink_to(elsewhere / "linked.fits")
    (root / ".hidden.fits").write_bytes(b"x")

    class Raw:
        raw_dirs: tuple[str, ...] = (str(root),)
        files_match_pattern = "*"

    assert sorted(LocalRoot(str(root)).changed_files()) == list_raw_files(Raw())


def test_roots_by_their_names():
    assert isinstance(open_root("/data/raw"), LocalRoot)
    assert isinstance(open_root("memory://watched"), RemoteRoot)


# Watches


@pytest.fixture
def lens_at(site):
    """Makes a lens with an empty bookkeeping."""
    opened = []

    def make(name="demo", **sections):
        lens = Lens(site.config(name, **sections))
        ensure_initialized(lens)
        opened.append(lens)
        return lens

    yield make
    for lens in opened:
        lens.close()


def test_each_file_is_announced_once(site, lens_at):
    lens = lens_at()
    site.frame("demo/a.fits")
    site.frame("demo/b.fits")
    (site.directory / "raw/demo/notes.txt").write_text("no frame")
    watch = RawWatch(str(site.directory / "raw"), [lens.config], READY)
    assert watch.poll(NOW) == {"demo": 2}
    assert watch.poll(NOW) == {}
    site.frame("demo/night/c.FITS")
    assert watch.poll(NOW + 1) == {"demo": 1}
    assert watch.poll(NOW + 2) == {}


def test_it_is_announced_again_if_the_bookkeeping_still_lacks_it(site, lens_at):
    lens = lens_at()
    site.frame("demo/a.fits")
    site.frame("demo/b.fits")
    age(site.directory / "raw/demo", site.directory / "raw")
    watch = RawWatch(str(site.directory / "raw"), [lens.config], READY)
    assert watch.poll(NOW) == {"demo": 2}
    assert watch.poll(AGAIN - 2) == {}
    assert watch.poll(AGAIN) == {"demo": 2}  # though nothing changed there
    assert watch.poll(AGAIN + 1) == {}
    (site.directory / "raw/demo/b.fits").unlink()
    assert watch.poll(AGAIN + watching._REPEAT_S) == {"demo": 1}
    notice_raw_files(lens, READY)
    assert watch.poll(AGAIN + 5 * watching._REPEAT_S) == {}
    assert watch.poll(AGAIN + 6 * watching._REPEAT_S) == {}


def test_what_the_bookkeeping_has_is_not_announced_unless_it_changed(site, lens_at):
    lens = lens_at()
    path = site.frame("demo/a.fits")
    notice_raw_files(lens, READY)
    watch = RawWatch(str(site.directory / "raw"), [lens.config], READY)
    assert watch.poll(NOW) == {}
    site.frame("demo/b.fits")
    path.write_bytes(path.read_bytes() + bytes(2880))
    assert watch.poll(NOW) == {"demo": 2}
    path.write_bytes(path.read_bytes() + bytes(2880))
    assert watch.poll(NOW) == {"demo": 1}


def test_a_file_is_announced_when_it_is_complete(site, lens_at):
    lens = lens_at()
    site.frame("demo/a.fits", modified=NOW)
    age(site.directory / "raw/demo", site.directory / "raw")
    watch = RawWatch(str(site.directory / "raw"), [lens.config], Watch(settle_seconds=60))
    assert watch.poll(NOW + 59) == {}
    assert watch.poll(NOW + 60) == {"demo": 1}  # though its directory did not change
    assert watch.poll(NOW + 61) == {}


def test_a_file_is_announced_when_its_marker_is_there(site, lens_at):
    lens = lens_at()
    path = site.frame("demo/a.fits")
    watch = RawWatch(str(site.directory / "raw"), [lens.config], Watch(marker_suffix=".done"))
    assert watch.poll(NOW) == {}
    path.with_name("a.fits.done").touch()
    assert watch.poll(NOW) == {"demo": 1}
    assert watch.poll(NOW) == {}
    age(path.parent, path.parent.parent)
    assert watch.poll(AGAIN) == {"demo": 1}
    notice_raw_files(lens, Watch(marker_suffix=".done"))
    assert watch.poll(AGAIN + watching._REPEAT_S) == {}
    assert watch.poll(AGAIN + 2 * watching._REPEAT_S) == {}
    # The marker matches the pattern of frames: it must not be waited for, at every look.
    assert watch._roots[None].changed_files() == []


def test_each_lens_hears_of_its_own_frames(site, lens_at):
    a, b = lens_at("a"), lens_at("b", raw={"raw_dirs": ["../raw/b"], "files_match_pattern": "B_*"})
    a_long = lens_at("a_long")  # its directory begins with the name of another
    for name in ("a/1.fits", "b/b_1.fits", "b/c_1.fits", "b/b_2.fits", "a_long/1.fits", "nobody/1.fits"):
        site.frame(name)
    watch = RawWatch(str(site.directory / "raw"), [a.config, b.config, a_long.config], READY)
    assert watch.poll(NOW) == {"a": 1, "b": 2, "a_long": 1}


def test_lenses_that_share_a_directory_are_told_apart(site, lens_at):
    shared = {"raw": {"raw_dirs": ["../raw/shared"]}}
    a, b = lens_at("a", **shared), lens_at("b", **shared)
    site.frame("shared/1.fits")
    notice_raw_files(b, READY)
    watch = RawWatch(str(site.directory / "raw"), [a.config, b.config], READY)
    assert watch.poll(NOW) == {"a": 1}
    assert watch.poll(NOW + 1) == {}  # b, which has it, must not make a forget that it was told
    assert watch.poll(AGAIN) == {"a": 1}
    site.frame("shared/2.fits")
    assert watch.poll(AGAIN) == {"a": 1, "b": 1}


def test_no_bookkeeping_is_made_where_there_is_none(site):
    config = site.config()
    url = f"sqlite:///{site.directory}/elsewhere/rows.sqlite3"
    named = site.config("named", database=url)
    site.frame("demo/a.fits")
    site.frame("named/a.fits")
    before = sorted(site.directory.rglob("*"))
    root = str(site.directory / "raw")
    assert RawWatch(root, [config, named], READY).poll(NOW) == {"demo": 1, "named": 1}
    assert RawWatch(root, [config], READY, database=url).poll(NOW) == {"demo": 1}
    assert sorted(site.directory.rglob("*")) == before


def test_the_bookkeeping_of_lenses_that_name_none(site, tmp_path):
    url = f"sqlite:///{tmp_path}/rows.sqlite3"
    config = site.config()
    lens = Lens(config.with_settings(database=url))
    ensure_initialized(lens)
    site.frame("demo/a.fits")
    notice_raw_files(lens, READY)
    lens.close()
    assert RawWatch(str(site.directory / "raw"), [config], READY, database=url).poll(NOW) == {}
    assert RawWatch(str(site.directory / "raw"), [config], READY).poll(NOW) == {"demo": 1}


@pytest.mark.parametrize("state", ["without tables", "of an older version", "no database"])
def test_where_the_bookkeeping_cannot_be_asked_all_is_new(site, database_url, state, caplog):
    config = site.config(database=database_url)
    engine = open_engine(database_url)
    schema.upgrade(engine)
    if state == "without tables":
        schema.downgrade(engine, "base")
    elif state == "of an older version":
        schema.downgrade(engine, "0001")
    else:
        config = config.with_settings(database="postgresql://lcops:geheim@127.0.0.1:1/none")
    engine.dispose()
    site.frame("demo/a.fits")
    watch = RawWatch(str(site.directory / "raw"), [config], READY)
    assert watch.poll(NOW) == {"demo": 1}
    assert watch.poll(NOW) == {}
    assert "the bookkeeping cannot be asked what is new" in caplog.text
    assert "geheim" not in caplog.text


def test_an_object_store_is_watched_like_a_directory(site, lens_at):
    content = site.frame("elsewhere/a.fits").read_bytes()

    def put(name):
        with fsspec.open(f"memory://watched/{name}", "wb") as file:
            file.write(content)

    put("lens/a.fits")
    put("other/a.fits")
    lens = lens_at(raw={"raw_dirs": ["memory://watched/lens/"]})
    watch = RawWatch("memory://watched", [lens.config], Watch(settle_seconds=1e9))
    assert watch.poll(NOW) == {"demo": 1}
    assert watch.poll(NOW + 1) == {}
    put("lens/night/b.fits")
    assert watch.poll(NOW + 2) == {"demo": 1}
    assert watch.poll(AGAIN) == {"demo": 1}  # a is lacking still, b was announced a moment ago
    notice_raw_files(lens, READY)
    assert watch.poll(AGAIN + 2 * watching._REPEAT_S) == {}


def test_an_object_store_without_anything(lens_at):
    lens = lens_at(raw={"raw_dirs": ["memory://empty"]})
    assert RawWatch("memory://empty", [lens.config], READY).poll(NOW) == {}


# Observatories


@pytest.fixture
def observatory(site):
    def open_with(text=""):
        path = site.directory / "observatory.yaml"
        path.write_text(f"lenses: [lenses/*.yaml]\nwatch: {{settle_seconds: 0, {text}}}\n")
        return open_observatory(path)

    return open_with


def test_a_watch_follows_lens_files_that_come_and_go(site, observatory, monkeypatch):
    monkeypatch.setattr(watching, "_RELOAD_S", -1.0)
    raw = site.directory / "raw"
    a = site.lens_file("a")
    for name in ("a/1.fits", "b/1.fits"):
        site.frame(name)
    age(raw / "a", raw / "b", raw)
    watch = ObservatoryWatch(observatory("raw_roots: [raw]"), str(raw))
    assert watch.poll() == {"a": 1}
    b = site.lens_file("b")  # its frames were there before it
    assert watch.poll() == {"b": 1}
    content = a.read_text()
    a.write_text(content + "treshold: 3\n")  # half edited
    site.frame("a/2.fits")
    assert watch.poll() == {}
    a.write_text(content)
    assert watch.poll() == {"a": 1}
    b.unlink()
    site.frame("b/2.fits")
    assert watch.poll() == {}
    site.frame("a/3.fits")
    assert watch.poll() == {"a": 1}


def test_lens_files_are_not_read_at_every_look(site, observatory):
    raw = site.directory / "raw"
    site.lens_file("a")
    site.frame("a/1.fits")
    watch = ObservatoryWatch(observatory("raw_roots: [raw]"), str(raw))
    assert watch.poll() == {"a": 1}
    site.lens_file("b")
    site.frame("b/1.fits")
    assert watch.poll() == {}


def test_a_watch_minds_the_lenses_of_its_own_root(site, observatory):
    site.lens_file("a")
    site.lens_file("b")
    site.frame("a/1.fits")
    site.frame("b/1.fits")
    opened = observatory()  # without raw_roots: a root for each directory
    assert ObservatoryWatch(opened, str(site.directory / "raw/a")).poll() == {"a": 1}
    assert ObservatoryWatch(opened, str(site.directory / "raw")).poll() == {}


def test_roots_without_raw_roots_are_the_raw_directories(site, observatory):
    config = site.config(raw={"raw_dirs": ["../raw/x", "s3://bucket/lens/", "../raw/x/"]})
    assert roots_of(config, observatory()) == [str(site.directory / "raw/x"), "s3://bucket/lens"]


def test_roots_of_the_observatory_stand_for_what_is_below_them(site, observatory):
    directories = ["../raw/x", "../raw/deep/y", "../rawer/z", "s3://bucket/lens", "s3://bucketeer/lens"]
    config = site.config(raw={"raw_dirs": directories})
    opened = observatory("raw_roots: [raw, raw/deep, 's3://bucket/']")
    assert roots_of(config, opened) == [
        str(site.directory / "raw"),
        str(site.directory / "raw/deep"),  # the nearest one
        str(site.directory / "rawer/z"),  # below none of them
        "s3://bucket",
        "s3://bucketeer/lens",
    ]
    itself = site.config("itself", raw={"raw_dirs": ["../raw"]})
    assert roots_of(itself, opened) == [str(site.directory / "raw")]


def test_roots_are_relative_to_the_file_of_the_observatory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert resolved("raw/", tmp_path) == str(tmp_path / "raw")
    assert resolved("../raw", tmp_path / "etc") == str(tmp_path / "raw")
    assert resolved("/data/raw/", tmp_path) == "/data/raw"
    assert resolved("~/raw", tmp_path) == str(tmp_path / "home/raw")
    assert resolved("s3://bucket/", tmp_path) == "s3://bucket"
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert resolved("link/raw", tmp_path) == str(tmp_path / "disk/raw")  # as raw directories are

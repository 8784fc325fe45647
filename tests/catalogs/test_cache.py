"""Answers kept on disk."""

import numpy as np
import pytest

from lightcurver_ops.catalogs.base import GAIA_UNITS
from lightcurver_ops.catalogs.cache import Cached
from lightcurver_ops.catalogs.local_file import LocalFile
from lightcurver_ops.catalogs.regions import Disk
from lightcurver_ops.errors import TemporaryFailure

DISK = Disk(0.05, 40.0, 0.3)


@pytest.fixture
def catalog(field, tmp_path):
    """A cached catalogue whose source is a file: deleting the file shows whether it was asked again."""
    field.write(tmp_path / "stars.ecsv", format="ascii.ecsv")
    source = LocalFile(tmp_path / "stars.ecsv")
    source.identity()
    return Cached(source, tmp_path / "cache")


def gone(catalog):
    """The same cache before a source that cannot answer any more."""
    source = LocalFile(catalog.provider.path.with_name("gone.ecsv"))
    source._identity = catalog.identity()
    return Cached(source, catalog.directory)


def test_a_kept_answer_equals_a_fresh_one(catalog):
    fresh = catalog.query(DISK, max_gmag=18.0)
    kept = gone(catalog).query(DISK, max_gmag=18.0)
    assert kept.colnames == fresh.colnames == list(GAIA_UNITS)
    for name in fresh.colnames:
        assert kept[name].unit == fresh[name].unit
        assert kept[name].dtype == fresh[name].dtype
        np.testing.assert_array_equal(np.ma.getmaskarray(kept[name]), np.ma.getmaskarray(fresh[name]))
        np.testing.assert_array_equal(kept[name].filled(-1), fresh[name].filled(-1))
    assert len(list(catalog.directory.iterdir())) == 1


def test_another_question_is_another_file(catalog):
    for question in ({}, {"max_gmag": 17.0}, {"epoch_mjd": 60000.0}):
        catalog.query(DISK, **question)
    catalog.query(Disk(0.05, 40.0, 0.31))
    assert len(list(catalog.directory.iterdir())) == 4


def test_a_broken_file_is_asked_for_again(catalog):
    fresh = catalog.query(DISK)
    (path,) = catalog.directory.iterdir()
    path.write_bytes(path.read_bytes()[:700])
    assert len(catalog.query(DISK)) == len(fresh)
    assert len(gone(catalog).query(DISK)) == len(fresh)


def test_an_empty_answer_is_kept(catalog):
    empty = Disk(180.0, -40.0, 0.1)
    assert len(catalog.query(empty)) == 0
    assert len(gone(catalog).query(empty)) == 0


def test_a_place_that_cannot_be_written_is_said(catalog, tmp_path):
    (tmp_path / "occupied").write_text("")
    with pytest.raises(TemporaryFailure, match="occupied"):
        Cached(catalog.provider, tmp_path / "occupied").query(DISK)

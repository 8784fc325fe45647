"""The provider that a configuration names."""

import pytest

from lightcurver_ops.catalogs.cache import Cached
from lightcurver_ops.catalogs.providers import PROVIDERS, open_catalog
from lightcurver_ops.errors import ConfigurationError


def test_each_name_opens_its_catalogue(tmp_path):
    for name in PROVIDERS:
        assert open_catalog(name, catalog_file=tmp_path / "x.ecsv").name == name
    assert isinstance(open_catalog("vizier", cache_dir=tmp_path), Cached)
    assert not isinstance(open_catalog("file", catalog_file="x.ecsv", cache_dir=tmp_path), Cached)


def test_a_file_must_be_given_and_the_name_known():
    with pytest.raises(ConfigurationError, match="gaia_catalog_file"):
        open_catalog("file")
    with pytest.raises(ConfigurationError, match="'simbad' is not one of gaia, vizier, file"):
        open_catalog("simbad")

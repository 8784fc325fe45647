"""The provider that a configuration names."""

import pytest

from lightcurver_ops.catalogs.cache import Cached
from lightcurver_ops.catalogs.providers import PROVIDERS, REMOTE, open_catalog, open_remote
from lightcurver_ops.config.sections import Catalogs
from lightcurver_ops.errors import ConfigurationError


def test_each_provider_opens_remote_ones_behind_a_cache(tmp_path):
    for name in PROVIDERS:
        assert open_catalog(name, catalog_file=tmp_path / "x.ecsv", cache_dir=tmp_path).name == name
    assert isinstance(open_catalog("vizier", cache_dir=tmp_path), Cached)
    assert not isinstance(open_catalog("file", catalog_file="x.ecsv", cache_dir=tmp_path), Cached)
    for name in REMOTE:
        assert open_remote(name, Catalogs(offline=True), tmp_path).offline


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(ConfigurationError, match="gaia_catalog_file"):
        open_catalog("file", cache_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="gaia, vizier, file"):
        open_catalog("simbad", cache_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="gaia, vizier, panstarrs"):
        open_remote("simbad", Catalogs(), tmp_path)

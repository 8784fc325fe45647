"""The catalogue that a configuration names."""

from pathlib import Path

from lightcurver_ops.catalogs.base import CatalogProvider
from lightcurver_ops.catalogs.cache import Cached
from lightcurver_ops.catalogs.gaia_archive import GaiaArchive
from lightcurver_ops.catalogs.local_file import LocalFile
from lightcurver_ops.catalogs.vizier import Vizier
from lightcurver_ops.errors import ConfigurationError

PROVIDERS = ("gaia", "vizier", "file")


def open_catalog(
    provider: str, *, catalog_file: str | Path | None = None, cache_dir: str | Path | None = None
) -> CatalogProvider:
    """The catalogue of `stars: gaia_provider`; remote ones keep their answers in `cache_dir` where one is given.

    Raises:
        ConfigurationError: an unknown provider, or `file` without a file.
    """
    if provider == "file":
        if catalog_file is None:
            raise ConfigurationError(
                "stars: gaia_provider: file needs stars: gaia_catalog_file, the path of the file"
            )
        return LocalFile(catalog_file)
    remote: CatalogProvider
    if provider == "gaia":
        remote = GaiaArchive()
    elif provider == "vizier":
        remote = Vizier()
    else:
        raise ConfigurationError(f"stars: gaia_provider: {provider!r} is not one of {', '.join(PROVIDERS)}")
    return remote if cache_dir is None else Cached(remote, cache_dir)

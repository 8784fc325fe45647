"""The catalogue that a configuration names."""

from pathlib import Path

from lightcurver_ops.catalogs.base import CatalogProvider
from lightcurver_ops.catalogs.cache import Cached
from lightcurver_ops.catalogs.gaia_archive import GaiaArchive
from lightcurver_ops.catalogs.local_file import LocalFile
from lightcurver_ops.catalogs.panstarrs import Panstarrs
from lightcurver_ops.catalogs.remote import RemoteCatalog
from lightcurver_ops.catalogs.vizier import Vizier
from lightcurver_ops.config.sections import Catalogs
from lightcurver_ops.errors import ConfigurationError

REMOTE: dict[str, type[RemoteCatalog]] = {"gaia": GaiaArchive, "vizier": Vizier, "panstarrs": Panstarrs}
PROVIDERS = ("gaia", "vizier", "file")


def open_remote(name: str, settings: Catalogs, directory: str | Path) -> Cached:
    """A catalogue behind a network (`REMOTE`), its answers kept in a directory.

    Raises:
        ConfigurationError: an unknown name.
    """
    if name not in REMOTE:
        raise ConfigurationError(f"there is no catalogue {name!r}: one of {', '.join(REMOTE)}")
    return Cached(REMOTE[name](settings), directory, offline=settings.offline)


def open_catalog(
    provider: str,
    *,
    catalog_file: str | Path | None = None,
    settings: Catalogs | None = None,
    cache_dir: str | Path,
) -> CatalogProvider:
    """The catalogue of `stars: gaia_provider`; remote ones keep their answers in `cache_dir`.

    Raises:
        ConfigurationError: an unknown provider, or `file` without a file.
    """
    if provider not in PROVIDERS:
        raise ConfigurationError(f"stars: gaia_provider: {provider!r} is not one of {', '.join(PROVIDERS)}")
    if provider != "file":
        return open_remote(provider, settings or Catalogs(), cache_dir)
    if catalog_file is None:
        raise ConfigurationError(
            "stars: gaia_provider: file needs stars: gaia_catalog_file, the path of the file"
        )
    return LocalFile(catalog_file)

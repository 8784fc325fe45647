"""The star catalogue of a lens, as its configuration chooses it."""

from typing import TYPE_CHECKING

from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError

if TYPE_CHECKING:
    from lightcurver_ops.catalogs.base import CatalogProvider


def catalog_of(config: LensConfig) -> "CatalogProvider":
    """The catalogue provider; answers of remote ones are kept in <workdir>/catalog_cache."""
    from lightcurver_ops.catalogs.providers import open_catalog

    return open_catalog(
        config.stars.gaia_provider,
        catalog_file=config.stars.gaia_catalog_file,
        cache_dir=config.workdir / "catalog_cache",
    )


def catalog_identity(config: LensConfig) -> str:
    """What decides the catalogue's answers; ``absent`` where its file is missing (reading it will say so)."""
    try:
        return catalog_of(config).identity()
    except ConfigurationError:
        return "absent"

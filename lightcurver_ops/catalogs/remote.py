"""What the catalogues behind a network share: which failures pass, and that no answer is cut short."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from xml.sax import SAXException

from lightcurver_ops.catalogs.regions import Disk
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure

ROW_LIMIT = 100_000
"""More stars than this in one answer is a mistake in the configuration, not a wish."""


@contextmanager
def asking(service: str) -> Iterator[None]:
    """Turn the failures of a network, a server or a garbled answer into TemporaryFailure."""
    from astroquery.exceptions import RemoteServiceError, TableParseError

    try:
        yield
    # astropy's VOTable errors are SyntaxErrors; requests' are OSErrors.
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
        EOFError,
        SyntaxError,
        SAXException,
        RemoteServiceError,
        TableParseError,
    ) as error:
        raise TemporaryFailure(
            f"{service} did not answer as expected: {type(error).__name__}: {error}. Trying again later can "
            "succeed; a local catalogue (stars: gaia_provider: file) needs no network."
        ) from error


def refuse_too_many(service: str, disk: Disk, count: str) -> ConfigurationError:
    """The error for an answer that would be too large."""
    return ConfigurationError(
        f"{service} has {count} stars within {disk.radius_deg:.4f} degrees of ra {disk.ra:.5f}, dec {disk.dec:.5f}; "
        f"at most {ROW_LIMIT} are taken, and none is left out silently. Choose a smaller "
        "stars: ROI_disk_radius_arcseconds or a brighter stars: max_gmag."
    )

"""A made-up star field, in Gaia's columns."""

import pytest
from astropy.table import Table

from tests.catalog_server import star_field


@pytest.fixture
def field() -> Table:
    """300 stars within about half a degree of ra 0.05, dec 40; some values masked."""
    return star_field(300)


@pytest.fixture
def server(serve, field):
    """The field at all services."""
    return serve(field)

"""A made-up star field, in Gaia's columns."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table


@pytest.fixture
def field() -> Table:
    """300 stars within about half a degree of ra 0.05, dec 40; some values masked."""
    rng = np.random.default_rng(11)
    n = 300
    g = rng.uniform(10, 20, n)
    table = Table(masked=True)
    table["source_id"] = np.arange(n) + 4_300_000_000_000_000_000
    table["ra"] = (0.05 + rng.uniform(-0.6, 0.6, n)) % 360 * u.deg
    table["dec"] = (40 + rng.uniform(-0.45, 0.45, n)) * u.deg
    table["ref_epoch"] = np.full(n, 2016.0) * u.yr
    table["pmra"] = MaskedColumn(rng.normal(0, 30, n), mask=rng.random(n) < 0.1, unit=u.mas / u.yr)
    table["pmdec"] = MaskedColumn(rng.normal(0, 30, n), mask=table["pmra"].mask, unit=u.mas / u.yr)
    table["phot_g_mean_mag"] = MaskedColumn(g, unit=u.mag)
    table["phot_bp_mean_mag"] = MaskedColumn(g + 0.4, mask=rng.random(n) < 0.05, unit=u.mag)
    table["phot_rp_mean_mag"] = MaskedColumn(g - 0.5, unit=u.mag)
    table["astrometric_excess_noise"] = MaskedColumn(
        rng.exponential(0.5, n), mask=rng.random(n) < 0.1, unit=u.mas
    )
    table["astrometric_excess_noise_sig"] = MaskedColumn(rng.exponential(1.0, n))
    table["phot_g_mean_flux_over_error"] = MaskedColumn(rng.uniform(50, 5000, n))
    return table

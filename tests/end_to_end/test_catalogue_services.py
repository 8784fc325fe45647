"""A season reduced with stars from services (on this machine), and offline from what was kept."""

import numpy as np
import pytest
import sqlalchemy as sa
from astropy.table import MaskedColumn, Table

from lightcurver_ops.bookkeeping import frames, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import absolute_zeropoints, catalog_star_photometry
from lightcurver_ops.cli.catalog import fetch
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.numerics.synthetic_magnitudes import magnitudes_in_band
from lightcurver_ops.stages.pipeline import run_pipeline, stage_number
from lightcurver_ops.stages.star_columns import star_column

pytestmark = pytest.mark.end_to_end
ZERO_POINTS = stage_number("calculate_absolute_zeropoints")
STARS = stage_number("query_gaia")
ONLINE = {"gaia_catalog_file": None}


@pytest.fixture
def server(raw_season, serve):
    """The season's catalogue at all services."""
    return serve(Table.read(raw_season.directory / "catalogue.ecsv"))


def reduced(season, last):
    """What the catalogue decides: solutions, reference stars, their magnitudes, zero points."""
    lens = season.lens()
    try:
        run_pipeline(lens, last=last)
        with reading(lens.engine) as connection:
            solved = [
                (row.image_relpath, row.pixel_scale, row.plate_solve_n_matched)
                for row in frames.all_frames(connection, lens.name)
            ]
            selection = stars.current_selection(connection, lens.name)
            chosen = {row.gaia_id: row.name for row in stars.stars_of(connection, lens.name, selection)}
            bands = catalog_star_photometry.c
            magnitudes = dict(
                connection.execute(
                    sa.select(bands.star_gaia_id, bands.mag).where(bands.combined_footprint_hash == selection)
                ).all()
            )
            zero = absolute_zeropoints.c
            points = connection.execute(
                sa.select(zero.zeropoint, zero.source_catalog)
                .where(zero.combined_footprint_hash == selection)
                .order_by(zero.frame_id)
            ).all()
    finally:
        lens.close()
    return solved, chosen, magnitudes, points


def assert_same_sky(one, other):
    """Solutions of the frames of the first, and stars, of two reductions."""
    scales = {row[0]: row[1] for row in other[0]}
    assert [row[1] for row in one[0]] == pytest.approx([scales[row[0]] for row in one[0]], rel=1e-6)
    assert one[1] == other[1]


def test_gaia_and_panstarrs_online_then_offline(server, season, reduced_season, tmp_path):
    """The same stars as from a file; then, the service gone, everything again from what was fetched."""
    from tests.seasons import relocated

    settings = server.settings()
    for path in season.raw[3:]:
        path.unlink()
    offline = relocated(season, tmp_path / "offline")
    for one in (season, offline):
        one.configure(
            stars={"gaia_provider": "gaia", **ONLINE},
            catalogs=settings,
            zero_points={"photometric_band": "r_panstarrs"},
        )
    by_service = reduced(season, ZERO_POINTS)
    by_file = reduced(reduced_season, ZERO_POINTS)
    assert_same_sky(by_service, by_file)
    assert {row[1] for row in by_service[3]} == {"panstarrs"}
    # Pan-STARRS's r is 0.1 brighter in these made-up magnitudes than G.
    gaia = Table.read(season.directory / "catalogue.ecsv")
    g = dict(zip(gaia["source_id"].astype(str), gaia["phot_g_mean_mag"], strict=True))
    for star, magnitude in by_service[2].items():
        assert magnitude == pytest.approx(g[star] + 0.1, abs=1e-6)
    assert len(by_service[2]) >= 5

    # The night without network: first refused, then fetched by day, then done.
    offline.configure(catalogs={"offline": True})
    with pytest.raises(ConfigurationError, match=r"catalogs: offline is true.*lcops catalog fetch LENS"):
        reduced(offline, ZERO_POINTS)
    fetch(offline.config_path)
    server.shutdown()
    server.server_close()
    again = reduced(offline, ZERO_POINTS)
    assert_same_sky(again, by_service)
    assert again[2] == by_service[2]
    np.testing.assert_allclose([row[0] for row in again[3]], [row[0] for row in by_service[3]], rtol=1e-6)


@pytest.mark.parametrize("protocol", ["tap", "cone"])
def test_vizier_and_what_it_does_not_know(server, season, reduced_season, protocol):
    """The stars of a file; of some, colour, motion or quality are not known: they stay unknown."""
    for path in season.raw[1:]:
        path.unlink()
    known = reduced(reduced_season, STARS)[1]
    no_colour, no_motion, no_quality = list(known)[:3]
    table = server.tables["I/355/gaiadr3"]
    for star, columns in ((no_colour, ["BPmag"]), (no_motion, ["pmRA", "pmDE"]), (no_quality, ["epsi"])):
        row = table["Source"].astype(str) == star
        for column in columns:
            table[column] = MaskedColumn(table[column], mask=row)
    season.configure(
        stars={"gaia_provider": "vizier", **ONLINE},
        catalogs=server.settings(vizier_protocol=protocol, vizier_url=f"{server.url}/{protocol}"),
    )
    lens = season.lens()
    results = run_pipeline(lens, last=STARS)
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        chosen = {row.gaia_id: row for row in stars.stars_of(connection, lens.name, selection)}
    lens.close()
    # The season cuts on the excess noise: of a star that has none it is not known that it is small.
    assert set(chosen) == set(known) - {no_quality}
    assert any(
        "1 have no value for max_astrometric_excess_noise" in note for note in results[-1].report.notes
    )
    assert (chosen[no_colour].bmag, chosen[no_motion].pmra, chosen[no_motion].pmdec) == (None, None, None)
    g, bp, rp = (star_column([*chosen.values()], name) for name in ("gmag", "bmag", "rmag"))
    magnitudes, _ = magnitudes_in_band("r_sdss", g, bp - rp)
    assert np.isnan(magnitudes[list(chosen).index(no_colour)])
    assert np.isfinite(magnitudes[list(chosen).index(no_motion)])

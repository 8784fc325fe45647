"""Bulk downloads: what they are complete for."""

import numpy as np
import pytest
from astropy.table import Table

from lightcurver_ops.catalogs.bulk import import_file
from lightcurver_ops.catalogs.cache import Cached
from lightcurver_ops.catalogs.gaia_archive import GaiaArchive
from lightcurver_ops.catalogs.panstarrs import Panstarrs
from lightcurver_ops.catalogs.regions import Disk
from lightcurver_ops.catalogs.vizier import Vizier
from lightcurver_ops.config.sections import Catalogs
from lightcurver_ops.errors import ConfigurationError
from tests.catalog_server import at_mast, at_vizier, panstarrs_of, star_field

LENS = (0.05, 40.0)


@pytest.fixture
def cache(tmp_path):
    """Makes an empty cache without network."""
    return lambda kind=GaiaArchive, **keys: Cached(kind(Catalogs(**keys)), tmp_path / "cache", offline=True)


def written(table: Table, path):
    table.write(path, format="ascii.csv")
    return path


def test_coverage_and_depth_follow_from_the_stars(cache, field, tmp_path):
    kept = import_file(cache(), written(field, tmp_path / "gaia.csv"), centre=LENS)
    # The field reaches 0.45 degrees to north and south, and 0.46 to the east and west.
    assert 0.4 < kept.radius_deg <= 0.45
    assert kept.max_gmag == field["phot_g_mean_mag"].max()
    inside = Disk(*LENS, 0.35)
    answer = cache().query(inside, max_gmag=19.0)
    expected = inside.contains(field["ra"], field["dec"]) & (np.asarray(field["phot_g_mean_mag"]) <= 19.0)
    assert answer["source_id"].tolist() == field["source_id"][expected].tolist()
    assert np.ma.getmaskarray(answer["pmra"]).tolist() == np.ma.getmaskarray(field["pmra"][expected]).tolist()


@pytest.mark.parametrize(
    ("disk", "depth"),
    [
        (Disk(*LENS, 0.47), 19.0),
        (Disk(0.3, 40.0, 0.3), 19.0),
        (Disk(*LENS, 0.2), 21.0),
        (Disk(*LENS, 0.2), None),
    ],
)
def test_what_lies_beyond_is_refused_not_answered_with_too_few_stars(cache, field, tmp_path, disk, depth):
    import_file(cache(), written(field, tmp_path / "gaia.csv"), centre=LENS)
    with pytest.raises(ConfigurationError, match=r"does not cover .*it has 0\.4"):
        cache().query(disk, max_gmag=depth)


def test_stated_coverage_is_taken(cache, field, tmp_path):
    path = written(field, tmp_path / "gaia.csv")
    kept = import_file(cache(), path, centre=LENS, radius_deg=0.25, max_gmag="all")
    assert (kept.radius_deg, kept.max_gmag) == (0.25, None)
    assert len(cache().query(Disk(*LENS, 0.25))) == kept.rows
    kept = import_file(cache(), path, centre=LENS, radius_deg=0.25, max_gmag=15.0)
    assert kept.rows == len(cache().query(Disk(*LENS, 0.25), max_gmag=15.0))
    field["phot_g_mean_mag"][5] = 20.9
    assert import_file(cache(), written(field, tmp_path / "deep.csv")).max_gmag is None


def test_the_names_of_other_services(cache, field, tmp_path):
    direct = import_file(cache(), written(field, tmp_path / "gaia.csv"), centre=LENS)
    vizier = import_file(cache(Vizier), written(at_vizier(field), tmp_path / "vizier.csv"), centre=LENS)
    assert (vizier.rows, vizier.identity) == (direct.rows, "vizier:I/355/gaiadr3")
    ps1 = panstarrs_of(field)
    one = import_file(cache(Panstarrs), written(ps1, tmp_path / "ps1.csv"), centre=LENS)
    two = import_file(
        cache(Panstarrs, panstarrs="mast"), written(at_mast(ps1), tmp_path / "mast.csv"), centre=LENS
    )
    assert one.rows == two.rows == direct.rows
    for keys in ({}, {"panstarrs": "mast"}):
        stars = cache(Panstarrs, **keys).query(Disk(*LENS, 0.3))
        assert 0 < stars["i_mag"].mask.sum() < len(stars) / 5
        assert not stars["g_mag"].mask.any()


def test_a_field_with_a_hole_or_none_around_the_lens(cache, tmp_path):
    stars = star_field(1500)
    path = written(stars[~Disk(0.2, 40.1, 0.3).contains(stars["ra"], stars["dec"])], tmp_path / "hole.csv")
    with pytest.raises(ConfigurationError, match=r"has no star within .* State it: --ra, --dec and --radius"):
        import_file(cache(), path, centre=LENS)
    with pytest.raises(ConfigurationError, match="do not show which disk around ra 9"):
        import_file(cache(), path, centre=(9.0, 40.0))
    with pytest.raises(ConfigurationError, match="do not show which disk"):
        import_file(cache(), written(stars[:10], tmp_path / "few.csv"))
    with pytest.raises(ConfigurationError, match="covers another part of the sky"):
        import_file(cache(), path, centre=(9.0, 40.0), radius_deg=0.1)


def test_files_without_what_is_needed(cache, field, tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"lacks the column source_id: name its columns source_id, ra"
    ):
        import_file(cache(), written(field["ra", "dec", "phot_g_mean_mag"], tmp_path / "a.csv"))
    with pytest.raises(ConfigurationError, match="lacks the column phot_g_mean_mag"):
        import_file(cache(), written(field["source_id", "ra", "dec"], tmp_path / "b.csv"))
    with pytest.raises(ConfigurationError, match="has no star: nothing"):
        import_file(cache(), written(field[:0], tmp_path / "c.csv"))
    with pytest.raises(ConfigurationError, match="does not exist"):
        import_file(cache(), tmp_path / "d.csv")

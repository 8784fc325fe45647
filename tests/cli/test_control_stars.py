"""What `lcops` shows of the control stars."""

import json

from lightcurver_ops.bookkeeping import photometry
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.storage.tables import read_table


def test_the_light_curve_comes_with_what_the_control_stars_show(lcops, controlled_season, tmp_path):
    lens = controlled_season.lens()
    with reading(lens.engine) as connection:
        record = json.loads(photometry.publication_of(connection, lens.name, "r").control_stars)
    lens.close()
    names = ", ".join(star["name"] for star in record["stars"])
    title, comment, common, header, *_ = lcops("lightcurve", controlled_season.config_path).out.splitlines()
    assert title.startswith("small, filter r")
    assert comment == (
        f"# control stars {names}: scatter / quoted error {record['error_factor']:.2f} +- "
        f"{record['error_factor_uncertainty']:.2f}"
    )
    assert common.startswith("# error that all points of an image share")
    assert header.split()[0] == "mjd"
    path = tmp_path / "shown.csv"
    path.write_text(lcops("lightcurve", controlled_season.config_path, "--format", "csv").out)
    assert len(read_table(path)["mjd"]) == 3


def test_the_list_of_stars_shows_which_are_control_stars(lcops, controlled_season):
    lens = controlled_season.lens()
    with reading(lens.engine) as connection:
        record = json.loads(photometry.publication_of(connection, lens.name, "r").control_stars)
    lens.close()
    rows = [row.split() for row in lcops("stars", "list", controlled_season.config_path).out.splitlines()]
    marked = {row[0] for row in rows if row.count("control") == 2}
    assert marked == {star["name"] for star in record["stars"]}


def test_a_name_that_no_star_has_still_lists_the_stars(lcops, season_copy):
    season = season_copy()
    season.configure(stars={"stars_to_use_control": ["zz"]})
    result = lcops("stars", "list", season.config_path)
    assert result.code == 0
    assert "\na " in result.out
    result = lcops("run", "-q", season.config_path)
    assert result.code == 2
    assert "stars.stars_to_use_control: no reference star is called 'zz'" in result.err

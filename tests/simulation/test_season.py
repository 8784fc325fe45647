import json
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.simulation import (
    Detector,
    FilterOptions,
    HostOptions,
    LensOptions,
    OpticsOptions,
    SeasonOptions,
    StarOptions,
    Truth,
    expected_flux_errors,
    load_truth,
    simulate_season,
)
from lightcurver_ops.simulation.exposures import night_exposures
from lightcurver_ops.simulation.field import expected_rate, make_sources, star_magnitudes
from lightcurver_ops.simulation.lens import image_magnitudes

SMALL = SeasonOptions(
    name="small",
    seed=11,
    n_nights=3,
    exposures_per_night=2,
    shape=(120, 140),
    rotation_deg=30.0,
    with_wcs=True,
    stars=StarOptions(number=25.0, separation_arcsec=4.0, proper_motion_mas_yr=80.0),
)


@pytest.fixture(scope="module")
def season(tmp_path_factory) -> Truth:
    return simulate_season(SMALL, tmp_path_factory.mktemp("season"))


def light_of(options, sources, exposure, row):
    """The noiseless image of one source: the frame with it, less the frame without it."""
    without = sources.copy()
    without["phot_g_mean_mag"][row] = 60.0
    without["phot_bp_mean_mag"][row] = 61.0
    without["phot_rp_mean_mag"][row] = 60.0
    return expected_rate(options, sources, exposure) - expected_rate(options, without, exposure)


def central_star(truth, exposure):
    """The row of a star far from the edges of the frame, of a high proper motion, and its catalogue pixel."""
    sources = truth.sources()
    catalogue = Table.read(truth.directory / "catalogue.ecsv")
    x, y = exposure.wcs.world_to_pixel(SkyCoord(sources["ra"], sources["dec"]))
    ny, nx = truth.options.shape
    margin = np.minimum.reduce([x, y, nx - x, ny - y])
    usable = (np.asarray(sources["kind"]) == "star") & (margin > 25)
    usable &= np.isin(sources["source_id"], catalogue["source_id"])
    motion = np.hypot(sources["pmra"].value, sources["pmdec"].value)
    return sources, catalogue, int(np.argmax(np.where(usable, motion, -1.0)))


def test_an_isolated_star_has_its_catalogue_flux(season):
    exposure = night_exposures(SMALL, 0)[0]
    sources, _, row = central_star(season, exposure)
    magnitude = star_magnitudes(SMALL, sources, "r", exposure.mjd)[row]
    zeropoint = season.frames["zeropoint"][season.frames["file"] == exposure.file][0]
    wide = replace(SMALL, shape=(600, 600), pointing_scatter_arcsec=0.0)
    there = night_exposures(wide, 0)[0]
    image = light_of(wide, sources, replace(there, transparency=exposure.transparency), row)
    assert image.sum() == pytest.approx(10 ** (0.4 * (zeropoint - magnitude)), rel=1e-3)


def test_catalogue_proper_motion_and_wcs_lead_to_the_pixel(season):
    # Coma would move the centroid of the core against that of all the light.
    options = replace(
        SMALL, refraction=False, optics=OpticsOptions(aberrations=(0.0,) * 8, aberration_scatter=0.0)
    )
    for exposure in (night_exposures(options, 0)[0], night_exposures(options, 2)[1]):
        sources, catalogue, row = central_star(season, exposure)
        star = catalogue[catalogue["source_id"] == sources["source_id"][row]][0]
        moved = SkyCoord(
            star["ra"] * u.deg,
            star["dec"] * u.deg,
            pm_ra_cosdec=star["pmra"] * u.mas / u.yr,
            pm_dec=star["pmdec"] * u.mas / u.yr,
            distance=1 * u.kpc,
            obstime=Time(star["ref_epoch"], format="jyear"),
        ).apply_space_motion(Time(exposure.mjd, format="mjd"))
        header = fits.getheader(season.directory / "raw" / exposure.file)
        x, y = WCS(header).world_to_pixel(moved)
        still = WCS(header).world_to_pixel(SkyCoord(star["ra"] * u.deg, star["dec"] * u.deg))
        assert np.hypot(x - still[0], y - still[1]) > 0.5  # the proper motion matters here
        image = light_of(options, sources, exposure, row)
        column, line = round(float(x)), round(float(y))
        box = image[line - 15 : line + 16, column - 15 : column + 16]
        rows, columns = np.indices(box.shape)
        # A window that follows the star makes the centroid immune to its wings.
        cx, cy = float(x) - column + 15.3, float(y) - line + 14.7
        for _ in range(30):
            weight = box * np.exp(-((columns - cx) ** 2 + (rows - cy) ** 2) / (2 * 3.0**2))
            cx += 2 * ((weight * columns).sum() / weight.sum() - cx)
            cy += 2 * ((weight * rows).sum() / weight.sum() - cy)
        assert (cx + column - 15, cy + line - 15) == pytest.approx((float(x), float(y)), abs=0.01)


def test_frame_is_oriented_as_asked():
    for flip in (False, True):
        options = replace(SMALL, flip=flip)
        wcs = night_exposures(options, 0)[0].wcs
        middle, above, right = (wcs.pixel_to_world(60 + dx, 60 + dy) for dx, dy in ((0, 0), (0, 20), (20, 0)))
        assert middle.position_angle(above).wrap_at("180d").deg == pytest.approx(30.0, abs=0.01)
        sideways = 30.0 + (90.0 if flip else -90.0)
        assert middle.position_angle(right).wrap_at("180d").deg == pytest.approx(sideways, abs=0.01)
        assert middle.separation(right).arcsec == pytest.approx(20 * SMALL.plate_scale, rel=1e-4)


def test_times_and_headers_agree_with_the_truth(season):
    for row in season.frames:
        header = fits.getheader(season.directory / "raw" / row["file"])
        middle = Time(header["DATE-OBS"], scale="utc").mjd + header["EXPTIME"] / 86400 / 2
        assert middle == pytest.approx(row["mjd"], abs=1e-8)
        assert (header["FILTER"], header["GAIN"]) == ("r", SMALL.detector.gain)
    nights = np.floor(season.frames["mjd"] - 0.5)
    assert len(set(nights)) == 3
    wanted = {
        "source_id",
        "ra",
        "dec",
        "phot_g_mean_mag",
        "pmra",
        "pmdec",
        "ref_epoch",
        "astrometric_excess_noise",
    }
    assert wanted < set(Table.read(season.directory / "catalogue.ecsv").colnames)


def test_pixels_do_not_depend_on_how_the_season_is_written(season, tmp_path):
    simulate_season(SMALL, tmp_path, nights=[2])
    truth = simulate_season(replace(SMALL, n_nights=9), tmp_path, nights=[0])
    assert list(truth.frames["night"]) == [0, 0, 2, 2]
    for name in truth.frames["file"]:
        assert (tmp_path / "raw" / name).read_bytes() == (season.directory / "raw" / name).read_bytes()
    assert not list(tmp_path.rglob("*.part"))
    other = simulate_season(replace(SMALL, seed=12), tmp_path / "other", nights=[0])
    first = truth.frames["file"][0]
    assert other.frames["file"][0] == first
    here, there = (fits.getdata(place / "raw" / first) for place in (tmp_path, tmp_path / "other"))
    assert not np.array_equal(here, there)


def test_stars_of_a_frame_are_listed_as_they_are_drawn(season):
    name = season.frames["file"][3]
    exposure = season.exposure(name)
    points = season.point_sources(name)
    data = fits.getdata(season.directory / "raw" / name) * SMALL.detector.gain / SMALL.exptime - exposure.sky
    stars = points[(points["kind"] == "star") & (points["flux"] > 500) & (points["flux"] < 3000)]
    bad = SMALL.detector.bad_column
    inside = [
        0 < star["x"] - 12 < 116 and 0 < star["y"] - 12 < 96 and abs(star["x"] - bad) > 12 for star in stars
    ]
    stars = stars[inside]
    assert len(stars) > 2
    rows, columns = np.indices(data.shape)
    for star in stars:
        near = (
            np.hypot(columns - star["x"], rows - star["y"]) < 2 * exposure.seeing_arcsec / SMALL.plate_scale
        )
        # Two FWHM of the seeing hold 97 % of its light; telescope, sky gradient, neighbours and noise make the rest.
        assert data[near].sum() / star["flux"] == pytest.approx(0.95, abs=0.04)


def test_truth_survives_its_files(season):
    again = load_truth(season.directory)
    assert again.options == SMALL
    assert list(again.frames["file"]) == list(season.frames["file"])
    np.testing.assert_allclose(again.frames["flux_D"], season.frames["flux_D"], rtol=1e-12)


def test_another_season_in_the_same_directory_is_refused(season):
    with pytest.raises(ConfigurationError, match="exptime"):
        simulate_season(replace(SMALL, exptime=10.0), season.directory)
    with pytest.raises(ConfigurationError, match="simulate one there"):
        load_truth(season.directory / "raw")


def test_a_season_of_another_version_is_refused(season, tmp_path):
    record = json.loads((season.directory / "truth.json").read_text())
    record["options"]["moffat_beta"] = 3.0
    (tmp_path / "truth.json").write_text(json.dumps(record))
    (tmp_path / "truth.ecsv").write_text((season.directory / "truth.ecsv").read_text())
    with pytest.raises(ConfigurationError, match="another version"):
        simulate_season(SMALL, tmp_path)


def test_raw_frame_has_the_noise_of_its_photons(season):
    exposure = night_exposures(SMALL, 1)[0]
    rate = expected_rate(SMALL, make_sources(SMALL), exposure)
    data = fits.getdata(season.directory / "raw" / exposure.file).astype(float)
    assert data.dtype == float
    detector, exptime = SMALL.detector, SMALL.exptime
    expected = rate * exptime / detector.gain
    sigma = np.sqrt(rate * exptime + detector.readnoise**2 + detector.gain**2 / 12) / detector.gain
    good = np.ones(data.shape, bool)
    good[:, detector.bad_column] = False
    pulls = ((data - expected) / sigma)[good & (expected < 0.9 * detector.saturation_adu)]
    pulls = pulls[np.abs(pulls) < 6]  # cosmics
    assert pulls.std() == pytest.approx(1.0, abs=0.02)
    assert abs(pulls.mean()) < 0.03


def test_images_of_the_lens_have_the_fluxes_of_the_truth(season):
    """By moving one image's magnitude: the rest of the frame cancels."""
    exposure = night_exposures(SMALL, 1)[1]
    row = season.frames[season.frames["file"] == exposure.file][0]
    magnitudes = np.array([row[f"mag_{label}"] for label in "ABCD"])
    sources = make_sources(SMALL)
    positions = season.image_positions()

    def frame(values):
        curves = [lambda mjd, value=value: np.full(np.shape(mjd), value) for value in values]
        return expected_rate(replace(SMALL, lens=replace(SMALL.lens, light_curves=curves)), sources, exposure)

    for j, label in enumerate("ABCD"):
        dark = magnitudes.copy()
        dark[j] = 60.0
        image = frame(magnitudes) - frame(dark)
        assert image.sum() == pytest.approx(exposure.transparency * row[f"flux_{label}"], rel=3e-3)
        x, y = exposure.wcs.world_to_pixel_values(*positions[label])
        rows, columns = np.indices(image.shape)
        near = np.hypot(columns - x, rows - y) < 12
        assert (image * columns)[near].sum() / image[near].sum() == pytest.approx(x, abs=0.03)
        assert (image * rows)[near].sum() / image[near].sum() == pytest.approx(y, abs=0.03)


@pytest.mark.parametrize("flip", [False, True])
def test_ideal_cutouts_are_what_the_frames_show(flip, tmp_path):
    options = replace(
        SMALL,
        flip=flip,
        stars=replace(SMALL.stars, number=0.0, galaxies=0.0),
        lens=replace(SMALL.lens, host=HostOptions()),
        psf_varies=0.02,
        optics=OpticsOptions(pattern=0.2),
        sky_gradient=0.0,
    )
    truth = simulate_season(options, tmp_path, nights=[0])
    roi = truth.roi(size=32)
    for e, name in enumerate(truth.frames["file"]):
        exposure = truth.exposure(name)
        light = (expected_rate(options, truth.sources(), exposure) - exposure.sky) / exposure.transparency
        x, y = exposure.wcs.world_to_pixel_values(*options.lens.center)
        left, bottom = int(np.floor(x)) - 15, int(np.floor(y)) - 15
        lifted = exposure.lifted(options.lens.bp_rp)
        assert x + lifted[0] - (left + 15.5) == pytest.approx(roi.translations[e, 0])
        cutout = light[bottom : bottom + 32, left : left + 32]
        np.testing.assert_allclose(cutout, roi.model[e], atol=1e-3 * roi.model[e].max())
        assert cutout.sum() == pytest.approx(roi.model[e].sum(), rel=2e-3)
    errors = 1.0857 * expected_flux_errors(roi) / roi.flux
    assert (errors > 0.003).all()
    assert (errors < 0.06).all()
    assert (np.diff(errors.mean(axis=0)) > 0).all()


def test_light_curves_repeat_after_their_delays():
    lens = LensOptions(delays_days=(0.0, 10.0, 20.5, 40.0))
    mjd = 60300.0 + np.arange(0, 200, 0.5)
    curves = image_magnitudes(lens, 3, 60281.0, mjd) - np.array(lens.magnitudes)[:, None]
    np.testing.assert_allclose(curves[1][20:], curves[0][:-20], atol=1e-9)
    np.testing.assert_allclose(curves[2][41:], curves[0][:-41], atol=1e-9)
    alone = image_magnitudes(lens, 3, 60281.0, mjd[7:8])[:, 0] - np.array(lens.magnitudes)
    np.testing.assert_allclose(alone, curves[:, 7], atol=1e-12)


def test_damped_random_walk_has_its_structure_function():
    lens = LensOptions(variability_mag=0.3, timescale_days=20.0)
    mjd = 60300.0 + np.arange(0, 40000, 5.0)
    curve = image_magnitudes(lens, 5, 60281.0, mjd)[0]
    assert curve.std() == pytest.approx(0.3, rel=0.08)
    structure = np.std(curve[4:] - curve[:-4])
    assert structure == pytest.approx(0.3 * np.sqrt(2 * (1 - np.exp(-1.0))), rel=0.08)


def test_filters_differ_by_zero_point_and_colour():
    filters = (FilterOptions("r", 25.5, (0.0,)), FilterOptions("g", 25.1, (0.0, -0.6)))
    options = replace(SMALL, filters=filters)
    exposures = night_exposures(options, 0)
    assert [exposure.filter for exposure in exposures] == ["r", "g", "r", "g"]
    sources = make_sources(options)
    stars = np.asarray(sources["kind"]) == "star"
    r, g = (star_magnitudes(options, sources, name, 60300.0)[stars] for name in "rg")
    colour = (sources["phot_bp_mean_mag"] - sources["phot_rp_mean_mag"]).value[stars]
    np.testing.assert_allclose(g - r, 0.6 * colour)


def test_the_variable_star_varies_alone():
    options = replace(SMALL, stars=replace(SMALL.stars, variable=(2, 0.3, 10.0)))
    sources = make_sources(options)
    magnitudes = [star_magnitudes(options, sources, "r", options.first_mjd + day) for day in (0.0, 2.5)]
    change = magnitudes[1] - magnitudes[0]
    (row,) = np.flatnonzero(np.abs(np.nan_to_num(change)) > 0)
    stars = np.flatnonzero(np.asarray(sources["kind"]) == "star")
    assert row == stars[2]
    assert change[row] == pytest.approx(0.3)


def test_clouds_come_with_the_nights():
    options = replace(SMALL, cloudy_fraction=0.5, transparency_scatter=0.0)
    nights = np.array([np.mean([one.transparency for one in night_exposures(options, n)]) for n in range(60)])
    cloudy = nights < 0.7
    assert 0.3 < cloudy.mean() < 0.7
    np.testing.assert_array_equal(nights[~cloudy], 1.0)


def test_lists_of_different_length_are_explained():
    with pytest.raises(ConfigurationError, match="delays_days has 1 entries, but labels names 2"):
        LensOptions(
            labels=("A", "B"), offsets_arcsec=((0, 0), (1, 1)), magnitudes=(19, 20), delays_days=(0.0,)
        )


def test_no_lens_needed(tmp_path):
    lens = LensOptions(labels=(), offsets_arcsec=(), magnitudes=(), delays_days=(), galaxy=None)
    truth = simulate_season(replace(SMALL, lens=lens, detector=Detector()), tmp_path, nights=[0])
    assert len(truth.frames) == 2
    assert set(truth.sources()["kind"]) == {"star"}

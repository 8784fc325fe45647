"""The sky of a season: its catalogue, its magnitudes, and the light that reaches the detector."""

import galsim
import numpy as np
from astropy import units as u
from astropy.table import Table

from .air import MEAN_COLOUR
from .exposures import Exposure, tangent_plane
from .galaxies import add_extended, lens_light, on_pixels, sersic
from .lens import image_magnitudes
from .options import FilterOptions, SeasonOptions
from .psf import Array

J2016 = 57388.5  # MJD of the reference epoch of the catalogue
FIRST_ID = 2_900_000_000_000_000_000
MARGIN_ARCSEC = 15.0  # stars this far off the frames still throw light on them
WING = 0.02  # standard deviations of the sky's noise below which the wing of a star is not drawn
REACH = 15.0  # FWHM to which it is drawn at least: outside is a thousandth of the flux
LENS_ARCSEC = 14.0  # from the lens's centre within which its galaxy and arcs are drawn


def make_sources(options: SeasonOptions) -> Table:
    """All sources of the field, nearest to the lens first: the columns of the catalogue, and `kind`.

    `kind` is star, image (one row per image of the lens, in the order of the labels) or galaxy.
    """
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(0,)))
    stars = options.stars
    east, north = _star_places(options, rng)
    count = east.size
    bright, faint = (10 ** (stars.slope * magnitude) for magnitude in stars.magnitudes)
    g = np.log10(rng.uniform(bright, faint, count)) / stars.slope
    colour = np.clip(rng.normal(*stars.bp_rp, count), 0.5, 2.0)
    motion = rng.normal(0, stars.proper_motion_mas_yr, (2, count))
    lens = options.lens
    kinds = ["star"] * count + ["image"] * len(lens.labels)
    extended = list(zip(lens.offsets_arcsec, lens.magnitudes, strict=True))
    if lens.galaxy is not None:
        kinds.append("galaxy")
        extended.append((lens.galaxy.offset_arcsec, lens.galaxy.magnitude))
    east = np.concatenate([east, [offset[0] for offset, _ in extended]])
    north = np.concatenate([north, [offset[1] for offset, _ in extended]])
    g = np.concatenate([g, [magnitude for _, magnitude in extended]])
    colour = np.concatenate([colour, np.full(len(extended), lens.bp_rp)])
    motion = np.concatenate([motion, np.zeros((2, len(extended)))], axis=1)
    is_star = np.array(kinds) == "star"
    ra, dec = tangent_plane(*lens.center).wcs_pix2world(east, north, 0)
    table = Table(
        {
            "source_id": FIRST_ID + 128 * np.arange(g.size, dtype=np.int64),
            "ra": ra * u.deg,
            "dec": dec * u.deg,
            "phot_g_mean_mag": g * u.mag,
            "phot_bp_mean_mag": (g + 0.45 * colour) * u.mag,
            "phot_rp_mean_mag": (g - 0.55 * colour) * u.mag,
            "pmra": motion[0] * u.mas / u.yr,
            "pmdec": motion[1] * u.mas / u.yr,
            "ref_epoch": np.full(g.size, 2016.0) * u.yr,
            "astrometric_excess_noise": np.where(is_star, 0.1, 8.0) * u.mas,
            "astrometric_excess_noise_sig": np.where(is_star, 0.5, 200.0),
            "phot_g_mean_flux_over_error": np.where(
                is_star, 1 / np.hypot(4e-4, 1e-3 * 10 ** (0.3 * (g - 16))), 40.0
            ),
            "kind": kinds,
        }
    )
    # Stars by distance, after the lens, which keeps its order.
    return table[np.argsort(np.where(is_star, np.hypot(east, north), 0.0), kind="stable")]


def catalogue(options: SeasonOptions, sources: Table) -> Table:
    """What a catalogue knows of the sources: Gaia DR3 columns, down to the limit; images and galaxy are in it too."""
    known = sources[sources["phot_g_mean_mag"] < options.stars.catalogue_limit]
    known.remove_column("kind")
    return known


def places(sources: Table, mjd: float) -> tuple[Array, Array]:
    """ICRS (ra, dec) in degrees (S,) at this date: the catalogue's, moved by the proper motions."""
    years = (mjd - J2016) / 365.25
    dec = np.asarray(sources["dec"])
    ra = np.asarray(sources["ra"]) + years * np.asarray(sources["pmra"]) / 3.6e6 / np.cos(np.deg2rad(dec))
    return ra, dec + years * np.asarray(sources["pmdec"]) / 3.6e6


def star_magnitudes(options: SeasonOptions, sources: Table, name: str, mjd: float) -> Array:
    """True magnitudes (S,) in a filter at this date, of the rows of kind star (images and galaxy: NaN)."""
    band: FilterOptions = options.filter(name)
    g, colour = (
        np.asarray(sources["phot_g_mean_mag"]),
        np.asarray(sources["phot_bp_mean_mag"] - sources["phot_rp_mean_mag"]),
    )
    magnitudes = g - np.polynomial.polynomial.polyval(colour, band.colour_terms)
    is_star = np.asarray(sources["kind"]) == "star"
    if options.stars.variable is not None:
        rank, amplitude, period = options.stars.variable
        row = np.flatnonzero(is_star)[rank]
        magnitudes[row] += amplitude * np.sin(2 * np.pi * (mjd - options.first_mjd) / period)
    return np.where(is_star, magnitudes, np.nan)


def point_sources(options: SeasonOptions, sources: Table, exposure: Exposure) -> Table:
    """Stars and images as an exposure has them: source_id, kind, x, y (pixels, refraction included), bp_rp, magnitude,
    flux (e-/s reaching it)."""
    magnitudes = star_magnitudes(options, sources, exposure.filter, exposure.mjd)
    kind = np.asarray(sources["kind"])
    when = np.array([exposure.mjd])
    magnitudes[kind == "image"] = image_magnitudes(options.lens, options.seed, options.first_mjd, when)[:, 0]
    colour = np.asarray(sources["phot_bp_mean_mag"] - sources["phot_rp_mean_mag"])
    x, y = np.array(exposure.wcs.wcs_world2pix(*places(sources, exposure.mjd), 0)) + exposure.lifted(colour).T
    zeropoint = options.filter(exposure.filter).zeropoint
    columns = {
        "source_id": sources["source_id"],
        "kind": kind,
        "x": x,
        "y": y,
        "bp_rp": colour,
        "magnitude": magnitudes,
        "flux": exposure.transparency * 10 ** (0.4 * (zeropoint - magnitudes)),
    }
    return Table(columns)[kind != "galaxy"]


def make_contaminants(options: SeasonOptions, sources: Table) -> Table:
    """What no catalogue knows: ra, dec, phot_g_mean_mag, colour bp_rp, radius (arcsec; 0 for stars), axis_ratio, angle.

    Companions of the stars, half of them small galaxies, and galaxies anywhere but near the lens.
    """
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(5,)))
    stars = options.stars
    plane = tangent_plane(*options.lens.center)
    known = sources[np.asarray(sources["kind"]) == "star"]
    east, north = plane.wcs_world2pix(known["ra"], known["dec"], 0)
    chosen = rng.uniform(size=len(known)) < stars.companions
    distance = rng.uniform(*stars.companion_arcsec, len(known))
    angle = rng.uniform(0, 2 * np.pi, len(known))
    companions = np.stack([east + distance * np.sin(angle), north + distance * np.cos(angle)])[:, chosen]
    contrast = rng.uniform(*stars.companion_contrast, len(known))
    magnitude = (np.asarray(known["phot_g_mean_mag"]) + contrast)[chosen]
    half = _half_width(options)
    ny, nx = options.shape
    count = round(stars.galaxies * (2 * half / options.plate_scale) ** 2 / (ny * nx))
    places = rng.uniform(-half, half, (2, count))
    far = np.hypot(*places) > stars.clear_radius_arcsec
    places = np.concatenate([companions, places[:, far]], axis=1)
    magnitude = np.concatenate([magnitude, rng.uniform(*stars.galaxy_magnitudes, count)[far]])
    size = magnitude.size
    is_galaxy = (np.arange(size) >= companions.shape[1]) | (rng.uniform(size=size) < 0.5)
    ra, dec = plane.wcs_pix2world(*places, 0)
    return Table(
        {
            "ra": ra,
            "dec": dec,
            "phot_g_mean_mag": magnitude,
            "bp_rp": np.clip(rng.normal(1.4, 0.4, size), 0.5, 2.5),
            "radius": np.where(is_galaxy, rng.uniform(0.2, 0.7, size), 0.0),
            "axis_ratio": rng.uniform(0.4, 1.0, size),
            "angle": rng.uniform(0.0, 180.0, size),
        }
    )


def expected_rate(
    options: SeasonOptions, sources: Table, exposure: Exposure, contaminants: Table | None = None
) -> Array:
    """The noiseless frame (ny, nx), e-/s: all that shines and the sky, before the detector.

    `contaminants`: see `make_contaminants`, made if not given.
    """
    ny, nx = options.shape
    slope_x, slope_y = exposure.gradient
    gradient = slope_x * np.linspace(-0.5, 0.5, nx) + slope_y * np.linspace(-0.5, 0.5, ny)[:, None]
    rate = exposure.sky * np.clip(1 + gradient, 0.1, None)
    for row in point_sources(options, sources, exposure):
        _add_star(rate, options, exposure, *(float(row[name]) for name in ("x", "y", "flux", "bp_rp")))
    _add_contaminants(
        rate,
        options,
        exposure,
        make_contaminants(options, sources) if contaminants is None else contaminants,
    )
    scene = exposure_lens_light(options, exposure)
    if scene is not None:
        x, y = (float(one) for one in exposure.wcs.wcs_world2pix([options.lens.center], 0)[0])
        scene *= exposure.transparency
        half = round(LENS_ARCSEC / options.plate_scale)
        add_extended(rate, scene, exposure.psf_at(x, y).profile(), x, y, half)
    return rate


def exposure_lens_light(options: SeasonOptions, exposure: Exposure) -> galsim.GSObject | None:
    """Galaxy and arcs in the pixels of an exposure at full transparency, the lens's centre at the origin."""
    lens = options.lens
    galaxy_colour = MEAN_COLOUR if lens.galaxy is None else lens.galaxy.bp_rp
    return lens_light(
        lens,
        options.filter(exposure.filter).zeropoint,
        exposure.to_pixels,
        (exposure.lifted(galaxy_colour), exposure.lifted(lens.bp_rp)),
    )


def _add_star(
    rate: Array, options: SeasonOptions, exposure: Exposure, x: float, y: float, flux: float, bp_rp: float
) -> None:
    # Far from its centre a Kolmogorov profile falls with the power 11/3 of the distance (0.024 flux FWHM^(5/3)).
    exptime, seeing = options.exptime, exposure.psf.seeing
    noise = np.sqrt(exposure.sky * exptime + options.detector.readnoise**2) / exptime
    half = (0.024 * flux * seeing ** (5 / 3) / (WING * noise)) ** (3 / 11)
    ny, nx = rate.shape
    half = int(np.ceil(max(half, REACH * seeing)))
    if -half < x < nx + half and -half < y < ny + half:
        exposure.psf_at(x, y, bp_rp).add_to(rate, x, y, flux, half)


def _add_contaminants(rate: Array, options: SeasonOptions, exposure: Exposure, others: Table) -> None:
    zeropoint = options.filter(exposure.filter).zeropoint
    x, y = np.array(exposure.wcs.wcs_world2pix(others["ra"], others["dec"], 0))
    ny, nx = rate.shape
    edge = MARGIN_ARCSEC / options.plate_scale
    near = (x > -edge) & (x < nx + edge) & (y > -edge) & (y < ny + edge)
    x, y = np.stack([x, y]) + exposure.lifted(others["bp_rp"]).T
    band = options.filter(exposure.filter)
    magnitude = others["phot_g_mean_mag"] - np.polynomial.polynomial.polyval(
        others["bp_rp"], band.colour_terms
    )
    flux = exposure.transparency * 10 ** (0.4 * (zeropoint - np.asarray(magnitude)))
    for index in np.flatnonzero(near):
        place = float(x[index]), float(y[index])
        one = others[index]
        if one["radius"] == 0:
            _add_star(rate, options, exposure, *place, float(flux[index]), float(one["bp_rp"]))
            continue
        galaxy = on_pixels(
            sersic(1.0, one["radius"], one["axis_ratio"], one["angle"]).withFlux(float(flux[index])),
            exposure.to_pixels,
        )
        half = round((5 * one["radius"] + 2.5 * exposure.seeing_arcsec) / options.plate_scale)
        # They disturb whatever they look like in detail: the seeing alone is quicker.
        add_extended(rate, galaxy, exposure.psf_at(*place).seeing(), *place, half)


def _star_places(options: SeasonOptions, rng: np.random.Generator) -> tuple[Array, Array]:
    """Offsets in arcsec, east and north of the lens, wide enough for every dither and rotation."""
    ny, nx = options.shape
    stars, scale = options.stars, options.plate_scale
    half = _half_width(options)
    count = round(stars.number * (2 * half) ** 2 / (ny * nx * scale**2))
    kept: list[Array] = []
    for place in rng.uniform(-half, half, (count, 2)):
        near_lens = np.hypot(*place) < stars.clear_radius_arcsec
        crowded = kept and np.hypot(*(np.array(kept) - place).T).min() < stars.separation_arcsec
        if not near_lens and not crowded:
            kept.append(place)
    east, north = np.array(kept).reshape(-1, 2).T
    return east, north


def _half_width(options: SeasonOptions) -> float:
    """Of the sky around the lens that reaches the frames, arcsec."""
    diagonal = options.plate_scale * np.hypot(*options.shape)
    return float(0.5 * diagonal + 5 * options.pointing_scatter_arcsec + MARGIN_ARCSEC)

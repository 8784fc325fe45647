"""The sky of a season: its catalogue, its magnitudes, and the light that reaches the detector."""

import numpy as np
from astropy import units as u
from astropy.table import Table

from .exposures import Exposure, tangent_plane
from .lens import image_magnitudes
from .options import FilterOptions, GalaxyOptions, SeasonOptions
from .profiles import Array, draw_points
from .roi import GalaxyOnPixels

J2016 = 57388.5  # MJD of the reference epoch of the catalogue
FIRST_ID = 2_900_000_000_000_000_000
MARGIN_ARCSEC = 15.0  # stars this far off the frames still throw light on them
LOSS = 1e-4  # fraction of a star's flux that its box misses


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
    """Stars and images as an exposure has them: source_id, kind, x, y (pixels), magnitude, flux (e-/s reaching it)."""
    magnitudes = star_magnitudes(options, sources, exposure.filter, exposure.mjd)
    kind = np.asarray(sources["kind"])
    when = np.array([exposure.mjd])
    magnitudes[kind == "image"] = image_magnitudes(options.lens, options.seed, options.first_mjd, when)[:, 0]
    x, y = exposure.wcs.wcs_world2pix(*places(sources, exposure.mjd), 0)
    zeropoint = options.filter(exposure.filter).zeropoint
    columns = {
        "source_id": sources["source_id"],
        "kind": kind,
        "x": x,
        "y": y,
        "magnitude": magnitudes,
        "flux": exposure.transparency * 10 ** (0.4 * (zeropoint - magnitudes)),
    }
    return Table(columns)[kind != "galaxy"]


def expected_rate(options: SeasonOptions, sources: Table, exposure: Exposure) -> Array:
    """The noiseless frame (ny, nx), e-/s: stars, images, galaxy and sky, before the detector."""
    points = point_sources(options, sources, exposure)
    x, y, flux = (np.asarray(points[name]) for name in ("x", "y", "flux"))
    rate = draw_points(options.shape, x, y, flux, exposure.psf_at(x, y), LOSS)
    if options.lens.galaxy is not None:
        galaxy = galaxy_on_pixels(options, exposure, options.lens.galaxy)
        psf = exposure.psf_at(np.array([galaxy.x]), np.array([galaxy.y])).of_source(0)
        rate += exposure.transparency * galaxy.draw(options.shape, psf, galaxy.x, galaxy.y)
    ny, nx = options.shape
    slope_x, slope_y = exposure.gradient
    gradient = slope_x * np.linspace(-0.5, 0.5, nx) + slope_y * np.linspace(-0.5, 0.5, ny)[:, None]
    return rate + exposure.sky * np.clip(1 + gradient, 0.1, None)


def galaxy_on_pixels(options: SeasonOptions, exposure: Exposure, galaxy: GalaxyOptions) -> GalaxyOnPixels:
    """The lens galaxy in the pixels of an exposure, at full transparency."""
    scale = options.plate_scale
    sky = tangent_plane(*options.lens.center).wcs_pix2world([galaxy.offset_arcsec], 0)
    x, y = exposure.wcs.wcs_world2pix(sky, 0)[0]
    angle = np.deg2rad(galaxy.position_angle_deg)
    along = np.linalg.solve(exposure.wcs.wcs.cd * 3600, [np.sin(angle), np.cos(angle)])
    return GalaxyOnPixels(
        flux=10 ** (0.4 * (options.filter(exposure.filter).zeropoint - galaxy.magnitude)),
        x=float(x),
        y=float(y),
        effective_radius=galaxy.effective_radius_arcsec / scale,
        sersic_index=galaxy.sersic_index,
        axis_ratio=galaxy.axis_ratio,
        angle=float(np.rad2deg(np.arctan2(along[1], along[0]))),
    )


def _star_places(options: SeasonOptions, rng: np.random.Generator) -> tuple[Array, Array]:
    """Offsets in arcsec, east and north of the lens, wide enough for every dither and rotation."""
    ny, nx = options.shape
    stars, scale = options.stars, options.plate_scale
    half = 0.5 * scale * np.hypot(ny, nx) + 5 * options.pointing_scatter_arcsec + MARGIN_ARCSEC
    count = round(stars.number * (2 * half) ** 2 / (ny * nx * scale**2))
    kept: list[Array] = []
    for place in rng.uniform(-half, half, (count, 2)):
        near_lens = np.hypot(*place) < stars.clear_radius_arcsec
        crowded = kept and np.hypot(*(np.array(kept) - place).T).min() < stars.separation_arcsec
        if not near_lens and not crowded:
            kept.append(place)
    east, north = np.array(kept).reshape(-1, 2).T
    return east, north

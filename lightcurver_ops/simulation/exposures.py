"""The conditions of every exposure of a season: when, where to, through which air."""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS

from .options import SeasonOptions
from .profiles import Array, Psf
from .stamps import draw_psfs, vary_over_field

OVERHEAD = 60.0  # s between exposures
HALF_NIGHT = 3.5 / 24  # days from local midnight within which one observes


@dataclass(frozen=True)
class Exposure:
    """One exposure.

    Attributes:
        night, number: which; `number` counts within the night, from 1.
        file: name of the raw frame.
        filter: name.
        mjd_start: UTC; mjd: at mid-exposure.
        wcs: true pixel to sky.
        transparency: 1 for a clear sky.
        seeing_arcsec: FWHM of the Moffat at the middle of the field.
        psf: there, pixels; distortion (3, 5): how it varies, see `vary_over_field`.
        sky: mean level, e-/s/px; gradient (2,): relative change across the frame in x and y.
        pixels: seed of the noise.
    """

    night: int
    number: int
    file: str
    filter: str
    mjd_start: float
    mjd: float
    wcs: WCS
    transparency: float
    seeing_arcsec: float
    psf: Psf
    distortion: Array
    sky: float
    gradient: Array
    pixels: np.random.SeedSequence

    def psf_at(self, x: Array, y: Array) -> Psf:
        """The PSF at these pixels (S,)."""
        nx, ny = self.wcs.pixel_shape
        field_xy = np.stack([2 * np.asarray(x) / (nx - 1) - 1, 2 * np.asarray(y) / (ny - 1) - 1], axis=-1)
        return vary_over_field(self.psf, field_xy, self.distortion)


def night_exposures(options: SeasonOptions, night: int) -> list[Exposure]:
    """The exposures of a night, counted from 0; nights after the end of the season follow the same rules."""
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(2, night)))
    seeing = options.seeing_arcsec * np.exp(0.8 * options.seeing_scatter * rng.normal())
    extinction = abs(options.transparency_scatter * rng.normal())
    changes = 0.5 * options.transparency_scatter
    if rng.uniform() < options.cloudy_fraction:
        extinction += 0.5 + rng.exponential(0.5)
        changes += 0.3
    sky = options.sky * np.exp(options.sky_scatter * rng.normal())
    optics = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(3,))).normal(size=(3, 5))
    count = options.exposures_per_night * len(options.filters)
    begin = _culmination(options, night) - count * (options.exptime + OVERHEAD) / 86400 / 2
    exposures = []
    for index in range(count):
        seed = np.random.SeedSequence(options.seed, spawn_key=(4, night, index))
        conditions, pixels = seed.spawn(2)
        rng = np.random.default_rng(conditions)
        name = options.filters[index % len(options.filters)].name
        start = begin + index * (options.exptime + OVERHEAD) / 86400
        fwhm = seeing * np.exp(0.6 * options.seeing_scatter * rng.normal())
        (psf,) = draw_psfs(
            rng,
            1,
            fwhm / options.plate_scale,
            0.0,
            options.moffat_beta,
            options.ellipticity,
            options.trefoil,
        )
        exposures.append(
            Exposure(
                night=night,
                number=index + 1,
                file=f"{options.name}_{name}_{options.day(night)}_{index + 1:03d}.fits",
                filter=name,
                mjd_start=start,
                mjd=start + options.exptime / 86400 / 2,
                wcs=_pointing(options, rng.normal(0, options.pointing_scatter_arcsec, 2)),
                transparency=float(10 ** (-0.4 * (extinction + abs(changes * rng.normal())))),
                seeing_arcsec=float(fwhm),
                psf=psf,
                distortion=options.psf_varies * (optics + 0.3 * rng.normal(size=(3, 5))),
                sky=float(sky * np.exp(0.2 * options.sky_scatter * rng.normal())),
                gradient=options.sky_gradient * rng.normal(size=2),
                pixels=pixels,
            )
        )
    return exposures


def tangent_plane(ra: float, dec: float) -> WCS:
    """A TAN projection whose pixel (0, 0) is ra, dec and whose pixel coordinates are arcsec east and north."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [1.0, 1.0]
    wcs.wcs.cdelt = [1 / 3600, 1 / 3600]
    return wcs


def _pointing(options: SeasonOptions, dither: Array) -> WCS:
    ny, nx = options.shape
    angle = np.deg2rad(options.rotation_deg)
    up = np.array([np.sin(angle), np.cos(angle)])  # +y of the frame as (east, north)
    right = np.array([-np.cos(angle), np.sin(angle)])
    if options.flip:
        right = -right
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = tangent_plane(*options.lens.center).wcs_pix2world([dither], 0)[0]
    wcs.wcs.crpix = [(nx + 1) / 2, (ny + 1) / 2]
    wcs.wcs.cd = options.plate_scale / 3600 * np.stack([right, up], axis=1)
    wcs.wcs.radesys = "ICRS"
    wcs.pixel_shape = (nx, ny)
    return wcs


def _culmination(options: SeasonOptions, night: int) -> float:
    """MJD of the lens's upper culmination, or of the hour of the night closest to it.

    Mean sidereal time: Meeus 1998, Astronomical Algorithms, eq. 12.4, its linear part.
    """
    midnight = options.day(night) + (-options.longitude / 360) % 1
    sidereal = 280.46061837 + 360.98564736629 * (midnight - 51544.5) + options.longitude
    hour_angle = (sidereal - options.lens.center[0] + 180) % 360 - 180
    return float(midnight + np.clip(-hour_angle / 360.98564736629, -HALF_NIGHT, HALF_NIGHT))

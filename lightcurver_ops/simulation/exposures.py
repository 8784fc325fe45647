"""The conditions of every exposure of a season: when, where to, through which air."""

from dataclasses import dataclass, replace

import numpy as np
from astropy.wcs import WCS

from .air import MEAN_COLOUR, Zenith, refraction, sidereal_time, zenith
from .options import FilterOptions, SeasonOptions
from .psf import Array, LocalPsf, Psf

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
        seeing_arcsec: FWHM of the seeing, without telescope and guiding.
        psf: of the exposure, pixels.
        zenith: seen from the lens; refracts: whether the air does.
        band: the filter.
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
    zenith: Zenith
    refracts: bool
    band: FilterOptions
    sky: float
    gradient: Array
    pixels: np.random.SeedSequence

    @property
    def to_pixels(self) -> Array:
        """(2, 2), from (east, north) in arcsec to (x, y) in pixels."""
        return np.linalg.inv(self.wcs.wcs.cd * 3600)

    def psf_at(self, x: float, y: float, bp_rp: float = MEAN_COLOUR) -> LocalPsf:
        """The PSF of a source of this colour at this pixel."""
        nx, ny = self.wcs.pixel_shape
        return self.psf.at(2 * x / (nx - 1) - 1, 2 * y / (ny - 1) - 1, self._stretch(bp_rp))

    def lifted(self, bp_rp: Array | float) -> Array:
        """By how many pixels (..., 2) the air moves sources of these colours (...) against one of mean colour.

        Refraction is linear over so narrow a range: its slope is taken at the filter's wavelength.
        """
        redder = self.band.reddening_nm * (np.asarray(bp_rp, float) - MEAN_COLOUR)
        return redder[..., None] * self.dispersion

    @property
    def dispersion(self) -> Array:
        """By how many pixels (2,) the air moves light per nm of wavelength."""
        if not self.refracts:
            return np.zeros(2)
        wavelength = self.band.wavelength_nm
        slope = 0.5 * (refraction(wavelength + 1, self.zenith) - refraction(wavelength - 1, self.zenith))
        return slope * self.to_pixels @ self.zenith.direction

    def _stretch(self, bp_rp: float) -> Array | None:
        """Redder light fills the red end of the band: its spectrum is shorter, by 10 % per magnitude."""
        along = self.band.width_nm * self.dispersion
        if bp_rp == MEAN_COLOUR or not along.any():
            return None
        change = -0.2 * (bp_rp - MEAN_COLOUR) * np.outer(along, along) / 12
        return np.eye(2) + 0.5 * change / (self.psf.seeing / 2.355) ** 2


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
    variation = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(3,))).normal(
        size=(3, 5)
    )
    count = options.exposures_per_night * len(options.filters)
    begin = _culmination(options, night) - count * (options.exptime + OVERHEAD) / 86400 / 2
    exposures = []
    for index in range(count):
        seed = np.random.SeedSequence(options.seed, spawn_key=(4, night, index))
        conditions, pixels = seed.spawn(2)
        rng = np.random.default_rng(conditions)
        band = options.filters[index % len(options.filters)]
        start = begin + index * (options.exptime + OVERHEAD) / 86400
        middle = start + options.exptime / 86400 / 2
        fwhm = float(seeing * np.exp(0.6 * options.seeing_scatter * rng.normal()))
        wcs = _pointing(options, rng.normal(0, options.pointing_scatter_arcsec, 2))
        exposure = Exposure(
            night=night,
            number=index + 1,
            file=f"{options.name}_{band.name}_{options.day(night)}_{index + 1:03d}.fits",
            filter=band.name,
            mjd_start=start,
            mjd=middle,
            wcs=wcs,
            transparency=float(10 ** (-0.4 * (extinction + abs(changes * rng.normal())))),
            seeing_arcsec=fwhm,
            psf=Psf(fwhm / options.plate_scale),
            zenith=zenith(*options.lens.center, middle, options.latitude, options.longitude),
            refracts=options.refraction,
            band=band,
            sky=float(sky * np.exp(0.2 * options.sky_scatter * rng.normal())),
            gradient=options.sky_gradient * rng.normal(size=2),
            pixels=pixels,
        )
        changing = options.psf_varies * (variation + 0.3 * rng.normal(size=(3, 5)))
        exposures.append(replace(exposure, psf=_psf(options, exposure, changing, rng)))
    return exposures


def _psf(options: SeasonOptions, exposure: Exposure, variation: Array, rng: np.random.Generator) -> Psf:
    """The PSF of an exposure, in its pixels."""
    optics, scale = options.optics, options.plate_scale
    aberrations = np.array(optics.aberrations) + optics.aberration_scatter * rng.normal(size=8)
    drift = rng.normal(0, optics.drift_arcsec / scale, 2)
    spectrum = exposure.band.width_nm * exposure.dispersion
    diffraction = 3600 * np.rad2deg(1e-9 * exposure.band.wavelength_nm / optics.diameter_m)
    return Psf(
        seeing=exposure.seeing_arcsec / scale,
        diffraction=float(diffraction / scale),
        obscuration=optics.obscuration,
        aberrations=tuple(aberrations.tolist()),
        pattern=optics.pattern,
        jitter=optics.jitter_arcsec / scale,
        trails=(tuple(drift.tolist()), tuple(spectrum.tolist())),
        shear=tuple(rng.normal(0, options.ellipticity, 2).tolist()),
        variation=tuple(map(tuple, variation.tolist())),
    )


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
    """MJD of the lens's upper culmination, or of the hour of the night closest to it."""
    midnight = options.day(night) + (-options.longitude / 360) % 1
    hour_angle = (sidereal_time(midnight, options.longitude) - options.lens.center[0] + 180) % 360 - 180
    return float(midnight + np.clip(-hour_angle / 360.98564736629, -HALF_NIGHT, HALF_NIGHT))

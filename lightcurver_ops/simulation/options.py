"""What a synthetic season is made of; the defaults are the season of the demonstration."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lightcurver_ops.errors import ConfigurationError

from .detector import Detector
from .lensing import HostOptions, MassOptions
from .psf import ABERRATIONS, Array

LightCurve = Callable[[Array], Array]
"""Magnitudes (T,) at the MJD (T,)."""


@dataclass(frozen=True)
class FilterOptions:
    """A filter of the telescope.

    Args:
        name: as in the header.
        zeropoint: magnitude of 1 e-/s at full transparency.
        colour_terms: c0, c1, ...: magnitude = G - sum of c_i (BP - RP)^i. Default: the Gaia EDR3 relation to SDSS r
            (Gaia EDR3 documentation, table 5.7), so that absolute calibrations can be checked.
        wavelength_nm: at which a star of mean colour shines; width_nm: of the band, which the air spreads.
        reddening_nm: by how much redder the light of a star is per magnitude of BP - RP.
    """

    name: str = "r"
    zeropoint: float = 25.5
    colour_terms: tuple[float, ...] = (-0.09837, 0.08592, 0.1907, -0.1701, 0.02263)
    wavelength_nm: float = 620.0
    width_nm: float = 140.0
    reddening_nm: float = 8.0


@dataclass(frozen=True)
class GalaxyOptions:
    """The lens galaxy: a Sersic profile cut at 8 effective radii, alone or as the bulge in an exponential disc.

    Args:
        offset_arcsec: (east, north) of the lens's centre.
        magnitude: total, the same in all filters.
        effective_radius_arcsec: along the major axis.
        sersic_index: 4 for de Vaucouleurs's profile, 1 for an exponential one.
        position_angle_deg: of the major axis, from north to east.
        disc_fraction: of the light.
        disc_radius: effective radius of the disc over that of the bulge.
        disc_axis_ratio: of the disc, along the same axis.
        bp_rp: colour.
    """

    offset_arcsec: tuple[float, float] = (-0.05, -0.03)
    magnitude: float = 19.2
    effective_radius_arcsec: float = 0.9
    sersic_index: float = 3.0
    axis_ratio: float = 0.8
    position_angle_deg: float = 35.0
    disc_fraction: float = 0.0
    disc_radius: float = 2.5
    disc_axis_ratio: float = 0.5
    bp_rp: float = 1.6


@dataclass(frozen=True)
class LensOptions:
    """A lensed quasar: point-like images that repeat one light curve, a galaxy, and the host drawn out to arcs.

    The default is the lens of the default mass; `lens_preset` has others.

    Args:
        center: (ra, dec) ICRS degrees.
        labels: of the images.
        offsets_arcsec: (east, north) of each image.
        magnitudes: mean of each image, the same in all filters.
        delays_days: each image shows what the quasar did this many days before.
        variability_mag: asymptotic standard deviation of the damped random walk of the quasar.
        timescale_days: its damping time.
        microlensing_mag: standard deviation of a slower walk of each image's own (5 times the timescale).
        light_curves: instead of all this one callable per image, from MJD (T,) to magnitudes (T,).
        bp_rp: Gaia colour of the images in the catalogue.
        galaxy: or None.
        mass: of the lens, at its centre; it lenses the host.
        host: of the quasar, seen as arcs, or None.
    """

    center: tuple[float, float] = (70.5, -21.0)
    labels: tuple[str, ...] = ("A", "B", "C", "D")
    offsets_arcsec: tuple[tuple[float, float], ...] = (
        (0.434, 0.760),
        (-0.759, 0.537),
        (-0.407, -0.723),
        (0.882, -0.312),
    )
    magnitudes: tuple[float, ...] = (18.6, 19.1, 19.6, 20.4)
    delays_days: tuple[float, ...] = (0.0, 4.0, 9.0, 16.0)
    variability_mag: float = 0.25
    timescale_days: float = 80.0
    microlensing_mag: float = 0.0
    light_curves: Sequence[LightCurve] | None = None
    bp_rp: float = 0.7
    galaxy: GalaxyOptions | None = field(default_factory=GalaxyOptions)
    mass: MassOptions = field(default_factory=MassOptions)
    host: HostOptions | None = None

    def __post_init__(self) -> None:
        lists = {
            "offsets_arcsec": self.offsets_arcsec,
            "magnitudes": self.magnitudes,
            "delays_days": self.delays_days,
        }
        if self.light_curves is not None:
            lists["light_curves"] = tuple(self.light_curves)
        for name, values in lists.items():
            if len(values) != len(self.labels):
                raise ConfigurationError(
                    f"LensOptions: {name} has {len(values)} entries, but labels names {len(self.labels)} images "
                    f"({', '.join(self.labels)}): give one entry per image"
                )
        if min(self.delays_days, default=0) < 0:
            raise ConfigurationError(
                "LensOptions: delays_days must not be negative: count from the leading image"
            )


@dataclass(frozen=True)
class StarOptions:
    """The stars of the field.

    Args:
        number: mean number on one frame.
        magnitudes: G of the brightest and the faintest; the counts grow by 10^(slope) per magnitude.
        slope: of the logarithmic counts.
        bp_rp: mean and standard deviation of the colour, kept between 0.5 and 2.0.
        proper_motion_mas_yr: standard deviation per component.
        clear_radius_arcsec: no star this close to the lens.
        separation_arcsec: no two stars closer than this.
        catalogue_limit: fainter stars are on the frames but not in the catalogue, G.
        variable: (rank, amplitude in mag, period in days): the star of this rank by distance to the lens, 0 the
            nearest, varies as a sine.
        companions: fraction of the stars that have a faint star or a small galaxy beside them, in no catalogue.
        companion_arcsec: smallest and largest distance; companion_contrast: smallest and largest difference in mag.
        galaxies: mean number of small galaxies on one frame, in no catalogue; galaxy_magnitudes: G of the brightest
            and the faintest.
    """

    number: float = 75.0
    magnitudes: tuple[float, float] = (15.5, 20.5)
    slope: float = 0.15
    bp_rp: tuple[float, float] = (1.1, 0.35)
    proper_motion_mas_yr: float = 8.0
    clear_radius_arcsec: float = 9.0
    separation_arcsec: float = 5.0
    catalogue_limit: float = 20.5
    variable: tuple[int, float, float] | None = None
    companions: float = 0.2
    companion_arcsec: tuple[float, float] = (1.5, 5.0)
    companion_contrast: tuple[float, float] = (3.0, 6.5)
    galaxies: float = 6.0
    galaxy_magnitudes: tuple[float, float] = (19.0, 22.5)


@dataclass(frozen=True)
class OpticsOptions:
    """Telescope and guiding.

    Args:
        diameter_m, obscuration: of the pupil; the second as a fraction of the first.
        aberrations: waves RMS of Noll's terms 4 to 11, season's mean; aberration_scatter: of each term from exposure to
            exposure, standard deviation.
        pattern: waves RMS by which the optics are worse in the corners, see `Psf`.
        jitter_arcsec: of the guiding, standard deviation; drift_arcsec: length of the line along which it drifts during
            an exposure, standard deviation per axis.
    """

    diameter_m: float = 2.2
    obscuration: float = 0.35
    aberrations: tuple[float, ...] = ABERRATIONS
    aberration_scatter: float = 0.06
    pattern: float = 0.0
    jitter_arcsec: float = 0.08
    drift_arcsec: float = 0.08


@dataclass(frozen=True)
class SeasonOptions:
    """A season of a telescope on one lens.

    Args:
        name: of the lens; begins the file names.
        seed: all that is random follows from it.
        n_nights: length of the season; a longer season begins with the same pixels.
        exposures_per_night: in each filter.
        night_gap_days: from night to night, 1 or more.
        first_mjd: day of the first night.
        exptime: s.
        shape: (ny, nx) of the frames.
        plate_scale: arcsec/px.
        rotation_deg: position angle of the frame's +y axis, from north to east.
        flip: False: east is left when north is up; True: mirrored.
        pointing_scatter_arcsec: dither, standard deviation per axis.
        detector, filters, stars, lens: see there.
        seeing_arcsec: median FWHM of the seeing alone, without telescope and guiding; seeing_scatter: standard
            deviation of its logarithm, nights and exposures together.
        optics: of the telescope.
        ellipticity: standard deviation of each shear component of the PSF from exposure to exposure.
        psf_varies: relative change of the PSF over the field (dilation and shear, second order in position).
        sky: e-/s/px, median; sky_scatter: standard deviation of its logarithm; sky_gradient: relative change across
            the frame, standard deviation.
        transparency_scatter: extinction in mag, one-sided, from night to night; half of it between exposures.
        cloudy_fraction: of the nights: about one more magnitude of extinction, which varies.
        with_wcs: the header has the true TAN solution.
        latitude, longitude: of the telescope, degrees, east positive.
        refraction: the air spreads stars into short spectra and moves them by their colours.
    """

    name: str = "demo"
    seed: int = 1
    n_nights: int = 6
    exposures_per_night: int = 4
    night_gap_days: float = 5.0
    first_mjd: float = 60281.0
    exptime: float = 300.0
    shape: tuple[int, int] = (320, 320)
    plate_scale: float = 0.35
    rotation_deg: float = 2.0
    flip: bool = False
    pointing_scatter_arcsec: float = 3.0
    detector: Detector = field(default_factory=lambda: Detector(bad_column=57))
    filters: tuple[FilterOptions, ...] = field(default_factory=lambda: (FilterOptions(),))
    stars: StarOptions = field(default_factory=StarOptions)
    lens: LensOptions = field(default_factory=LensOptions)
    seeing_arcsec: float = 1.1
    seeing_scatter: float = 0.18
    optics: OpticsOptions = field(default_factory=OpticsOptions)
    ellipticity: float = 0.02
    psf_varies: float = 0.0
    sky: float = 12.0
    sky_scatter: float = 0.25
    sky_gradient: float = 0.03
    transparency_scatter: float = 0.1
    cloudy_fraction: float = 0.0
    with_wcs: bool = False
    latitude: float = -29.26
    longitude: float = -70.73
    refraction: bool = True

    def __post_init__(self) -> None:
        if min(self.shape) < 32:
            raise ConfigurationError(
                f"SeasonOptions: shape {self.shape} is below the smallest, (32, 32) pixels"
            )
        names = [one.name for one in self.filters]
        if not names or len(set(names)) != len(names):
            raise ConfigurationError(
                f"SeasonOptions: filters must have one or more different names, not {names}"
            )
        if self.night_gap_days < 1:
            raise ConfigurationError(
                f"SeasonOptions: night_gap_days must be 1 or more, not {self.night_gap_days}"
            )

    def day(self, night: int) -> int:
        """MJD of the day on which a night begins."""
        return math.floor(self.first_mjd + night * self.night_gap_days)

    def filter(self, name: str) -> FilterOptions:
        """The filter of this name."""
        return next(one for one in self.filters if one.name == name)

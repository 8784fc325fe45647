"""What a synthetic season is made of; the defaults are the season of the demonstration."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lightcurver_ops.errors import ConfigurationError

from .detector import Detector
from .profiles import Array

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
    """

    name: str = "r"
    zeropoint: float = 25.5
    colour_terms: tuple[float, ...] = (-0.09837, 0.08592, 0.1907, -0.1701, 0.02263)


@dataclass(frozen=True)
class GalaxyOptions:
    """The lens galaxy: a Sersic profile cut at 8 effective radii.

    Args:
        offset_arcsec: (east, north) of the lens's centre.
        magnitude: total, the same in all filters.
        effective_radius_arcsec: along the major axis.
        position_angle_deg: of the major axis, from north to east.
    """

    offset_arcsec: tuple[float, float] = (-0.05, -0.03)
    magnitude: float = 19.2
    effective_radius_arcsec: float = 0.9
    sersic_index: float = 3.0
    axis_ratio: float = 0.8
    position_angle_deg: float = 35.0


@dataclass(frozen=True)
class LensOptions:
    """A lensed quasar: point-like images that repeat one light curve, and a galaxy.

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
    """

    center: tuple[float, float] = (70.5, -21.0)
    labels: tuple[str, ...] = ("A", "B", "C", "D")
    offsets_arcsec: tuple[tuple[float, float], ...] = (
        (0.67, 0.56),
        (-0.80, 0.66),
        (-0.73, -0.49),
        (0.42, -0.84),
    )
    magnitudes: tuple[float, ...] = (18.6, 19.1, 19.6, 20.4)
    delays_days: tuple[float, ...] = (0.0, 4.0, 9.0, 16.0)
    variability_mag: float = 0.25
    timescale_days: float = 80.0
    microlensing_mag: float = 0.0
    light_curves: Sequence[LightCurve] | None = None
    bp_rp: float = 0.7
    galaxy: GalaxyOptions | None = field(default_factory=GalaxyOptions)

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
        seeing_arcsec: median FWHM; seeing_scatter: standard deviation of its logarithm, nights and exposures together.
        moffat_beta, ellipticity, trefoil: PSF; ellipticity is the standard deviation of each shear component from
            exposure to exposure, trefoil the mean fraction of flux in a three-lobed departure from a Moffat.
        psf_varies: relative change of the PSF over the field (dilation and shear, second order in position).
        sky: e-/s/px, median; sky_scatter: standard deviation of its logarithm; sky_gradient: relative change across
            the frame, standard deviation.
        transparency_scatter: extinction in mag, one-sided, from night to night; half of it between exposures.
        cloudy_fraction: of the nights: about one more magnitude of extinction, which varies.
        with_wcs: the header has the true TAN solution.
        latitude, longitude: of the telescope, degrees, east positive.
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
    moffat_beta: float = 3.0
    ellipticity: float = 0.025
    trefoil: float = 0.05
    psf_varies: float = 0.0
    sky: float = 12.0
    sky_scatter: float = 0.25
    sky_gradient: float = 0.03
    transparency_scatter: float = 0.1
    cloudy_fraction: float = 0.0
    with_wcs: bool = False
    latitude: float = -29.26
    longitude: float = -70.73

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
        if self.moffat_beta <= 1.5:
            raise ConfigurationError(f"SeasonOptions: moffat_beta must be above 1.5, not {self.moffat_beta}")

    def day(self, night: int) -> int:
        """MJD of the day on which a night begins."""
        return math.floor(self.first_mjd + night * self.night_gap_days)

    def filter(self, name: str) -> FilterOptions:
        """The filter of this name."""
        return next(one for one in self.filters if one.name == name)

"""A synthetic observatory: raw frames, a catalogue and the truth, all from one seed."""

from .bounds import expected_flux_errors
from .detector import Detector
from .options import FilterOptions, GalaxyOptions, LensOptions, SeasonOptions, StarOptions
from .profiles import Psf
from .roi import RoiStamps, roi_stamps
from .season import simulate_season
from .stamps import StarStamps, star_stamps
from .truth import Truth, load_truth

__all__ = [
    "Detector",
    "FilterOptions",
    "GalaxyOptions",
    "LensOptions",
    "Psf",
    "RoiStamps",
    "SeasonOptions",
    "StarOptions",
    "StarStamps",
    "Truth",
    "expected_flux_errors",
    "load_truth",
    "roi_stamps",
    "simulate_season",
    "star_stamps",
]

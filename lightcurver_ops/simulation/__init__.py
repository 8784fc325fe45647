"""A synthetic observatory: raw frames, a catalogue and the truth, all from one seed."""

from .bounds import expected_flux_errors
from .profiles import Psf
from .roi import RoiStamps, roi_stamps
from .stamps import StarStamps, star_stamps

__all__ = ["Psf", "RoiStamps", "StarStamps", "expected_flux_errors", "roi_stamps", "star_stamps"]

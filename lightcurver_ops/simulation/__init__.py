"""A synthetic observatory: raw frames, a catalogue and the truth, all from one seed.

A season on disk, for the pipeline and for whoever tunes a configuration::

    from lightcurver_ops.simulation import SeasonOptions, expected_flux_errors, simulate_season

    truth = simulate_season(SeasonOptions(seed=3, n_nights=10), "season")  # raw/, catalogue.ecsv, truth.*
    truth.frames["mjd", "transparency", "flux_A"]  # what each frame truly was
    expected_flux_errors(truth.roi())  # the photon-noise limit of each image in each frame, e-/s

`star_stamps` and `roi_stamps` give the inputs of the numerics in memory, with their truth; `faults` makes bad frames
from good ones.
"""

from .bounds import expected_flux_errors
from .detector import Detector
from .lensing import HostOptions, MassOptions
from .options import FilterOptions, GalaxyOptions, LensOptions, OpticsOptions, SeasonOptions, StarOptions
from .presets import lens_preset
from .psf import Psf
from .roi import RoiStamps, roi_stamps
from .season import simulate_season
from .stamps import StarStamps, star_stamps
from .truth import Truth, load_truth

__all__ = [
    "Detector",
    "FilterOptions",
    "GalaxyOptions",
    "HostOptions",
    "LensOptions",
    "MassOptions",
    "OpticsOptions",
    "Psf",
    "RoiStamps",
    "SeasonOptions",
    "StarOptions",
    "StarStamps",
    "Truth",
    "expected_flux_errors",
    "lens_preset",
    "load_truth",
    "roi_stamps",
    "simulate_season",
    "star_stamps",
]

"""Lenses to choose from: their images stand where their mass puts them, so that arcs pass through them."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lightcurver_ops.errors import ConfigurationError

from .lensing import HostOptions, MassOptions
from .options import GalaxyOptions, LensOptions


@dataclass(frozen=True)
class Preset:
    """A lens before its equation is solved.

    Attributes:
        about: for people.
        mass: of the lens.
        quasar: mean magnitude without the lens.
        anomalies: magnitudes by which microlensing and dust change each image, by arrival.
        galaxy: of the lens.
        host: of the quasar, where arcs are asked for.
    """

    about: str
    mass: MassOptions
    quasar: float
    anomalies: tuple[float, ...]
    galaxy: GalaxyOptions
    host: HostOptions


PRESETS = {
    "cross": Preset(
        "four images around an elliptical galaxy",
        MassOptions(),
        20.8,
        (-0.1, -0.4, 0.1, 0.4),
        GalaxyOptions((0.0, 0.0)),
        HostOptions(),
    ),
    "fold": Preset(
        'four images, two of them 0.55" apart, around a de Vaucouleurs galaxy',
        MassOptions(1.1, 0.7, 35.0, 0.08, 125.0, (0.089, 0.244)),
        20.9,
        (0.1, -0.1, 0.2, 0.0),
        GalaxyOptions((0.0, 0.0), magnitude=19.0, sersic_index=4.0, axis_ratio=0.7),
        HostOptions(),
    ),
    "double": Preset(
        'two images 1.7" apart, the fainter one close to a bulge in a disc',
        MassOptions(0.8, 0.8, 100.0, 0.05, 60.0, (0.35, 0.25)),
        19.4,
        (0.0, 0.1),
        GalaxyOptions(
            (0.0, 0.0),
            magnitude=19.6,
            effective_radius_arcsec=0.3,
            sersic_index=4.0,
            position_angle_deg=100.0,
            disc_fraction=0.6,
        ),
        HostOptions(magnitude=20.8),
    ),
    "wide": Preset(
        'four images up to 5" apart, around a large elliptical galaxy',
        MassOptions(2.5, 0.8, 100.0, 0.07, 60.0, (0.2, 0.1)),
        21.4,
        (0.0, -0.2, 0.2, 0.0),
        GalaxyOptions(
            (0.0, 0.0),
            magnitude=18.0,
            effective_radius_arcsec=1.8,
            sersic_index=4.0,
            position_angle_deg=100.0,
        ),
        HostOptions(magnitude=20.5, effective_radius_arcsec=0.3),
    ),
    "faint": Preset(
        "four images, the last one of 21 mag close to an exponential galaxy",
        MassOptions(0.9, 0.65, 10.0, 0.06, 100.0, (0.02, 0.13)),
        20.9,
        (0.0, -0.3, 0.2, 0.32),
        GalaxyOptions(
            (0.0, 0.0),
            magnitude=19.8,
            effective_radius_arcsec=0.6,
            sersic_index=1.0,
            axis_ratio=0.65,
            position_angle_deg=10.0,
        ),
        HostOptions(magnitude=21.5),
    ),
}

Profile = Literal["de-vaucouleurs", "exponential", "bulge-disc"]


def lens_preset(name: str) -> LensOptions:
    """The options of a lens by its name, images A, B, ... by brightness, with arcs.

    Raises:
        ConfigurationError: there is no such lens.
    """
    if name not in PRESETS:
        raise ConfigurationError(f"there is no lens '{name}': there are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    images = preset.mass.images()
    magnitudes = preset.quasar - 2.5 * np.log10(np.abs(images.magnification)) + np.array(preset.anomalies)
    order = np.argsort(magnitudes)
    return LensOptions(
        labels=tuple("ABCD"[: order.size]),
        offsets_arcsec=tuple((float(east), float(north)) for east, north in images.places[order]),
        magnitudes=tuple(magnitudes[order].tolist()),
        delays_days=tuple(images.delay[order].tolist()),
        galaxy=preset.galaxy,
        mass=preset.mass,
        host=preset.host,
    )


def choose_lens(
    name: str | None = None, *, arcs: float | None = None, profile: Profile | None = None
) -> LensOptions:
    """A lens as somebody asks for it.

    Args:
        name: one of `PRESETS`, else the default lens.
        arcs: magnitude of the lensed host; None for no host.
        profile: of the lens galaxy, instead of the lens's own.

    Raises:
        ConfigurationError: there is no such lens.
    """
    lens = LensOptions() if name is None else lens_preset(name)
    host = None if arcs is None else replace(lens.host or HostOptions(), magnitude=arcs)
    galaxy = lens.galaxy
    if profile is not None and galaxy is not None:
        index = 1.0 if profile == "exponential" else 4.0
        disc = 0.5 if profile == "bulge-disc" else 0.0
        galaxy = replace(galaxy, sersic_index=index, disc_fraction=disc)
    return replace(lens, host=host, galaxy=galaxy)

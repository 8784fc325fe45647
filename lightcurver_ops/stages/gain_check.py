"""Whether the noise of the sky agrees with the gain and the read noise of the headers: a wrong gain makes all errors
wrong, and a wrong read noise says that something else of the headers or frames is not what it seems.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa


def remark_on_image(adu: Any, gain: float) -> str | None:
    """What is odd about the sky of a raw image [ny, nx] with this gain; None where nothing is."""
    import numpy as np

    from lightcurver_ops.numerics.gain import remark, scatter_of_pixels

    scatter, _ = scatter_of_pixels(adu)
    return remark(float(np.nanmedian(adu)) * gain, scatter * gain, gain)


def remark_on_read_noise(adu: Any, gain: float, read_noise: float | None) -> str | None:
    """What is odd about this read noise, electrons, in the sky of a raw image [ny, nx]; None: nothing, or not told."""
    from lightcurver_ops.numerics.gain import remark_on_read_noise as remark
    from lightcurver_ops.numerics.gain import scatter_of_pixels

    if read_noise is None:
        return None
    scatter, is_their_own = scatter_of_pixels(adu)
    return remark(scatter, gain, read_noise) if is_their_own else None


def contradicted_gains(frames: Sequence[sa.Row]) -> list[str]:
    """A warning for each gain, of frames of one width, that the skies of these frames contradict."""
    from lightcurver_ops.numerics.gain import gain_of_skies

    notes = []
    for (gain, _), own in _alike(frames, "gain", "width").items():
        found = gain_of_skies(*_skies_in_adu(own))
        if found is not None and found.contradicts(gain):
            notes.append(
                f"WARNING: the gain of {len(own)} frames is {gain:g} electron/ADU, but their skies scatter as with "
                f"{found.value:.3g} ({found.low:.2g} to {found.high:.2g}): errors are wrong by a factor of about "
                f"{(gain / found.value) ** 0.5:.2g}; check raw.header.gain"
            )
    return notes


def contradicted_read_noises(frames: Sequence[sa.Row]) -> list[str]:
    """A warning for each read noise, of frames of one gain and width, that the skies of these frames contradict."""
    from lightcurver_ops.numerics.gain import read_noise_of_skies

    notes = []
    told = [row for row in frames if row.read_noise is not None]
    for (read_noise, gain, _), own in _alike(told, "read_noise", "gain", "width").items():
        found = read_noise_of_skies(*_skies_in_adu(own), gain)
        if found is None or not found.contradicts(read_noise):
            continue
        scatter = (
            f"faintest skies scatter by {found.at_most:.3g}, photons included"
            if read_noise > found.at_most
            else f"skies scatter by {found.at_least:.3g} beside what grows with their light"
        )
        notes.append(
            f"WARNING: the read noise of {len(own)} frames is {read_noise:g} electrons, but their {scatter}; check "
            "raw.read_noise and raw.header.gain"
        )
    return notes


def _alike(frames: Sequence[sa.Row], *columns: str) -> dict[tuple[float, ...], list[sa.Row]]:
    """The frames whose noise is known, by their values of some columns, in order."""
    groups: dict[tuple[float, ...], list[sa.Row]] = {}
    for row in frames:
        if row.background_rms_electron_per_second is not None:
            groups.setdefault(tuple(getattr(row, column) for column in columns), []).append(row)
    return dict(sorted(groups.items()))


def _skies_in_adu(frames: Sequence[sa.Row]) -> tuple[list[float], list[float]]:
    """Level and variance of the sky of each frame."""
    adu = [row.exptime / row.gain for row in frames]
    return (
        [row.sky_level_electron_per_second * one for row, one in zip(frames, adu, strict=True)],
        [(row.background_rms_electron_per_second * one) ** 2 for row, one in zip(frames, adu, strict=True)],
    )

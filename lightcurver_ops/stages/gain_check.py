"""Whether the noise of the sky agrees with the gain of the headers: a wrong gain makes all errors wrong."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa


def remark_on_image(adu: Any, gain: float) -> str | None:
    """What is odd about the sky of a raw image [ny, nx] with this gain; None where nothing is."""
    import numpy as np

    from lightcurver_ops.constants import MAD_TO_SIGMA
    from lightcurver_ops.numerics.gain import remark

    # Neighbours in a column: gradients and the wings of stars hardly touch them.
    scatter = float(MAD_TO_SIGMA * np.nanmedian(np.abs(np.diff(adu, axis=0))) / np.sqrt(2))
    return remark(float(np.nanmedian(adu)) * gain, scatter * gain, gain)


def contradicted_gains(frames: Sequence[sa.Row]) -> list[str]:
    """A warning for each gain, of frames of one width, that the skies of these frames contradict."""
    from lightcurver_ops.numerics.gain import gain_of_skies

    notes = []
    known = [row for row in frames if row.background_rms_electron_per_second is not None]
    for gain, width in sorted({(row.gain, row.width) for row in known}):
        own = [row for row in known if (row.gain, row.width) == (gain, width)]
        adu = [row.exptime / gain for row in own]
        found = gain_of_skies(
            [row.sky_level_electron_per_second * one for row, one in zip(own, adu, strict=True)],
            [(row.background_rms_electron_per_second * one) ** 2 for row, one in zip(own, adu, strict=True)],
        )
        if found is not None and found.contradicts(gain):
            notes.append(
                f"WARNING: the gain of {len(own)} frames is {gain:g} electron/ADU, but their skies scatter as with "
                f"{found.value:.3g} ({found.low:.2g} to {found.high:.2g}): errors are wrong by a factor of about "
                f"{(gain / found.value) ** 0.5:.2g}; check raw.header.gain"
            )
    return notes

"""What the detector does to light: photon and read noise, cosmic rays, saturation, a bad column, ADU."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FULL_SCALE = 65535  # ADU, of a 16 bit converter
ELECTRONS_PER_PIXEL = 1500.0  # that a cosmic ray leaves in each pixel it crosses


@dataclass(frozen=True)
class Detector:
    """A CCD.

    Args:
        gain: e-/ADU.
        readnoise: e- RMS per pixel.
        pedestal_adu: constant added to every pixel, ADU (0: bias subtracted already).
        saturation_adu: pixels are clipped here, ADU.
        bleeding: charge above saturation runs along the column instead of being lost.
        bad_column: index of a column that sees 30 % of the light, or None.
        cosmic_rate: cosmic rays per second and 10^6 pixels (a CCD at sea level: about 0.06).
    """

    gain: float = 1.5
    readnoise: float = 5.0
    pedestal_adu: float = 0.0
    saturation_adu: float = 60000.0
    bleeding: bool = False
    bad_column: int | None = None
    cosmic_rate: float = 0.06

    def expose(self, rate: Array, exptime: float, rng: np.random.Generator) -> NDArray[np.uint16]:
        """The raw frame (ny, nx) in ADU of an expected rate (ny, nx) in e-/s, exposed for exptime seconds."""
        expected = rate * exptime
        if self.bad_column is not None:
            expected = expected.copy()
            expected[:, self.bad_column] *= 0.3
        electrons = rng.poisson(expected).astype(float)
        hits = rng.poisson(self.cosmic_rate * exptime * rate.size / 1e6)
        electrons += cosmic_rays(rate.shape, hits, rng)
        if self.bleeding:
            electrons = bleed(electrons, (self.saturation_adu - self.pedestal_adu) * self.gain)
        electrons += rng.normal(0.0, self.readnoise, rate.shape)
        adu = np.rint(electrons / self.gain + self.pedestal_adu)
        return np.clip(adu, 0, min(self.saturation_adu, FULL_SCALE)).astype(np.uint16)


def cosmic_rays(shape: tuple[int, ...], hits: int, rng: np.random.Generator) -> Array:
    """The electrons (ny, nx) of this many cosmic rays: straight tracks, mostly short, of uneven charge."""
    ny, nx = shape
    image = np.zeros((ny, nx))
    for _ in range(hits):
        length = 1 + rng.exponential(4.0)
        angle = rng.uniform(0, np.pi)
        steps = np.arange(0, length, 0.25)
        rows = np.rint(rng.uniform(0, ny - 1) + steps * np.sin(angle)).astype(int)
        columns = np.rint(rng.uniform(0, nx - 1) + steps * np.cos(angle)).astype(int)
        charge = 0.25 * ELECTRONS_PER_PIXEL * rng.lognormal(0.0, 0.7) * rng.gamma(4.0, 0.25, steps.size)
        on = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
        np.add.at(image, (rows[on], columns[on]), charge[on])
    return image


def bleed(electrons: Array, full_well: float) -> Array:
    """The same charge (ny, nx), what exceeds the full well shared between the column's pixels above and below."""
    bled = electrons.copy()
    for column in np.flatnonzero((electrons > full_well).any(axis=0)):
        line = bled[:, column]
        for direction in (line, line[::-1]):  # views: half of the excess goes up, what is left goes down
            carried = 0.0
            for row in range(direction.size):
                excess = direction[row] - full_well
                share = 0.5 if direction is line else 1.0
                if excess > 0:
                    direction[row] -= share * excess
                    carried += share * excess
                elif carried > 0:
                    poured = min(-excess, carried)
                    direction[row] += poured
                    carried -= poured
    return bled

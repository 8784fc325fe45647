"""Light of known shapes and unknown brightness in the background: arcs of the host, or an image of the lens."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Lights:
    """A sum of templates.

    Attributes:
        templates: [R, N, N].
        amplitude: [R].
        precision: [R] of the amplitudes' Gaussian priors around 0; 0 for none.
    """

    templates: Array
    amplitude: Array
    precision: Array

    @property
    def image(self) -> Array:
        """Their light, [N, N]."""
        return np.asarray(np.tensordot(self.amplitude, self.templates, 1), dtype=np.float64)

    def moved_by(self, step: Array) -> "Lights":
        """With other amplitudes."""
        return replace(self, amplitude=self.amplitude + step)


def of_image(image: Array) -> Lights:
    """A given image [N, N] whose brightness is free, and its place within what a shift changes linearly.

    Raises:
        ValueError: there is nothing in the image.
    """
    total = float(np.abs(image).sum())
    if not total > 0:
        raise ValueError("the image of the lens is empty")
    down, across = np.gradient(image / total)
    return Lights(np.stack([image / total, across, down]), np.zeros(3), np.zeros(3))


def same_shapes(one: Lights | None, other: Lights | None) -> bool:
    """Whether two have the same templates, however bright."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one.templates, other.templates)

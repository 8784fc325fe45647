"""What of each epoch the joint model is built from: the weights as given, and what was found to be wrong with them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Trust(NamedTuple):
    """Of E epochs.

    Attributes:
        given: [E, n, n] inverse variances as given, 0 in bad pixels.
        scale: [E] noise found over noise given; 1 where the two agree.
        aside: [E] True for an epoch that what is common to all is found without.
    """

    given: Array
    scale: Array
    aside: Mask

    @classmethod
    def full(cls, weight: Array) -> "Trust":
        """Everything as given."""
        return cls(weight, np.ones(len(weight)), np.zeros(len(weight), dtype=bool))

    @property
    def weight(self) -> Array:
        """[E, n, n] inverse variances of the noise found."""
        return self.given / self.scale[:, None, None] ** 2

"""Numbers that many modules need."""

import math

# A median absolute deviation times this is the standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826
# A small relative change of a flux times this is the change of its magnitude.
POGSON = 2.5 / math.log(10.0)

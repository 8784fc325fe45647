"""Numbers that many modules need."""

import math

# A median absolute deviation times this is the standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826
# A small relative change of a flux times this is the change of its magnitude.
POGSON = 2.5 / math.log(10.0)
# The full width at half maximum of a normal distribution times this is its standard deviation.
FWHM_TO_SIGMA = 1.0 / math.sqrt(8.0 * math.log(2.0))

"""The joint model of the region of interest: `fit.fit_roi`."""

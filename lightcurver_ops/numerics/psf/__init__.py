"""The point spread function of a frame, from the stamps of its stars: `fit.fit_psfs`."""

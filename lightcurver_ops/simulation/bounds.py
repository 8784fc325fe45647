"""The photon-noise limit of the fluxes of blended images."""

import numpy as np

from .psf import Array
from .roi import RoiStamps


def expected_flux_errors(roi: RoiStamps, mask: Array | None = None) -> Array:
    """The Cramer-Rao bound (E, J) on the standard deviation of the image fluxes, e-/s, of unbiased joint fits.

    Free: the flux of each image in each epoch, the common positions of the images, the translation of each epoch.
    Known: PSFs, noise, the galaxy (it moves with the translation), sky, normalization. With the galaxy unknown as
    well, the bound is somewhat larger: the difference shrinks with the number of epochs and their range of seeing.

    The Fisher matrix of independent Gaussian pixels, sum of dm dm^T / sigma^2 (e.g. Kay 1993, Estimation Theory,
    eq. 3.31, for a noise that does not depend on the parameters), is a block arrow: each epoch's own parameters are
    eliminated first, the common positions inverted, and their uncertainty given back to each epoch.

    Args:
        roi: PSFs, positions, fluxes and noise.
        mask: (E, n, n), True for good pixels; default all.
    """
    n_epochs, n_images = roi.flux.shape
    weight = np.ones_like(roi.noise) if mask is None else np.asarray(mask, float)
    root = (np.sqrt(weight) / roi.noise).reshape(n_epochs, 1, -1)
    moved = roi.flux[:, :, None, None, None] * roi.gradients
    images = roi.unit_images.reshape(n_epochs, n_images, -1) * root
    shifts = (moved.sum(axis=1) + roi.galaxy_gradient).reshape(n_epochs, 2, -1) * root
    common = moved.reshape(n_epochs, 2 * n_images, -1) * root
    own = np.concatenate([images, shifts], axis=1)
    within = np.linalg.inv(own @ own.transpose(0, 2, 1))
    across = own @ common.transpose(0, 2, 1)
    gain = within @ across
    schur = (common @ common.transpose(0, 2, 1) - across.transpose(0, 2, 1) @ gain).sum(axis=0)
    # Without a galaxy, moving all images is the same as translating all epochs: no flux depends on that.
    positions = np.linalg.pinv(schur, rcond=1e-9, hermitian=True)
    variance = np.einsum("eii->ei", within) + np.einsum("eij,jk,eik->ei", gain, positions, gain)
    return np.sqrt(variance[:, :n_images])

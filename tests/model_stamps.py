"""Stars rendered by the numerics' own forward model: for identities of solvers, which need data in the model's span.

Accuracy is measured on stamps of the simulation, which shares no code with the numerics.
"""

from typing import NamedTuple

import numpy as np

from lightcurver_ops.numerics.psf.moffat import moffat
from lightcurver_ops.numerics.psf.operators import blur_matrix, star_operator


class ModelStamps(NamedTuple):
    """One frame: data, noise (1, S, n, n) in e-/s, flux (1, S), psf and narrow_psf (1, N, N)."""

    data: np.ndarray
    noise: np.ndarray
    flux: np.ndarray
    psf: np.ndarray
    narrow_psf: np.ndarray


def model_stamps(
    seed: int, n_stars: int, size: int, subsampling: int = 2, exptime: float = 300.0
) -> ModelStamps:
    """Stars of 300 to 5000 e-/s seen through a Moffat as narrow PSF, with noise."""
    rng = np.random.default_rng(seed)
    shape = np.array([2 * np.log(2.8), 0.05, -0.03, np.log(3.0)])
    narrow = np.asarray(moffat(shape, size, subsampling))
    narrow = narrow / narrow.sum()
    flux = np.exp(rng.uniform(np.log(300), np.log(5000), n_stars))
    across, down = (
        star_operator(offset, size, subsampling)[0] for offset in rng.uniform(-0.5, 0.5, (2, n_stars))
    )
    clean = flux[:, None, None] * subsampling**2 * down @ narrow @ across.swapaxes(-1, -2)
    sky = 12.0
    noise = np.sqrt((clean + sky) / exptime)
    blur = blur_matrix(size * subsampling)
    return ModelStamps(
        data=(clean + noise * rng.normal(size=clean.shape))[None],
        noise=noise[None],
        flux=flux[None],
        psf=(blur @ narrow @ blur.T)[None],
        narrow_psf=narrow[None],
    )

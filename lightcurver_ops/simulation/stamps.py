"""Star stamps in memory, with their truth: for tests of the numerics, no file involved."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft2, ifft2, ifftshift

from .detector import cosmic_rays
from .psf import ABERRATIONS, Array, LocalPsf, Psf

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class StarStamps:
    """Cutouts of S stars in E frames, n x n pixels; sky subtracted, e-/s.

    Positions are the offsets (x, y) in pixels from the geometric centre of the stamp, ((n - 1) / 2, (n - 1) / 2).

    Attributes:
        data, noise (E, S, n, n): pixels, and their true standard deviation.
        model (E, S, n, n): the expectation of `data`, without cosmics.
        cosmics (E, S, n, n): True where a cosmic ray fell (`data` has it, `noise` does not know).
        x, y, flux (E, S): flux in e-/s over the whole plane.
        coefficient (E,): transparency; flux = coefficient * star_flux (S,).
        field_xy (S, 2): position in the field, -1 to 1 per axis.
        psf (E, N, N): the PSF at the middle of the field on N = n * subsampling small pixels, centroid at the
            geometric centre, 1 over the whole plane (its sum is the fraction inside the stamp).
        narrow_psf (E, N, N): the same before a Gaussian of FWHM 2 small pixels.
        shapes: the E PSFs behind it, in pixels of the stamps.
        sky (E,): sky level, e-/s/px; rms (E,): the noise of an empty pixel, e-/s.
        exptime: seconds.
    """

    data: Array
    noise: Array
    model: Array
    cosmics: Mask
    x: Array
    y: Array
    flux: Array
    coefficient: Array
    star_flux: Array
    field_xy: Array
    psf: Array
    narrow_psf: Array
    shapes: tuple[Psf, ...]
    sky: Array
    rms: Array
    exptime: float
    subsampling: int


def star_stamps(
    seed: int,
    n_frames: int = 4,
    n_stars: int = 8,
    size: int = 24,
    subsampling: int = 2,
    *,
    magnitudes: tuple[float, float] = (15.5, 18.5),
    zeropoint: float = 25.5,
    exptime: float = 300.0,
    seeing: float = 3.2,
    seeing_scatter: float = 0.15,
    aberrated: float = 1.0,
    ellipticity: float = 0.03,
    psf_varies: float = 0.0,
    pattern: float = 0.0,
    transparency_scatter: float = 0.1,
    sky: float = 12.0,
    readnoise: float = 5.0,
    cosmics_per_stamp: float = 0.0,
) -> StarStamps:
    """Stars of a field in several frames.

    Args:
        seed: everything follows from it and the other arguments.
        n_frames, n_stars, size, subsampling: E, S, n, k.
        magnitudes: faintest and brightest, drawn uniformly; flux = 10^(0.4 (zeropoint - magnitude)) e-/s.
        exptime: s.
        seeing: median FWHM of the seeing in pixels; seeing_scatter: natural logarithm, from frame to frame.
        aberrated: by how much the aberrations of the optics are those of `ABERRATIONS`; ellipticity: RMS of each shear
            component from frame to frame.
        psf_varies: relative size of the dilation and shear of the PSF over the field, second order in position.
        pattern: waves RMS by which the optics are worse in the corners, see `Psf`.
        transparency_scatter: magnitudes of extinction, one-sided.
        sky: e-/s/px; readnoise: e-; cosmics_per_stamp: mean number.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(101,)))
    shapes = draw_psfs(rng, n_frames, seeing, seeing_scatter, ellipticity, aberrated)
    star_flux = 10 ** (0.4 * (zeropoint - rng.uniform(*magnitudes, n_stars)))
    field = rng.uniform(-1, 1, (n_stars, 2))
    coefficient = 10 ** (-0.4 * np.abs(rng.normal(0, transparency_scatter, n_frames)))
    variation = psf_varies * rng.normal(0, 1, (n_frames, 3, 5))
    shapes = tuple(
        replace(shape, pattern=pattern, variation=tuple(map(tuple, one)))
        for shape, one in zip(shapes, variation.tolist(), strict=True)
    )
    offsets = rng.uniform(-0.5, 0.5, (2, n_frames, n_stars))
    skies = sky * np.exp(rng.normal(0, 0.2, n_frames))
    flux = coefficient[:, None] * star_flux
    middle = (size - 1) / 2
    model = np.empty((n_frames, n_stars, size, size))
    for e, shape in enumerate(shapes):
        for s in range(n_stars):
            x, y = middle + offsets[:, e, s]
            model[e, s] = flux[e, s] * shape.at(*field[s]).star(size, x, y)
    psf = np.stack([shape.at().image(size, subsampling) for shape in shapes])
    noise, rms = noise_of(model, skies, exptime, readnoise)
    data = observe(rng, model, skies, exptime, readnoise)
    hits = np.zeros_like(data)
    for index in np.ndindex(n_frames, n_stars):
        hits[index] = cosmic_rays((size, size), rng.poisson(cosmics_per_stamp), rng)
    return StarStamps(
        data=data + hits / exptime,
        noise=noise,
        model=model,
        cosmics=hits > 0,
        x=offsets[0],
        y=offsets[1],
        flux=flux,
        coefficient=coefficient,
        star_flux=star_flux,
        field_xy=field,
        psf=psf,
        narrow_psf=np.stack([narrow_psf_image(shape.at(), size, subsampling) for shape in shapes]),
        shapes=shapes,
        sky=skies,
        rms=rms,
        exptime=exptime,
        subsampling=subsampling,
    )


def draw_psfs(
    rng: np.random.Generator,
    n: int,
    seeing: float,
    scatter: float,
    ellipticity: float,
    aberrated: float = 1.0,
) -> tuple[Psf, ...]:
    """PSFs of n frames of one telescope: log-normal seeing (median FWHM, scatter in ln), normal shear."""
    widths = seeing * np.exp(rng.normal(0, scatter, n))
    shears = np.clip(rng.normal(0, ellipticity, (n, 2)), -0.3, 0.3)
    aberrations = tuple(aberrated * one for one in ABERRATIONS)
    return tuple(
        Psf(float(width), aberrations=aberrations, shear=(float(e1), float(e2)))
        for width, (e1, e2) in zip(widths, shears, strict=True)
    )


def narrow_psf_image(psf: LocalPsf, size: int, subsampling: int) -> Array:
    """What gives `psf.image` when convolved with a sampled Gaussian of FWHM 2 small pixels; same grid, same centre."""
    n = size * subsampling
    wide = psf.image(2 * size, subsampling)
    axis = ifftshift(np.arange(2 * n) - n)
    gaussian = np.exp(-4 * np.log(2) * (axis / 2.0) ** 2)
    transform = fft2(np.outer(gaussian, gaussian) / gaussian.sum() ** 2).real
    narrow = ifft2(fft2(wide) / transform).real
    return narrow[n // 2 : n // 2 + n, n // 2 : n // 2 + n]


def noise_of(model: Array, sky: Array, exptime: float | Array, readnoise: float) -> tuple[Array, Array]:
    """Standard deviation of each pixel of the model (E, ...), and of an empty pixel (E,); e-/s.

    Args:
        sky: (E,) e-/s/px; exptime: s, or (E,); readnoise: e-.
    """
    empty = sky * exptime + readnoise**2
    seconds = np.broadcast_to(exptime, sky.shape).reshape(-1, *[1] * (model.ndim - 1))
    variance = model * seconds + empty.reshape(seconds.shape)
    return np.sqrt(variance) / seconds, np.sqrt(empty) / exptime


def observe(rng: np.random.Generator, model: Array, sky: Array, exptime: float, readnoise: float) -> Array:
    """The model (E, ...) in e-/s with photon noise and read noise, its true sky subtracted."""
    level = sky.reshape(-1, *[1] * (model.ndim - 1))
    electrons = rng.poisson((model + level) * exptime) + rng.normal(0, readnoise, model.shape)
    return electrons / exptime - level

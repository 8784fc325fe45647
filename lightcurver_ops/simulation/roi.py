"""Cutouts of a lens in memory, with their truth: for tests of the numerics, and for the photon-noise limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import galsim
import numpy as np

from .galaxies import draw_extended, sersic
from .psf import Array, LocalPsf, Psf
from .stamps import draw_psfs, narrow_psf_image, noise_of, observe

# Offsets in pixels, and magnitudes, of a quad lens 2" across at 0.35"/px.
QUAD_XY = ((-1.9, 1.6), (2.3, 1.9), (2.1, -1.4), (-1.2, -2.4))
QUAD_MAGNITUDES = (18.6, 19.1, 19.6, 20.4)


@dataclass(frozen=True)
class RoiStamps:
    """Cutouts of a lens with J images and a galaxy at E epochs, n x n pixels; sky subtracted, e-/s.

    Arcs of the quasar's host, where there are some, count as part of the galaxy.

    Attributes:
        data, noise, model (E, n, n): as in StarStamps.
        galaxy (E, n, n): the galaxy's part of `model`; unit_images (E, J, n, n): each image at flux 1.
        gradients (E, J, 2, n, n): derivative of unit_images by the image's x and y, per pixel.
        galaxy_gradient (E, 2, n, n): derivative of `galaxy` by a translation in x and y, per pixel.
        high_resolution (N, N): the galaxy, no atmosphere, convolved with a Gaussian of FWHM 2 small pixels; e-/s per
            small pixel.
        positions (J, 2): common (x, y) of the images, pixels from the geometric centre.
        translations (E, 2): (x, y) of everything in each epoch, pixels, to be added to the positions.
        flux (E, J): e-/s over the whole plane, coefficients divided out already.
        exptime (E,): seconds.
        psf, narrow_psf (E, N, N), shapes, sky, rms, subsampling: as in StarStamps.
        psf_slope (E, 2, N, N): derivative of `psf` by the place in x and y, per pixel; None where it is one over the
            field.
    """

    data: Array
    noise: Array
    model: Array
    galaxy: Array
    unit_images: Array
    gradients: Array
    galaxy_gradient: Array
    high_resolution: Array
    positions: Array
    translations: Array
    flux: Array
    psf: Array
    narrow_psf: Array
    shapes: tuple[Psf, ...]
    sky: Array
    rms: Array
    exptime: Array
    subsampling: int
    psf_slope: Array | None


def roi_stamps(
    seed: int,
    n_epochs: int = 8,
    size: int = 32,
    subsampling: int = 2,
    *,
    positions: tuple[tuple[float, float], ...] = QUAD_XY,
    magnitudes: tuple[float, ...] = QUAD_MAGNITUDES,
    variability: float = 0.1,
    galaxy_magnitude: float | None = 19.0,
    galaxy_radius: float = 2.5,
    galaxy_index: float = 3.0,
    zeropoint: float = 25.5,
    exptime: float = 300.0,
    seeing: float = 3.2,
    seeing_scatter: float = 0.15,
    aberrated: float = 1.0,
    ellipticity: float = 0.03,
    translation: float = 0.5,
    sky: float = 12.0,
    readnoise: float = 5.0,
) -> RoiStamps:
    """A lens at several epochs, normalised already: transparency 1 throughout.

    Args:
        seed: everything follows from it and the other arguments.
        n_epochs, size, subsampling: E, n, k.
        positions, magnitudes: of the J images: pixels from the centre, mean magnitudes.
        variability: standard deviation in mag of each image's flux from epoch to epoch.
        galaxy_magnitude (None: no galaxy), galaxy_radius (effective, pixels), galaxy_index (Sersic).
        translation: every epoch is shifted by a uniform number of pixels up to this, per axis.
        The others: as in star_stamps.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(102,)))
    shapes = draw_psfs(rng, n_epochs, seeing, seeing_scatter, ellipticity, aberrated)
    translations = rng.uniform(-translation, translation, (n_epochs, 2))
    changes = rng.normal(0, variability, (n_epochs, len(magnitudes)))
    skies = sky * np.exp(rng.normal(0, 0.2, n_epochs))
    flux = 10 ** (0.4 * (zeropoint - np.array(magnitudes) - changes))
    galaxy = None
    if galaxy_magnitude is not None:
        galaxy = sersic(galaxy_index, galaxy_radius, 0.8, 35.0).shift(0.15, -0.1)
        galaxy = galaxy.withFlux(10 ** (0.4 * (zeropoint - galaxy_magnitude)))
    clean = lens_stamps(
        np.array(positions),
        translations,
        flux,
        shapes,
        [galaxy] * n_epochs,
        skies,
        exptime,
        readnoise,
        size,
        subsampling,
    )
    data = observe(rng, clean.model, skies, exptime, readnoise)
    return replace(clean, data=data)


def lens_stamps(
    positions: Array,
    translations: Array,
    flux: Array,
    shapes: tuple[Psf, ...],
    extended: Sequence[galsim.GSObject | None],
    sky: Array,
    exptime: float | Array,
    readnoise: float,
    size: int,
    subsampling: int,
    local_at: Callable[[int, Array], LocalPsf] | None = None,
    varies: bool = False,
) -> RoiStamps:
    """The noiseless cutouts of a lens: `data` is `model`; arguments as the attributes of RoiStamps, and:

    Args:
        extended: galaxy and arcs of each epoch in pixels about the scene's origin, or None.
        local_at: the PSF of an epoch at an offset (x, y) from the stamp's middle, default: at the field's.
        varies: whether it is another one at each image.
    """
    n_epochs, n_images = flux.shape
    local = local_at or (lambda e, _offset: shapes[e].at())
    centres = [local(e, np.zeros(2)) for e in range(n_epochs)]
    middle = (size - 1) / 2
    box = (size, size)
    images = np.empty((n_epochs, n_images, size, size))
    gradients = np.empty((n_epochs, n_images, 2, size, size))
    galaxies = np.zeros((n_epochs, size, size))
    galaxy_gradient = np.zeros((n_epochs, 2, size, size))
    for e, scene in enumerate(extended):
        for j in range(n_images):
            here = local(e, positions[j] + translations[e]) if varies else centres[e]
            star = partial(here.star, size)
            images[e, j], gradients[e, j] = _with_slopes(star, *(middle + positions[j] + translations[e]))
        if scene is not None:
            blurred = partial(draw_extended, box, scene, centres[e].profile())
            galaxies[e], galaxy_gradient[e] = _with_slopes(blurred, *(middle + translations[e]))
    model = np.einsum("ej,ejpq->epq", flux, images) + galaxies
    noise, rms = noise_of(model, sky, exptime, readnoise)
    return RoiStamps(
        data=model,
        noise=noise,
        model=model,
        galaxy=galaxies,
        unit_images=images,
        gradients=gradients,
        galaxy_gradient=galaxy_gradient,
        high_resolution=_without_seeing(extended[0] if extended else None, size, subsampling),
        positions=positions,
        translations=translations,
        flux=flux,
        psf=np.stack([one.image(size, subsampling) for one in centres]),
        narrow_psf=np.stack([narrow_psf_image(one, size, subsampling) for one in centres]),
        shapes=shapes,
        sky=sky,
        rms=rms,
        exptime=np.broadcast_to(exptime, n_epochs),
        subsampling=subsampling,
        psf_slope=None
        if not varies
        else np.stack([_psf_slope(partial(local, e), size, subsampling) for e in range(n_epochs)]),
    )


def _psf_slope(
    local_at: Callable[[Array], LocalPsf], size: int, subsampling: int, step: float = 4.0
) -> Array:
    """Derivative (2, N, N) of the PSF by the place in x and y, per pixel."""
    up, down = (
        np.stack([local_at(sign * step * axis).image(size, subsampling) for axis in np.eye(2)])
        for sign in (1, -1)
    )
    return (up - down) / (2 * step)


def _without_seeing(scene: galsim.GSObject | None, size: int, subsampling: int) -> Array:
    side = size * subsampling
    if scene is None:
        return np.zeros((side, side))
    smooth = galsim.Convolve([scene, galsim.Gaussian(fwhm=2 / subsampling)])
    return smooth.drawImage(nx=side, ny=side, scale=1 / subsampling).array.astype(float)


def _with_slopes(draw: Callable[..., Array], x: float, y: float, step: float = 0.02) -> tuple[Array, Array]:
    """What `draw(x=, y=)` gives (n, n), and its derivatives by x and y (2, n, n)."""
    by_x = (draw(x=x + step, y=y) - draw(x=x - step, y=y)) / (2 * step)
    by_y = (draw(x=x, y=y + step) - draw(x=x, y=y - step)) / (2 * step)
    return draw(x=x, y=y), np.stack([by_x, by_y])

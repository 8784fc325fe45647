"""The point spread function of the simulation: seeing, telescope, guiding and detector, by GalSim.

Kolmogorov seeing, convolved with the diffraction of an obscured, aberrated pupil, with jitter and drift of the guiding,
and integrated over the pixels. Nothing of it is a profile that `numerics` fits. Lengths are in pixels, x and y those of
the frame; positions (u, v) in the field run from -1 to 1 per axis.

A star must cost little. What telescope, guiding and pixels change of the pure Kolmogorov profile is computed once, by
FFT, as an image of differences, which ends within some widths; stars are drawn by evaluating the profile, known to any
distance (from a table of GalSim's values where no pixel needs to be divided), and interpolating the differences.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GRID = 128  # side of the image of differences
CORE = 2.5  # FWHM from the centre within which pixels are integrated over finer samples
FINE = 4  # of these samples per pixel and axis
REACH = 10.0  # FWHM from the centre at which the differences have ended
PARAMETERS = galsim.GSParams(folding_threshold=2e-3, maximum_fft_size=8192)
_LOOSE = galsim.GSParams(folding_threshold=5e-3)  # of the pupil: what it scatters far away is not followed
_WAVELENGTH = 500.0  # nm; only its ratio to the diameter counts

# Waves RMS of Noll's terms 4 to 11: defocus, astigmatism (2), coma (2), trefoil (2), spherical.
ABERRATIONS = (0.30, 0.15, -0.10, 0.08, -0.06, 0.20, 0.10, 0.08)


@dataclass(frozen=True)
class Psf:
    """The PSF of one exposure, of unit flux.

    Args:
        seeing: FWHM of the Kolmogorov profile.
        diffraction: wavelength over diameter of the telescope.
        obscuration: diameter of the central obscuration over that of the pupil.
        aberrations: (8,) at the middle of the field, waves RMS of Noll's terms 4 to 11.
        pattern: by how many waves RMS the optics are worse at |(u, v)| = 1: this much defocus, half of it of radial
            astigmatism, both growing with the square of the distance from the middle, and half of it of radial coma,
            growing in proportion (the third-order aberrations, e.g. Schroeder 2000, Astronomical Optics, chapter 5).
        jitter: standard deviation of a Gaussian.
        trails: straight lines (x, y), each light moves evenly along: a drift of the guiding, a spectrum.
        shear: (e1, e2), (a - b) / (a + b) in modulus; e1 > 0 is elongated along x, e2 > 0 along x = y.
        variation: (3, 5): changes over the field of the dilation, e1 and e2; terms u, v, u^2, u v, v^2.
    """

    seeing: float
    diffraction: float = 0.14
    obscuration: float = 0.35
    aberrations: tuple[float, ...] = ABERRATIONS
    pattern: float = 0.0
    jitter: float = 0.25
    trails: tuple[tuple[float, float], ...] = ()
    shear: tuple[float, float] = (0.0, 0.0)
    variation: tuple[tuple[float, ...], ...] = ((0.0,) * 5,) * 3

    def at(self, u: float = 0.0, v: float = 0.0, stretch: Array | None = None) -> "LocalPsf":
        """The PSF at a place of the field, (2, 2) `stretch` applied to the plane on top."""
        terms = np.array([u, v, u**2, u * v, v**2])
        dilation, e1, e2 = np.array(self.variation) @ terms
        # Shears stay far from 1 and widths positive, whatever amplitude was asked for.
        shear = galsim.Shear(
            g1=float(np.clip(self.shear[0] + e1, -0.4, 0.4)),
            g2=float(np.clip(self.shear[1] + e2, -0.4, 0.4)),
        )
        matrix = float(np.clip(1 + dilation, 0.5, 2.0)) * shear.getMatrix()
        if stretch is not None:
            matrix = stretch @ matrix
        (a, b), (c, d) = matrix.tolist()
        return LocalPsf(self, u, v, ((a, b), (c, d)))

    @property
    def step(self) -> float:
        """Of the image of differences: a power of two, six or more to a FWHM."""
        return float(2.0 ** np.floor(np.log2(self.seeing / 6)))

    def aberrations_at(self, u: float, v: float) -> tuple[float, ...]:
        """Waves RMS (8,) at a place of the field."""
        here = np.array(self.aberrations)
        radius, angle = np.hypot(u, v), np.arctan2(v, u)
        here[0] += self.pattern * radius**2
        here[1:3] += 0.5 * self.pattern * radius**2 * np.array([np.sin(2 * angle), np.cos(2 * angle)])
        here[3:5] += 0.5 * self.pattern * radius * np.array([np.sin(angle), np.cos(angle)])
        return tuple(float(one) for one in here)


@dataclass(frozen=True)
class LocalPsf:
    """A PSF at one place of the field, its centroid at the source.

    Args:
        psf: of the exposure.
        u, v: the place.
        matrix: (2, 2), by which the plane is stretched there.
    """

    psf: Psf
    u: float
    v: float
    matrix: tuple[tuple[float, float], tuple[float, float]]

    def profile(self) -> galsim.GSObject:
        """As a GalSim object before the pixels, to be convolved with galaxies."""
        return galsim.Add(self.seeing(), self._differences(FINE))

    def seeing(self) -> galsim.GSObject:
        """The Kolmogorov profile alone."""
        return self._stretched(galsim.Kolmogorov(fwhm=self.psf.seeing, gsparams=PARAMETERS))

    def add_to(self, image: Array, x: float, y: float, flux: float, half: int) -> None:
        """Add a star to an image (ny, nx), within `half` pixels of it."""
        ny, nx = image.shape
        rows, columns = _overlap(ny, y, half), _overlap(nx, x, half)
        if rows is not None and columns is not None:
            image[rows, columns] += flux * self._on_pixels(rows, columns, x, y)

    def star(self, size: int, x: float, y: float) -> Array:
        """A star of unit flux, (size, size)."""
        return self._on_pixels(slice(0, size), slice(0, size), x, y)

    def image(self, size: float, subsampling: int = 1) -> Array:
        """The PSF on (size * subsampling) squared small pixels, its centroid at the geometric centre.

        Integrated over the small pixels and normalised to 1 over the whole plane: the sum over the array is the
        fraction of a star's flux that falls in a stamp of `size` pixels. The sides of the array may be odd: size is
        then a multiple of 1 / subsampling.
        """
        side = round(size * subsampling)
        finer = -(-FINE // subsampling)
        middle = (side / subsampling - 1) / 2
        fine = self._sampled(0, 0, (side * finer, side * finer), middle, middle, subsampling * finer)
        return fine.reshape(side, finer, side, finer).sum(axis=(1, 3))

    def _on_pixels(self, rows: slice, columns: slice, x: float, y: float) -> Array:
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        values = self._sampled(rows.start, columns.start, shape, x, y, 1)
        half = int(np.ceil(CORE * self.psf.seeing))
        inner_rows = _overlap(rows.stop, y, half, rows.start)
        inner_columns = _overlap(columns.stop, x, half, columns.start)
        if inner_rows is not None and inner_columns is not None:
            height, width = inner_rows.stop - inner_rows.start, inner_columns.stop - inner_columns.start
            fine = self._sampled(
                inner_rows.start, inner_columns.start, (height * FINE, width * FINE), x, y, FINE
            )
            top, left = inner_rows.start - rows.start, inner_columns.start - columns.start
            core = fine.reshape(height, FINE, width, FINE).sum(axis=(1, 3))
            values[top : top + height, left : left + width] = core
        return values

    def _sampled(self, row: int, column: int, shape: tuple[int, int], x: float, y: float, fine: int) -> Array:
        """Values times area on samples, `fine` to a pixel, the first one in the corner of pixel (row, column)."""
        image = galsim.ImageD(shape[1], shape[0], scale=1 / fine)
        at = galsim.PositionD((x - column + 0.5) * fine + 0.5, (y - row + 0.5) * fine + 0.5)
        if fine > 1:
            self.seeing().drawImage(image=image, center=at, method="no_pixel")
        else:
            image.array[:] = self._seeing_on_pixels(row, column, shape, x, y)
        half = REACH * self.psf.seeing * fine
        near = galsim.BoundsI(
            *(int(one) for one in (at.x - half, at.x + half + 1, at.y - half, at.y + half + 1))
        )
        near = near & image.bounds
        if near.isDefined():
            part = image[near]
            differences = self._differences(fine if fine > 1 else FINE)
            differences.drawImage(image=part, center=at, method="no_pixel", add_to_image=True)
        return image.array

    def _seeing_on_pixels(self, row: int, column: int, shape: tuple[int, int], x: float, y: float) -> Array:
        """The Kolmogorov profile at the middle of each pixel."""
        inverse = np.linalg.inv(self.matrix) / self.psf.seeing
        dx, dy = column + np.arange(shape[1]) - x, row + np.arange(shape[0])[:, None] - y
        radius2 = (inverse[0, 0] * dx + inverse[0, 1] * dy) ** 2 + (
            inverse[1, 0] * dx + inverse[1, 1] * dy
        ) ** 2
        return np.interp(radius2, *_kolmogorov()) * np.linalg.det(inverse)

    def _differences(self, fine: int) -> galsim.GSObject:
        """What is to be added to the Kolmogorov profile; already integrated over samples, `fine` to a pixel."""
        core = replace(self.psf, shear=(0.0, 0.0), variation=())
        if self.psf.pattern == 0:
            return self._stretched(
                _interpolated(
                    _difference_image(core, 0.0, 0.0, fine).tobytes(), self.psf.seeing, self.psf.step
                )
            )
        # The optics change slowly: parabolas through three by three places of the field.
        weights = [_through_three(np.clip(place, -1.2, 1.2)) for place in (self.u, self.v)]
        image = sum(
            weights[0][i] * weights[1][j] * _difference_image(core, float(i - 1), float(j - 1), fine)
            for i in range(3)
            for j in range(3)
        )
        return self._stretched(_interpolated(np.asarray(image).tobytes(), self.psf.seeing, self.psf.step))

    def _stretched(self, one: galsim.GSObject) -> galsim.GSObject:
        return one.transform(*self.matrix[0], *self.matrix[1]) / np.linalg.det(self.matrix)


def _through_three(place: float) -> tuple[float, float, float]:
    """Lagrange's weights of the values at -1, 0 and 1."""
    return place * (place - 1) / 2, 1 - place**2, place * (place + 1) / 2


@lru_cache(maxsize=1)
def _kolmogorov() -> tuple[Array, Array]:
    """Squares of radii in FWHM, and the surface brightness of a Kolmogorov profile there."""
    profile = galsim.Kolmogorov(fwhm=1.0, gsparams=PARAMETERS)
    radii = np.concatenate([[0.0], np.geomspace(0.02, 1000.0, 6000)])
    return radii**2, np.array([profile.xValue(radius, 0.0) for radius in radii])


@lru_cache(maxsize=4)
def _interpolated(values: bytes, seeing: float, step: float) -> galsim.GSObject:
    image = galsim.ImageD(np.frombuffer(values).reshape(GRID, GRID).copy(), scale=step)
    return galsim.InterpolatedImage(
        image,
        x_interpolant="quintic",
        k_interpolant="linear",  # of the image with four times its width of zeros
        normalization="sb",
        use_true_center=False,
        gsparams=PARAMETERS,
        _force_stepk=np.pi / (5 * seeing),
        _force_maxk=min(np.pi / step, galsim.Kolmogorov(fwhm=seeing).maxk),
    )


@lru_cache(maxsize=64)
def _difference_image(psf: Psf, u: float, v: float, fine: int) -> Array:
    """Surface brightness (GRID, GRID) of the PSF, integrated over samples, less that of the Kolmogorov profile."""
    step = psf.step
    others = [galsim.Pixel(1 / fine)]
    if psf.jitter > 0:
        others.append(galsim.Gaussian(sigma=psf.jitter))
    for along in psf.trails:
        length = float(np.hypot(*along))
        if length > 0:
            angle = np.arctan2(along[1], along[0]) * galsim.radians
            others.append(galsim.Box(length, 1e-3 * length).rotate(angle))
    transform = _optics(psf.diffraction, psf.obscuration, psf.aberrations_at(u, v), step)
    for one in others:
        transform = transform * _transform(one, step)
    transform = _transform(galsim.Kolmogorov(fwhm=psf.seeing), step) * (transform - 1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(transform)).real) / step**2


@lru_cache(maxsize=64)
def _optics(diffraction: float, obscuration: float, aberrations: tuple[float, ...], step: float) -> Array:
    """Transform of the telescope's own PSF, centred on its centroid."""
    pupil = _pupil(diffraction, obscuration)
    optics = galsim.OpticalPSF(
        lam_over_diam=diffraction,
        aper=pupil,
        aberrations=[0.0, 0.0, 0.0, 0.0, *aberrations],
        gsparams=_LOOSE,
        suppress_warning=True,
    )
    # The centroid lies where the mean slope of the wavefront is, and only coma has one: Zernike's sqrt(8) (3 r^3 -
    # 2 r) cos(phi) over an annulus has sqrt(8) (1 + 3 obscuration^2) waves per radius, a radius being half a diameter.
    slope = 2 * diffraction * np.sqrt(8) * (1 + 3 * obscuration**2)
    coma_y, coma_x = aberrations[3:5]
    return _transform(optics.shift(slope * coma_x, slope * coma_y), step)


@lru_cache(maxsize=16)
def _pupil(diffraction: float, obscuration: float) -> galsim.Aperture:
    diameter = _WAVELENGTH * 1e-9 / np.deg2rad(diffraction / 3600)
    return galsim.Aperture(
        diam=diameter,
        lam=_WAVELENGTH,
        obscuration=obscuration,
        pad_factor=1.0,
        oversampling=1.0,
        gsparams=_LOOSE,
    )


def _transform(one: galsim.GSObject, step: float) -> Array:
    return one.drawKImage(nx=GRID, ny=GRID, scale=2 * np.pi / (GRID * step)).array


def _overlap(size: int, at: float, half: int, start: int = 0) -> slice | None:
    low, high = max(round(at) - half, start), min(round(at) + half + 1, size)
    return slice(low, high) if low < high else None

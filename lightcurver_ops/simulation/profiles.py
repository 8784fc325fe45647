"""Light profiles on pixels: a Moffat PSF with a trefoil, and a Sersic galaxy convolved with it.

Everything is integrated over the pixels. Distances are in pixels of the grid drawn on; a grid finer by a factor k is
drawn with `Psf.scaled(k)` and positions times k.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.special import erf, gammaincinv

Array = NDArray[np.float64]

# The trefoil that keeps the PSF from being a plain Moffat: three Gaussians, centroid unchanged. Units of the FWHM.
TREFOIL_RADIUS = 0.55
TREFOIL_SIGMA = 0.35
GALAXY_CUT = 8.0  # a Sersic profile ends at this many effective radii, and has its whole flux inside
CHUNK = 16  # sources drawn at once: the work arrays stay in the cache


@dataclass(frozen=True)
class Psf:
    """A point spread function before the pixels, of unit flux, centred on its centroid.

    `1 - trefoil` of the flux is a Moffat profile, sheared at constant area; the rest three Gaussians at 120 degrees.

    Args:
        fwhm: of the Moffat, pixels (geometric mean of the axes); a number, or one per source (S,).
        beta: Moffat exponent.
        e1, e2: shear, (a - b) / (a + b) in modulus; e1 > 0 is elongated along x, e2 > 0 along x = y; numbers or (S,).
        trefoil: fraction of the flux in the trefoil.
        trefoil_angle: direction of its first lobe, degrees from +x towards +y.
    """

    fwhm: ArrayLike
    beta: float = 3.0
    e1: ArrayLike = 0.0
    e2: ArrayLike = 0.0
    trefoil: float = 0.0
    trefoil_angle: float = 0.0

    def scaled(self, factor: float) -> "Psf":
        """The same PSF on pixels that are smaller by this factor."""
        return replace(self, fwhm=np.asarray(self.fwhm, float) * factor)

    def radius(self, loss: float) -> float:
        """Radius in pixels outside which the widest of the PSFs has at most this fraction of its flux.

        Encircled energy of a Moffat profile: Trujillo et al. 2001, MNRAS 328, 977.
        """
        shear = float(np.max(np.hypot(self.e1, self.e2)))
        core = float(np.max(np.asarray(self.fwhm))) * self._core_per_fwhm
        moffat = core * np.sqrt(loss ** (1 / (1 - self.beta)) - 1)
        return float(np.sqrt((1 + shear) / (1 - shear)) * moffat)

    def of_source(self, index: int) -> "Psf":
        """The PSF of one source of several."""
        values = np.broadcast_arrays(*np.atleast_1d(self.fwhm, self.e1, self.e2))
        fwhm, e1, e2 = (float(value[index]) for value in values)
        return replace(self, fwhm=fwhm, e1=e1, e2=e2)

    @property
    def _core_per_fwhm(self) -> float:
        return float(0.5 / np.sqrt(2 ** (1 / self.beta) - 1))


def draw_points(
    shape: tuple[int, int], x: ArrayLike, y: ArrayLike, flux: ArrayLike, psf: Psf, loss: float = 1e-4
) -> Array:
    """An image (ny, nx) of point sources at the pixel positions x, y (S,) with the fluxes flux (S,).

    Each source is drawn in a square box that misses less than `loss` of its flux; sources off the image contribute
    where their box reaches it. The value of a pixel is right to 1e-4 of the source's peak for FWHM above 1 pixel.
    """
    names = (x, y, flux, psf.fwhm, psf.e1, psf.e2)
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, float)) for value in names))
    ny, nx = shape
    half = int(np.ceil(psf.radius(loss)))
    near = (np.abs(arrays[0] - nx / 2) < nx / 2 + half) & (np.abs(arrays[1] - ny / 2) < ny / 2 + half)
    x, y, flux, fwhm, e1, e2 = (array[near] for array in arrays)
    if x.size == 0:
        return np.zeros(shape)
    # No box needs to reach further than the farthest side of the image.
    half = min(half, int(np.ceil(max(x.max(), y.max(), nx - x.min(), ny - y.min()))))
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    image = np.zeros(shape)
    for start in range(0, x.size, CHUNK):
        part = slice(start, start + CHUNK)
        local = replace(psf, fwhm=fwhm[part], e1=e1[part], e2=e2[part])
        boxes = _boxes(x[part] - column[part], y[part] - row[part], local, half) * flux[part, None, None]
        for box, c, r in zip(boxes, column[part], row[part], strict=True):
            _add(image, box, c, r)
    return image


def psf_image(psf: Psf, size: int, subsampling: int = 1) -> Array:
    """The PSF on (size * subsampling) squared small pixels, its centroid at the geometric centre.

    Integrated over the small pixels and normalised to 1 over the whole plane: the sum over the array is the fraction
    of a star's flux that falls in a stamp of `size` pixels.
    """
    n = size * subsampling
    middle = (n - 1) / 2
    return draw_points((n, n), middle, middle, 1.0, psf.scaled(subsampling), loss=1e-7)


def draw_galaxy(
    shape: tuple[int, int],
    x: float,
    y: float,
    flux: float,
    effective_radius: float,
    sersic_index: float,
    axis_ratio: float,
    angle: float,
    psf: Psf,
) -> Array:
    """An image (ny, nx) of a Sersic galaxy convolved with the PSF (one PSF, not one per source).

    Args:
        x, y: its centre, pixels.
        flux: total; the profile is cut at 8 effective radii and normalised inside.
        effective_radius: along the major axis, pixels.
        sersic_index: 0.5 to 6.
        axis_ratio: minor over major axis.
        angle: of the major axis, degrees from +x towards +y.
    """
    fine = 3  # odd, so that the fine cells share the pixels' centres
    column, row = round(x), round(y)
    half = int(np.ceil(GALAXY_CUT * effective_radius)) + 1
    n = (2 * half + 1) * fine
    middle = (n - 1) / 2
    cells = sersic_cells(
        n,
        middle + fine * (x - column),
        middle + fine * (y - row),
        effective_radius * fine,
        sersic_index,
        axis_ratio,
        angle,
    )
    reach = int(np.ceil(psf.radius(1e-3)))
    kernel = psf_image(psf, 2 * reach + 1, fine)
    total = half + reach
    size = (2 * total + 1) * fine
    fft = next_fast_len(size + 2, real=True)
    blurred = irfft2(rfft2(cells, (fft, fft)) * rfft2(kernel, (fft, fft)), (fft, fft))
    # The full convolution has two cells more than whole pixels: one on each side.
    whole = blurred[1 : size + 1, 1 : size + 1]
    binned = whole.reshape(2 * total + 1, fine, 2 * total + 1, fine).sum(axis=(1, 3))
    image = np.zeros(shape)
    _add(image, flux * binned, column, row)
    return image


def sersic_cells(
    n: int, x: float, y: float, effective_radius: float, sersic_index: float, axis_ratio: float, angle: float
) -> Array:
    """A Sersic profile of unit flux integrated over n x n cells, no PSF; distances in cells.

    Graham & Driver 2005, PASA 22, 118, eq. 1. The central cells are integrated on a finer grid: the cusp is steep.
    """
    grid = np.arange(n, dtype=float)

    def mean_of(rows: Array, columns: Array, steps: int) -> Array:
        inner = (np.arange(steps) + 0.5) / steps - 0.5
        dy = (rows[:, None] + inner).ravel()[:, None] - y
        dx = (columns[:, None] + inner).ravel()[None, :] - x
        theta = np.deg2rad(angle)
        major = dx * np.cos(theta) + dy * np.sin(theta)
        minor = (dy * np.cos(theta) - dx * np.sin(theta)) / axis_ratio
        radius = np.sqrt(major**2 + minor**2) / effective_radius
        b = gammaincinv(2 * sersic_index, 0.5)
        value = np.where(radius < GALAXY_CUT, np.exp(-b * radius ** (1 / sersic_index)), 0.0)
        return value.reshape(rows.size, steps, columns.size, steps).mean(axis=(1, 3))

    cells = mean_of(grid, grid, 2)
    top, left = max(int(y) - 3, 0), max(int(x) - 3, 0)
    centre = np.s_[top : top + 8, left : left + 8]
    cells[centre] = mean_of(grid[centre[0]], grid[centre[1]], 25)
    return cells / cells.sum()


def _add(image: Array, box: Array, column: int, row: int) -> None:
    """Add a box of odd size centred at (row, column), as far as it lies on the image."""
    half_y, half_x = box.shape[0] // 2, box.shape[1] // 2
    top, left = row - half_y, column - half_x
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(row + half_y + 1, image.shape[0]), min(column + half_x + 1, image.shape[1])
    if y0 < y1 and x0 < x1:
        image[y0:y1, x0:x1] += box[y0 - top : y1 - top, x0 - left : x1 - left]


def _boxes(dx: Array, dy: Array, psf: Psf, half: int) -> Array:
    """Unit sources (S,) at dx, dy from the centres of boxes of 2 * half + 1 pixels: (S, n, n)."""
    boxes = (1 - psf.trefoil) * _moffat_boxes(dx, dy, psf, half)
    if psf.trefoil > 0:
        fwhm = np.asarray(psf.fwhm)
        angles = np.deg2rad(psf.trefoil_angle + np.array([0.0, 120.0, 240.0]))
        for angle in angles:
            shift = TREFOIL_RADIUS * fwhm
            columns = _gaussian_on_pixels(dx + shift * np.cos(angle), TREFOIL_SIGMA * fwhm, half)
            rows = _gaussian_on_pixels(dy + shift * np.sin(angle), TREFOIL_SIGMA * fwhm, half)
            boxes += (psf.trefoil / 3) * rows[:, :, None] * columns[:, None, :]
    return boxes


def _gaussian_on_pixels(centre: Array, sigma: Array, half: int) -> Array:
    edges = np.arange(-half, half + 2) - 0.5
    return np.diff(erf((edges - centre[:, None]) / (np.sqrt(2) * sigma[:, None])), axis=1) / 2


def _moffat_boxes(dx: Array, dy: Array, psf: Psf, half: int) -> Array:
    """Moffat integrated over pixels: Gauss-Legendre in the core, the mid-point rule to fourth order in the wings."""
    fwhm = np.asarray(psf.fwhm)
    grid = np.arange(-half - 1, half + 2, dtype=float)
    middle = _moffat(grid - dx[:, None], grid - dy[:, None], psf)
    # The mean over a unit pixel is f + laplacian(f) / 24 + ..., and the laplacian comes from the neighbours.
    inner = middle[:, 1:-1, 1:-1]
    neighbours = middle[:, :-2, 1:-1] + middle[:, 2:, 1:-1] + middle[:, 1:-1, :-2] + middle[:, 1:-1, 2:]
    boxes = inner + (neighbours - 4 * inner) / 24
    core = min(max(4, int(np.ceil(2 * fwhm.max()))), half)
    nodes, weights = np.polynomial.legendre.leggauss(int(np.clip(np.ceil(8 / fwhm.min()) + 1, 3, 10)))
    fine = (np.arange(-core, core + 1)[:, None] + nodes / 2).ravel()
    values = _moffat(fine - dx[:, None], fine - dy[:, None], psf)
    n = 2 * core + 1
    split = values.reshape(dx.size, n, nodes.size, n, nodes.size)
    inside = slice(half - core, half + core + 1)
    boxes[:, inside, inside] = np.einsum("sajbk,j,k->sab", split, weights / 2, weights / 2, optimize=True)
    return boxes


def _moffat(x: Array, y: Array, psf: Psf) -> Array:
    """Density (S, m, m) of the sheared Moffat at the columns x (S, m) and rows y (S, m) from its centre."""
    core = np.asarray(psf.fwhm) * psf._core_per_fwhm
    e1, e2 = np.asarray(psf.e1), np.asarray(psf.e2)
    scale = 1 / (core**2 * (1 - e1**2 - e2**2))
    xx, yy, xy = ((1 - e1) ** 2 + e2**2) * scale, ((1 + e1) ** 2 + e2**2) * scale, -4 * e2 * scale
    radius2 = (xx[:, None] * x**2)[:, None, :] + (yy[:, None] * y**2)[:, :, None]
    radius2 += xy[:, None, None] * y[:, :, None] * x[:, None, :]
    radius2 += 1
    np.power(radius2, -psf.beta, out=radius2)
    radius2 *= ((psf.beta - 1) / (np.pi * core**2))[:, None, None]
    return radius2

"""Bad inputs, made from a good raw frame: what a pipeline meets sooner or later, and must survive.

Each function takes a good raw frame (16 bit ADU, written by `simulate_season`) and the path to write, and returns that
path. The good frame is not touched.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits

from lightcurver_ops.constants import MAD_TO_SIGMA

from .psf import Array, Psf

MAXIMUM = 65535


def truncated(raw: Path, target: Path, fraction: float = 0.6) -> Path:
    """The first part of the file, as a broken transfer leaves it."""
    content = raw.read_bytes()
    target.write_bytes(content[: int(fraction * len(content))])
    return target


def not_fits(raw: Path, target: Path) -> Path:
    """A web page under the name of a frame."""
    target.write_text(f"<html><body>404: {raw.name} not found</body></html>\n")
    return target


def without_exposure_time(raw: Path, target: Path, keyword: str = "EXPTIME") -> Path:
    """The header lacks a keyword."""
    data, header = _read(raw)
    del header[keyword]
    return _write(target, data, header)


def all_nan(raw: Path, target: Path) -> Path:
    """A float image of NaN only."""
    data, header = _read(raw)
    return _write(target, np.full(data.shape, np.nan, dtype=np.float32), header)


def other_shape(raw: Path, target: Path, fraction: float = 0.5) -> Path:
    """A window of the detector: the central part, fewer rows and columns."""
    data, header = _read(raw)
    ny, nx = data.shape
    top, left = (int(side * (1 - fraction) / 2) for side in (ny, nx))
    for axis, margin in ((1, left), (2, top)):
        if f"CRPIX{axis}" in header:
            header[f"CRPIX{axis}"] -= margin
    return _write(target, data[top : ny - top, left : nx - left], header)


def duplicate(raw: Path, target: Path) -> Path:
    """The same exposure under another name: pixels and times as they were, a comment in the header."""
    data, header = _read(raw)
    header["HISTORY"] = "copied"
    return _write(target, data, header)


def other_pixels(raw: Path, target: Path, seed: int = 0) -> Path:
    """The same header over a fresh noise: give it the name of an exposure that was imported already."""
    data, header = _read(raw)
    noise = np.random.default_rng(seed).normal(0, _noise(data), data.shape)
    return _write(target, _adu(data + noise), header)


def other_field(raw: Path, target: Path, seed: int = 0, n_stars: int = 50, move_deg: float = 5.0) -> Path:
    """Other stars under the same header: the telescope pointed elsewhere. A WCS in the header says where."""
    data, header = _read(raw)
    rng = np.random.default_rng(seed)
    ny, nx = data.shape
    peak = 10 ** rng.uniform(2.0, 4.3, n_stars)
    psf = Psf(3.0).at()
    stars = np.zeros((ny, nx))
    for x, y, height in zip(rng.uniform(0, nx, n_stars), rng.uniform(0, ny, n_stars), peak, strict=True):
        psf.add_to(stars, x, y, height / 0.06, 60)
    sky, noise = np.median(data), _noise(data)
    gain = float(header.get("GAIN", 1.0))
    image = sky + rng.poisson(np.maximum(stars, 0) * gain) / gain + rng.normal(0, noise, data.shape)
    if "CRVAL2" in header:
        header["CRVAL2"] += move_deg
    return _write(target, _adu(image), header)


def constant(raw: Path, target: Path, value: int = 1000) -> Path:
    """Every pixel the same: a shutter or a read-out that failed."""
    data, header = _read(raw)
    return _write(target, np.full_like(data, value), header)


def saturated(raw: Path, target: Path) -> Path:
    """Every pixel at the saturation level (SATURATE in the header, or full scale): a frame of the twilight."""
    data, header = _read(raw)
    return _write(target, np.full_like(data, int(header.get("SATURATE", MAXIMUM))), header)


def trailed(raw: Path, target: Path, length: int = 8, seed: int = 0, *, double: bool = False) -> Path:
    """Stars drawn out along x by this many pixels, or, with `double`, seen twice: guiding failed. Noise as before."""
    data, header = _read(raw)
    shifts = np.array([0, length]) if double else np.arange(length + 1)
    image = np.mean([np.roll(data.astype(float), shift, axis=1) for shift in shifts], axis=0)
    lost = _noise(data) * np.sqrt(1 - 1 / shifts.size)
    return _write(target, _adu(image + np.random.default_rng(seed).normal(0, lost, data.shape)), header)


def clouded(raw: Path, target: Path, transparency: float = 0.03, seed: int = 0) -> Path:
    """Stars dimmed to this fraction, the sky as bright as before, with its noise."""
    data, header = _read(raw)
    sky, noise = np.median(data), _noise(data)
    image = sky + transparency * (data - sky)
    lost = noise * np.sqrt(1 - transparency**2)
    return _write(target, _adu(image + np.random.default_rng(seed).normal(0, lost, data.shape)), header)


def mirrored(raw: Path, target: Path) -> Path:
    """Columns from right to left: a camera that was turned round, or another ROWORDER."""
    data, header = _read(raw)
    return _write(target, data[:, ::-1], header)


def binned(raw: Path, target: Path) -> Path:
    """Two by two pixels in one, the mean of their ADU."""
    data, header = _read(raw)
    ny, nx = (side // 2 for side in data.shape)
    header["GAIN"] = 4 * header["GAIN"]
    image = data[: 2 * ny, : 2 * nx].reshape(ny, 2, nx, 2).mean(axis=(1, 3))
    return _write(target, _adu(image), header)


def _read(raw: Path) -> tuple[Array, fits.Header]:
    with fits.open(raw) as hdus:
        data, header = hdus[0].data.copy(), hdus[0].header.copy()
    for keyword in ("BZERO", "BSCALE"):  # the writer sets them again where it needs them
        header.remove(keyword, ignore_missing=True)
    return data, header


def _write(target: Path, data: Array, header: fits.Header) -> Path:
    fits.PrimaryHDU(data, header).writeto(target, overwrite=True)
    return target


def _noise(data: Array) -> float:
    """Of one pixel: from neighbours in a column, which a gradient or the wings of stars hardly touch."""
    return float(MAD_TO_SIGMA * np.median(np.abs(np.diff(data.astype(float), axis=0))) / np.sqrt(2))


def _adu(image: Array) -> Array:
    return np.clip(np.rint(image), 0, MAXIMUM).astype(np.uint16)

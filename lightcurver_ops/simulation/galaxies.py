"""Galaxies as GalSim objects on pixels: the lens galaxy, the lensed host, small galaxies of the field."""

import galsim
import numpy as np

from .lensing import lensed_host
from .options import GalaxyOptions, LensOptions
from .psf import PARAMETERS, Array

CUT = 8.0  # a Sersic profile ends at this many effective radii, and has its whole flux inside


def sersic(index: float, radius: float, axis_ratio: float, angle: float) -> galsim.GSObject:
    """A Sersic profile of unit flux; radius along the major axis, angle of that in degrees from +x towards +y."""
    circular = radius * np.sqrt(axis_ratio)
    if index == 1.0:
        round_one = galsim.Exponential(half_light_radius=circular, gsparams=PARAMETERS)
    else:
        round_one = galsim.Sersic(
            index, half_light_radius=circular, trunc=CUT * circular, gsparams=PARAMETERS
        )
    return round_one.shear(q=axis_ratio, beta=angle * galsim.degrees)


def lens_galaxy(galaxy: GalaxyOptions) -> galsim.GSObject:
    """The galaxy of unit flux about its centre; x is east and y north, arcsec."""
    angle = 90 - galaxy.position_angle_deg
    radius = galaxy.effective_radius_arcsec
    bulge = sersic(galaxy.sersic_index, radius, galaxy.axis_ratio, angle)
    if galaxy.disc_fraction == 0:
        return bulge
    disc = sersic(1.0, galaxy.disc_radius * radius, galaxy.disc_axis_ratio, angle)
    return (1 - galaxy.disc_fraction) * bulge + galaxy.disc_fraction * disc


def lens_light(
    lens: LensOptions, zeropoint: float, to_pixels: Array, lifted: tuple[Array, Array]
) -> galsim.GSObject | None:
    """Galaxy and arcs of a lens in the pixels of a frame, its centre at the origin; None where it has neither.

    Args:
        lens: its options.
        zeropoint: magnitude of 1 e-/s: gives the flux.
        to_pixels: (2, 2), from (east, north) in arcsec to (x, y) in pixels.
        lifted: by how many pixels the air moves the galaxy and the host.
    """
    parts = []
    if lens.galaxy is not None:
        place = to_pixels @ lens.galaxy.offset_arcsec + lifted[0]
        one = on_pixels(lens_galaxy(lens.galaxy), to_pixels).shift(*place)
        parts.append(one.withFlux(10 ** (0.4 * (zeropoint - lens.galaxy.magnitude))))
    if lens.host is not None:
        one = on_pixels(lensed_host(lens.mass, lens.host), to_pixels).shift(*lifted[1])
        parts.append(one.withFlux(10 ** (0.4 * (zeropoint - lens.host.magnitude))))
    return galsim.Add(parts) if parts else None


def on_pixels(one: galsim.GSObject, to_pixels: Array) -> galsim.GSObject:
    """An object of the sky in the pixels of a frame, its flux unchanged."""
    return one.transform(*to_pixels.ravel()).withFlux(one.flux)


def draw_extended(
    shape: tuple[int, int], one: galsim.GSObject, psf: galsim.GSObject, x: float, y: float
) -> Array:
    """An image (ny, nx) of an object seen through a PSF, its origin at the pixel position x, y."""
    ny, nx = shape
    seen = galsim.Convolve([one, psf], gsparams=PARAMETERS, propagate_gsparams=False)
    # Fourier transforms repeat the image: an edge keeps what leaves one side from entering at the other.
    edge = max(8, round(0.25 * max(shape)))
    image = galsim.ImageD(nx + 2 * edge, ny + 2 * edge, scale=1.0)
    seen.drawImage(image=image, center=galsim.PositionD(x + edge + 1, y + edge + 1))
    return image.array[edge : edge + ny, edge : edge + nx]


def add_extended(
    image: Array, one: galsim.GSObject, psf: galsim.GSObject, x: float, y: float, half: int
) -> None:
    """Add an object to an image (ny, nx), within `half` pixels of x, y."""
    ny, nx = image.shape
    column, row = round(x), round(y)
    left, right = max(column - half, 0), min(column + half + 1, nx)
    bottom, top = max(row - half, 0), min(row + half + 1, ny)
    if left < right and bottom < top:
        side = 2 * half + 1
        drawn = draw_extended((side, side), one, psf, x - column + half, y - row + half)
        image[bottom:top, left:right] += drawn[
            bottom - row + half : top - row + half, left - column + half : right - column + half
        ]

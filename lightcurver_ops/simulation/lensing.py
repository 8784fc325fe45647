"""A lens of an isothermal ellipsoid in external shear: where images appear, how bright, how late; the lensed host.

Angles in arcsec, east and north of the mass's centre; position angles in degrees from north to east.
"""

from dataclasses import dataclass
from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

Array = NDArray[np.float64]

DELAY = 90.0  # days per square arcsec of the time-delay function: a lens at z = 0.5 before a quasar at z = 2
HOST_STEP = 0.04  # arcsec, of the rays that draw the host
CENTRE = 0.03  # Einstein radii from the centre within which an image is the singularity's


@dataclass(frozen=True)
class MassOptions:
    """The mass of the lens: a singular isothermal ellipsoid and an external shear.

    Args:
        einstein_radius_arcsec: of the circular lens of the same mass.
        axis_ratio: of the surface density; position_angle_deg: of its major axis.
        shear: modulus; shear_angle_deg: along which it stretches images.
        source_arcsec: (east, north) of the quasar behind it.
    """

    einstein_radius_arcsec: float = 0.9
    axis_ratio: float = 0.7
    position_angle_deg: float = 35.0
    shear: float = 0.03
    shear_angle_deg: float = 60.0
    source_arcsec: tuple[float, float] = (0.01, 0.02)

    def deflection(self, east: Array, north: Array) -> tuple[Array, Array]:
        """By which angle rays through these places are bent: place minus source.

        Kormann, Schneider & Bartelmann 1994, A&A 284, 285, eq. 27a; Keeton 2001, astro-ph/0102341.
        """
        along, across = _turned(east, north, self.position_angle_deg)
        q = min(self.axis_ratio, 0.999)
        f = np.sqrt(1 - q**2)
        psi = np.maximum(np.hypot(q * along, across), 1e-12)
        scale = self.einstein_radius_arcsec * np.sqrt(q) / f
        bent = _back(
            scale * np.arctan(f * along / psi), scale * np.arctanh(f * across / psi), self.position_angle_deg
        )
        along, across = _turned(east, north, self.shear_angle_deg)
        sheared = _back(self.shear * along, -self.shear * across, self.shear_angle_deg)
        return bent[0] + sheared[0], bent[1] + sheared[1]

    def source_of(self, east: Array, north: Array) -> tuple[Array, Array]:
        """Where in the source plane rays through these places come from."""
        bent_east, bent_north = self.deflection(east, north)
        return east - bent_east, north - bent_north

    def jacobian(self, east: Array, north: Array, step: float = 1e-5) -> Array:
        """Derivative (..., 2, 2) of the source's place by the image's; 1 / determinant is the magnification."""
        east, north = np.asarray(east, float), np.asarray(north, float)
        columns = [
            (
                np.stack(self.source_of(east + dx, north + dy))
                - np.stack(self.source_of(east - dx, north - dy))
            )
            / (2 * step)
            for dx, dy in ((step, 0.0), (0.0, step))
        ]
        return np.moveaxis(np.stack(columns, axis=1), (0, 1), (-2, -1))

    def images(self) -> "Images":
        """The images of the quasar, by arrival.

        A grid of rays is cut into triangles; those that surround the quasar in the source plane start Newton's method.
        """
        source = np.array(self.source_arcsec)
        half = 3.0 * self.einstein_radius_arcsec + 2 * float(np.hypot(*source))
        axis = np.linspace(-half, half, 301) + 1e-3 * half  # no ray through the singularity
        east, north = np.meshgrid(axis, axis)
        traced = np.stack(self.source_of(east, north), axis=-1) - source
        corners = traced[:-1, :-1], traced[:-1, 1:], traced[1:, 1:], traced[1:, :-1]
        inside = _around_origin(corners[0], corners[1], corners[2])
        inside |= _around_origin(corners[0], corners[2], corners[3])
        rows, columns = np.nonzero(inside)
        spacing = axis[1] - axis[0]
        starts = np.stack([axis[columns], axis[rows]], axis=-1) + 0.5 * spacing
        found: list[Array] = []
        for start in starts:
            place = self._newton(start, source, spacing)
            if place is None or np.hypot(*place) < CENTRE * self.einstein_radius_arcsec:
                continue
            if all(np.hypot(*(place - other)) > 1e-4 for other in found):
                found.append(place)
        places = np.array(found).reshape(-1, 2)
        magnification = 1 / np.linalg.det(self.jacobian(places[:, 0], places[:, 1]))
        delay = DELAY * self._arrival(places, source)
        order = np.argsort(delay)
        return Images(places[order], magnification[order], delay[order] - delay.min(initial=np.inf))

    def _newton(self, place: Array, source: Array, largest: float) -> Array | None:
        for _ in range(50):
            off = np.array(self.source_of(place[0], place[1])) - source
            step = np.linalg.solve(self.jacobian(place[0], place[1]), off)
            size = float(np.hypot(*step))
            place = place - step * min(1.0, largest / max(size, 1e-300))
            if size < 1e-9:
                return place
        return None

    def _arrival(self, places: Array, source: Array) -> Array:
        """The time-delay function: half the squared bend less the potential (Schneider et al. 1992, eq. 5.45)."""
        along, across = _turned(places[:, 0], places[:, 1], self.shear_angle_deg)
        shear = 0.5 * self.shear * (along**2 - across**2)
        bent = np.stack(self.deflection(places[:, 0], places[:, 1]), axis=-1)
        # The isothermal potential is homogeneous of degree one: Euler's relation gives it from its gradient.
        isothermal = (places * bent).sum(axis=-1) - 2 * shear
        return 0.5 * ((places - source) ** 2).sum(axis=-1) - isothermal - shear


@dataclass(frozen=True)
class Images:
    """Places (J, 2) in arcsec, signed magnifications (J,), delays (J,) in days after the first."""

    places: Array
    magnification: Array
    delay: Array


@dataclass(frozen=True)
class HostOptions:
    """The galaxy around the quasar, which the lens draws out to arcs.

    Args:
        magnitude: of all its lensed light, the same in all filters.
        effective_radius_arcsec: before it is lensed, along the major axis.
        sersic_index, axis_ratio, position_angle_deg: before it is lensed.
    """

    magnitude: float = 21.0
    effective_radius_arcsec: float = 0.2
    sersic_index: float = 1.0
    axis_ratio: float = 0.7
    position_angle_deg: float = 110.0

    def brightness(self, east: Array, north: Array) -> Array:
        """Surface brightness, 1 at the effective radius, at these places from its centre in the source plane."""
        along, across = _turned(east, north, self.position_angle_deg)
        radius = np.hypot(along, across / self.axis_ratio) / self.effective_radius_arcsec
        b = gammaincinv(2 * self.sersic_index, 0.5)
        return np.exp(-b * (radius ** (1 / self.sersic_index) - 1))


@lru_cache(maxsize=8)
def lensed_host(mass: MassOptions, host: HostOptions) -> galsim.GSObject:
    """The host seen through the lens, of unit flux, centred on the mass; x is east and y north, arcsec."""
    reach = float(np.hypot(*mass.source_arcsec)) + 6 * host.effective_radius_arcsec
    half = int(np.ceil((1.6 * mass.einstein_radius_arcsec + reach) / HOST_STEP))
    axis = HOST_STEP * np.arange(-half, half + 1)
    finer = HOST_STEP * (np.arange(3) - 1) / 3  # each sample is the mean of nine rays
    rays = (axis[:, None] + finer).ravel()
    east, north = np.meshgrid(rays, rays)
    traced_east, traced_north = mass.source_of(east, north)
    fine = host.brightness(traced_east - mass.source_arcsec[0], traced_north - mass.source_arcsec[1])
    image = fine.reshape(axis.size, 3, axis.size, 3).mean(axis=(1, 3))
    return galsim.InterpolatedImage(
        galsim.ImageD(image, scale=HOST_STEP),
        x_interpolant="linear",
        flux=1.0,
        gsparams=galsim.GSParams(folding_threshold=2e-3),
    )


def _turned(east: Array, north: Array, position_angle_deg: float) -> tuple[Array, Array]:
    """Components along and across (a quarter turn from north over east to west) a position angle."""
    angle = np.deg2rad(position_angle_deg)
    return east * np.sin(angle) + north * np.cos(angle), -east * np.cos(angle) + north * np.sin(angle)


def _back(along: Array, across: Array, position_angle_deg: float) -> tuple[Array, Array]:
    angle = np.deg2rad(position_angle_deg)
    return along * np.sin(angle) - across * np.cos(angle), along * np.cos(angle) + across * np.sin(angle)


def _around_origin(a: Array, b: Array, c: Array) -> NDArray[np.bool_]:
    """Whether the triangles with these corners (..., 2) contain the origin."""
    signs = [one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0] for one, two in ((a, b), (b, c), (c, a))]
    return (np.minimum.reduce(signs) >= 0) | (np.maximum.reduce(signs) <= 0)

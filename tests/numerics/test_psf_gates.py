"""Which PSFs a frame is refused for, on stars that GalSim draws: optics, trails, double exposures, field rotation."""

import galsim
import numpy as np
import pytest

from lightcurver_ops.config.sections import Psf
from lightcurver_ops.numerics.photometry import fit_star_fluxes
from lightcurver_ops.numerics.psf.fit import fit_psfs
from lightcurver_ops.numerics.psf.shape import trail_length
from lightcurver_ops.numerics.quality import frame_misfit

SIZE, SCALE, EXPOSURE, N_STARS = 24, 0.21, 300.0, 10
SKY_AND_READ_OUT = 6.0 * EXPOSURE + 36.0  # electrons per pixel
LIMITS = Psf()


def optics(seeing, **aberrations):
    telescope = galsim.OpticalPSF(lam=630, diam=2.6, obscuration=0.35, **aberrations)
    return lambda _place: galsim.Convolve([galsim.Kolmogorov(fwhm=seeing), telescope])


def sheared(seeing, axis_ratio):
    star = galsim.Kolmogorov(fwhm=seeing).shear(q=1 / axis_ratio, beta=20 * galsim.degrees)
    return lambda _place: star


def trail(seeing, length):
    box = galsim.Box(length, 0.05).rotate(33 * galsim.degrees)
    return lambda _place: galsim.Convolve([galsim.Kolmogorov(fwhm=seeing), box])


def double(separation, share):
    star = galsim.Kolmogorov(fwhm=1.0)
    both = star.withFlux(share).shift(separation / 2, 0.0) + star.withFlux(1 - share).shift(
        -separation / 2, 0.1
    )
    return lambda _place: both


def rotation(length):
    """The field turns during the exposure: trails around its centre, this long at its edge."""

    def of(place):
        angle = (np.degrees(np.arctan2(place[1], place[0])) + 90) * galsim.degrees
        box = galsim.Box(max(length * np.hypot(*place), 0.02), 0.05).rotate(angle)
        return galsim.Convolve([galsim.Kolmogorov(fwhm=1.0), box])

    return of


GOOD = {
    "wide": sheared(2.0, 1.0),
    "long": sheared(1.0, 1.5),
    "long and wide": sheared(1.8, 1.5),
    "astigmatic": optics(0.7, defocus=0.8, astig1=0.6, coma1=0.15),
    "strongly astigmatic": optics(0.7, defocus=-0.8, astig2=1.2),
    "out of focus": optics(0.9, defocus=1.5),
    "short trail": trail(1.0, 2.2),
}
BAD = {
    "trail": trail(1.0, 3.2),
    "trail in bad seeing": trail(1.6, 3.2),
    "trail beyond the stamp": trail(1.0, 6.0),
    "equal doubles": double(1.3, 0.5),
    "unequal doubles": double(2.4, 0.2),
    "wide unequal doubles": double(3.5, 0.2),
    "field rotation": rotation(2.0),
}
CLOUDED = {"clouded": sheared(1.0, 1.2), "clouded and rotated": rotation(1.0)}


def drawn(of, rng, dimmed):
    """Stamps, noise maps and true fluxes of a frame; electrons per second."""
    fluxes = 10 ** (-0.4 * (rng.uniform(16.5, 19.0, N_STARS) - 25.3)) * dimmed
    data = np.empty((N_STARS, SIZE, SIZE))
    for star, place, offset in zip(
        range(N_STARS),
        rng.uniform(-1, 1, (N_STARS, 2)),
        rng.uniform(-0.5, 0.5, (N_STARS, 2)),
        strict=True,
    ):
        image = galsim.ImageD(SIZE, SIZE, scale=SCALE)
        of(place).withFlux(fluxes[star] * EXPOSURE).drawImage(image, offset=tuple(offset))
        data[star] = image.array
    data += rng.normal(0.0, np.sqrt(np.abs(data) + SKY_AND_READ_OUT))
    return data / EXPOSURE, np.sqrt(np.abs(data) + SKY_AND_READ_OUT) / EXPOSURE, fluxes


class Frames:
    """All cases as frames of one batch, with their fluxes by the fitted PSFs."""

    def __init__(self):
        rng = np.random.default_rng(11)
        cases = GOOD | BAD | CLOUDED
        self.names = list(cases)
        stamps = [drawn(of, rng, 0.02 if name in CLOUDED else 1.0) for name, of in cases.items()]
        data, noise, self.true = (np.array(part) for part in zip(*stamps, strict=True))
        good = np.ones(data.shape, dtype=bool)
        self.psfs = fit_psfs(data, noise, good, fwhm_guess=np.full(len(cases), 5.0))
        self.fluxes = fit_star_fluxes(data, noise, good, self.psfs.full_psf, subsampling=2)

    def misfit(self, f):
        snr = self.fluxes.flux[f] / self.fluxes.flux_uncertainty[f]
        return frame_misfit(self.fluxes.chi2[f], self.fluxes.n_good[f], snr)

    def trail(self, f):
        return float(trail_length(self.psfs.fwhm_moffat_pixels[f], self.psfs.elongation[f])) / SIZE

    def refused(self, f):
        return (
            self.trail(f) > LIMITS.max_trail
            or self.psfs.doubleness[f] > LIMITS.max_doubleness
            or self.misfit(f) > LIMITS.max_misfit
        )

    def errors(self, f):
        """Relative errors of the fluxes, but for what all stars share, in units of those quoted."""
        ratio, snr = self.fluxes.flux[f] / self.true[f], self.fluxes.flux[f] / self.fluxes.flux_uncertainty[f]
        return (ratio / np.average(ratio, weights=snr**2) - 1) * snr

    def of(self, name):
        return self.names.index(name)


@pytest.fixture(scope="module")
def frames():
    return Frames()


@pytest.mark.parametrize("name", GOOD)
def test_a_psf_that_the_model_follows_is_not_refused_and_its_fluxes_are_right(frames, name):
    f = frames.of(name)
    assert not frames.refused(f)
    assert frames.misfit(f) < 0.01
    assert np.sqrt(np.mean(frames.errors(f) ** 2)) < 1.6


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_psf_is_refused(frames, name):
    assert frames.refused(frames.of(name))


def test_a_trail_is_told_whatever_the_seeing(frames):
    length = [SIZE * SCALE * frames.trail(frames.of(f"trail{seeing}")) for seeing in ("", " in bad seeing")]
    np.testing.assert_allclose(length, 0.72 * 3.2, rtol=0.08)


def test_where_the_psf_differs_from_star_to_star_fluxes_are_wrong_and_the_misfit_says_so(frames):
    f = frames.of("field rotation")
    assert frames.psfs.elongation[f] < 1.3
    assert np.sqrt(np.mean(frames.errors(f) ** 2)) > 10
    assert frames.misfit(f) > 2 * LIMITS.max_misfit


@pytest.mark.parametrize("name", CLOUDED)
def test_noise_is_no_misfit(frames, name):
    assert frames.misfit(frames.of(name)) == 0.0


def test_misfit_is_that_of_the_brighter_stars():
    snr = np.array([10.0, 20.0, 400.0, 500.0, 600.0])
    n_pixels = np.full(5, 400)
    chi2 = 1 + (0.1 * snr) ** 2 / n_pixels + 5 * np.sqrt(2 / n_pixels)
    assert frame_misfit(chi2, n_pixels, snr) == pytest.approx(0.1)
    one_galaxy = np.where(snr == 600, 100.0, 1.0)
    assert frame_misfit(one_galaxy, n_pixels, snr) == 0.0
    assert frame_misfit(np.full(5, np.nan), n_pixels, snr) == 0.0

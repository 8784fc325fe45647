"""A simulated sky and camera, and the real frames where they are."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from lightcurver_ops.astrometry.base import Catalogue, SolveRequest
from lightcurver_ops.astrometry.tangent import TanModel, from_plane, to_plane

HATP32 = Path(os.environ.get("LCOPS_HATP32") or Path(__file__).parents[3] / "shared" / "data" / "hatp32")
SHAPE = (500, 650)


def random_sky(rng, centre, radius_deg, n_stars):
    """Uniform stars in a disk, with more faint ones than bright ones."""
    r, angle = radius_deg * np.sqrt(rng.uniform(size=n_stars)), rng.uniform(0, 2 * np.pi, n_stars)
    ra, dec = from_plane(r * np.cos(angle), r * np.sin(angle), *centre)
    return Catalogue(ra, dec, 18 - rng.exponential(1.2, n_stars))


def camera(centre, scale, angle_deg, mirrored=False, shape=SHAPE):
    """A plate model: North at angle_deg from +y; East to the left, or to the right where mirrored."""
    t = np.radians(angle_deg)
    rotation = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    cd = np.diag([1.0 if mirrored else -1.0, 1.0]) @ rotation.T * scale / 3600.0
    return TanModel(np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2]), np.array(centre, dtype=float), cd)


def observe(rng, model, catalogue, shape=SHAPE, noise=0.2, lost=0.15, false=20, faintest=17.8):
    """Sources (x, y, flux) that a camera would give: some stars lost, some false, all a little off."""
    stars = np.column_stack(to_plane(catalogue.ra, catalogue.dec, *model.crval))
    x, y = (np.linalg.inv(model.cd) @ stars.T) + model.crpix[:, None]
    with np.errstate(invalid="ignore"):
        seen = (x > 0) & (x < shape[1] - 1) & (y > 0) & (y < shape[0] - 1) & (catalogue.mag < faintest)
    seen &= rng.uniform(size=len(x)) > lost
    n = np.count_nonzero(seen)
    flux = 10 ** (-0.4 * (catalogue.mag[seen] + rng.normal(0, 0.2, n)))
    xs = np.append(x[seen] + rng.normal(0, noise, n), rng.uniform(0, shape[1], false))
    ys = np.append(y[seen] + rng.normal(0, noise, n), rng.uniform(0, shape[0], false))
    return xs, ys, np.append(flux, 10 ** (-0.4 * (18 - rng.exponential(1.0, false))))


def make_request(rng, model, catalogue, interval, hint=None, radius=0.3, shape=SHAPE, **how):
    """The request for a simulated frame."""
    ra, dec = model.crval if hint is None else hint
    sources = observe(rng, model, catalogue, shape, **how)
    return SolveRequest("simulated", *sources, shape, ra, dec, radius, interval, catalogue=catalogue)


def frame(
    seed,
    interval=(0.6, 0.8),
    scale=0.7,
    stars_per_frame=50,
    centre=(150.0, 2.0),
    angle=None,
    mirrored=None,
    **how,
):
    """A plate model and the request for a frame taken with it, at any angle and parity unless given."""
    rng = np.random.default_rng(seed)
    area = SHAPE[0] * SHAPE[1] * (scale / 3600) ** 2
    sky = random_sky(rng, centre, 0.4, int(stars_per_frame / area * np.pi * 0.4**2))
    angle = rng.uniform(0, 360) if angle is None else angle
    mirrored = bool(rng.integers(2)) if mirrored is None else mirrored
    model = camera(centre, scale, angle, mirrored)
    return model, make_request(rng, model, sky, interval, **how)


def corner_errors_px(wcs, model, shape=SHAPE):
    """Distance of a solution from the truth at the corners and the centre, pixels."""
    x, y = (
        np.array([0, shape[1] - 1, 0, shape[1] - 1, shape[1] / 2]),
        np.array([0, 0, shape[0] - 1, shape[0] - 1, 250]),
    )
    ra, dec = wcs.all_pix2world(x, y, 0)
    xi, eta = to_plane(ra, dec, *model.crval)
    true_xi, true_eta = model.plane(x, y)
    return np.hypot(xi - true_xi, eta - true_eta) * 3600.0 / model.scale


@pytest.fixture(scope="session")
def hatp32_catalogue():
    """The catalogue of the real field, moved to December 2017."""
    if not HATP32.is_dir():
        pytest.skip(f"the HAT-P-32 frames are not at {HATP32}")
    table = Table.read(HATP32 / "catalogue.ecsv")
    years = 2017.97 - np.array(table["ref_epoch"])
    pmra, pmdec = (np.array(table[c].filled(0.0)) for c in ("pmra", "pmdec"))
    dec = np.array(table["dec"]) + pmdec * years / 3.6e6
    ra = np.array(table["ra"]) + pmra * years / 3.6e6 / np.cos(np.radians(dec))
    return Catalogue(ra, dec, np.array(table["phot_g_mean_mag"]))


@pytest.fixture(scope="session")
def hatp32_requests(hatp32_catalogue):
    """Six of the 48 real frames, from the whole night; with LCOPS_HATP32_EVERY=1 all of them."""
    sep = pytest.importorskip("sep")
    requests = []
    for path in sorted((HATP32 / "raw").iterdir())[:: int(os.environ.get("LCOPS_HATP32_EVERY", "9"))]:
        with fits.open(path) as hdus:
            header, data = hdus[0].header, hdus[0].data.astype(np.float32)
        sky = sep.Background(data, bw=64, bh=64)
        found = sep.extract(data - sky.back(), 4, err=sky.globalrms, minarea=4)
        requests.append(
            SolveRequest(
                path.name, found["x"], found["y"], found["flux"], data.shape,
                header["RA"], header["DEC"], 1.0, (4.5, 6.0), header, hatp32_catalogue,
            )
        )  # fmt: skip
    return requests


@pytest.fixture(scope="session")
def sim():
    """The functions above (test modules cannot import from here)."""
    return SimpleNamespace(
        random_sky=random_sky, camera=camera, observe=observe, make_request=make_request, frame=frame,
        corner_errors_px=corner_errors_px,
    )  # fmt: skip

"""Epochs combined into nights, and fluxes into magnitudes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcurver_ops.constants import POGSON


@dataclass(frozen=True)
class NightTable:
    """One row per night, one column per image (point source).

    Attributes:
        mjd: mean MJD of the night's epochs, [K].
        scatter_mjd: their sample standard deviation (ddof = 1), days; NaN for a single epoch, [K].
        flux: inverse-variance mean of the fluxes kept, [K, J]; NaN where no epoch has a usable flux.
        d_flux: `1 / sqrt(sum w)`, `w = 1 / d_flux^2`, [K, J].
        scatter_flux: weighted standard deviation `sqrt(sum w (f - flux)^2 / sum w)`; 0 for one epoch, [K, J].
        count: epochs kept after clipping, [K, J].
        night: the night of each epoch, index into the rows, [E].
        kept: True where an epoch's flux enters its night, [E, J].
        share: the weight of an epoch in the mean of its night, [E, J]; they add up to 1, NaN where none is kept.
    """

    mjd: NDArray[np.float64]
    scatter_mjd: NDArray[np.float64]
    flux: NDArray[np.float64]
    d_flux: NDArray[np.float64]
    scatter_flux: NDArray[np.float64]
    count: NDArray[np.int64]
    night: NDArray[np.int64]
    kept: NDArray[np.bool_]
    share: NDArray[np.float64]

    def mean_of(self, values: ArrayLike) -> NDArray[np.float64]:
        """Mean per night [K, ...] of another quantity of the epochs [E, ...], such as the seeing."""
        v = np.asarray(values, dtype=np.float64)
        total = np.zeros((len(self.mjd), *v.shape[1:]))
        np.add.at(total, self.night, v)
        count = np.bincount(self.night, minlength=len(self.mjd))
        return total / count.reshape(-1, *[1] * (v.ndim - 1))

    def covariance_of(self, covariance: ArrayLike) -> NDArray[np.float64]:
        """Covariance [K, J, J] of the mean fluxes, from that of each epoch's [E, J, J], independent between epochs.

        Its diagonal is the square of `d_flux` where that of the epochs is theirs. An epoch left out of one mean but
        not of another counts in neither's covariance with the other.
        """
        share = np.where(self.kept, self.share, 0.0)
        product = share[:, :, None] * share[:, None, :]
        # What does not enter may be NaN.
        parts = np.where(product > 0, product * np.asarray(covariance, dtype=np.float64), 0.0)
        total = np.zeros((len(self.mjd), *parts.shape[1:]))
        np.add.at(total, self.night, parts)
        unknown = ~np.isfinite(self.flux)
        total[unknown[:, :, None] | unknown[:, None, :]] = np.nan
        return total


@dataclass(frozen=True)
class Magnitudes:
    """Magnitudes with symmetric and one-sided uncertainties, all of the shape of the fluxes.

    Attributes:
        mag: `-2.5 log10(flux) + zeropoint`.
        d_mag: to first order, `2.5 / ln 10 * d_flux / flux`.
        d_mag_down: how far the error bar reaches towards smaller numbers (brighter): at `flux + d_flux`.
        d_mag_up: how far it reaches towards larger numbers (fainter): at `flux - d_flux`; infinite where
            the uncertainty is as large as the flux.
    """

    mag: NDArray[np.float64]
    d_mag: NDArray[np.float64]
    d_mag_down: NDArray[np.float64]
    d_mag_up: NDArray[np.float64]


def group_into_nights(mjd: ArrayLike, gap: float = 0.8) -> NDArray[np.int64]:
    """Number the nights of a list of epochs, in order of time.

    Args:
        mjd: times of the epochs in days, [E], in any order.
        gap: epochs consecutive in time and less than this apart (days) belong to one night.

    Returns:
        For each epoch its night 0, 1, ... [E].

    Raises:
        ValueError: mjd is not one-dimensional, or a time is not finite.
    """
    t = np.asarray(mjd, dtype=np.float64)
    if t.ndim != 1 or not np.all(np.isfinite(t)):
        raise ValueError(f"mjd must be a list of finite times, got an array of shape {t.shape}: {t}")
    order = np.argsort(t, kind="stable")
    labels = np.empty(t.size, dtype=np.int64)
    labels[order] = np.cumsum(np.diff(t[order], prepend=t[order][:1]) >= gap)
    return labels


def combine_nights(
    flux: ArrayLike, d_flux: ArrayLike, mjd: ArrayLike, gap: float = 0.8, clip: float = 2.0
) -> NightTable:
    """Clipped inverse-variance mean of each image's flux in each night.

    An epoch is left out of an image's mean where its flux is further than `clip` standard deviations from the
    mean of those still in (both unweighted: else an epoch is clipped for being noisy), repeated until nothing
    changes. One among n values cannot deviate by more than (n - 1) / sqrt(n) standard deviations, so that
    nothing is ever clipped at 2 sigma among five or fewer.

    Args:
        flux: flux of each image in each epoch, [E, J].
        d_flux: its uncertainty, same unit, [E, J].
        mjd: times of the epochs, days, [E].
        gap: see `group_into_nights`.
        clip: in standard deviations.

    A flux that is not finite, or whose uncertainty is not finite and positive, is left out.

    Raises:
        ValueError: the shapes do not agree.
    """
    f, d = np.asarray(flux, dtype=np.float64), np.asarray(d_flux, dtype=np.float64)
    t = np.asarray(mjd, dtype=np.float64)
    if f.ndim != 2 or f.shape != d.shape or f.shape[0] != t.size:
        raise ValueError(
            f"flux and d_flux must be [E, J] and mjd [E], got {f.shape}, {d.shape} and {t.shape}: "
            "one row per epoch, one column per image"
        )
    labels = group_into_nights(t, gap)
    n = int(labels.max()) + 1 if labels.size else 0

    def per_night(values: NDArray) -> NDArray[np.float64]:
        out = np.zeros((n, *values.shape[1:]))
        np.add.at(out, labels, values)
        return out

    kept = np.isfinite(f) & np.isfinite(d) & (d > 0)
    f0 = np.where(kept, f, 0.0)
    weight = np.where(kept, 1.0 / np.where(kept, d, 1.0) ** 2, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        while True:
            count = per_night(kept)
            centre = (per_night(f0 * kept) / count)[labels]
            spread = np.sqrt(per_night(np.where(kept, f0 - centre, 0.0) ** 2) / count)[labels]
            still = kept & ~(np.abs(f0 - centre) > clip * spread * (1 + 1e-9))
            if np.array_equal(still, kept):
                break
            kept = still
        w = weight * kept
        sum_w = per_night(w)
        mean = per_night(w * f0) / sum_w
        n_epochs = np.bincount(labels, minlength=n)
        mjd_night = per_night(t) / n_epochs
        scatter_mjd = np.sqrt(per_night((t - mjd_night[labels]) ** 2) / (n_epochs - 1))
        return NightTable(
            mjd=mjd_night,
            scatter_mjd=scatter_mjd,
            flux=mean,
            d_flux=np.where(sum_w > 0, 1.0 / np.sqrt(sum_w), np.nan),
            scatter_flux=np.sqrt(per_night(w * np.where(kept, f0 - mean[labels], 0.0) ** 2) / sum_w),
            count=count.astype(np.int64),
            night=labels,
            kept=kept,
            share=w / sum_w[labels],
        )


def magnitudes(flux: ArrayLike, d_flux: ArrayLike, zeropoint: ArrayLike) -> Magnitudes:
    """Magnitudes of fluxes; a flux that is not positive has none: NaN in every field.

    Args:
        flux: any shape, in the unit whose zero point is given.
        d_flux: its uncertainty, same shape.
        zeropoint: magnitude of a flux of one, broadcast against the fluxes. Its own uncertainty is not added.
            A scatter of fluxes becomes a scatter of magnitudes the same way, as `d_mag`.
    """
    f = np.asarray(flux, dtype=np.float64)
    positive = f > 0
    f = np.where(positive, f, np.nan)
    relative = np.asarray(d_flux, dtype=np.float64) / f
    up = np.full_like(relative, np.inf)
    np.log1p(-relative, where=relative < 1, out=up)
    return Magnitudes(
        mag=-2.5 * np.log10(f) + np.asarray(zeropoint, dtype=np.float64),
        d_mag=POGSON * relative,
        d_mag_down=POGSON * np.log1p(relative),
        d_mag_up=np.where(np.isnan(relative), np.nan, np.where(relative < 1, -POGSON * up, np.inf)),
    )

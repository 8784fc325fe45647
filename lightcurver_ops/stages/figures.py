"""Figures that gather several frames, and small pictures of one. What to draw comes from the bookkeeping."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, photometry, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.errors import BadFrame
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.calculate_common_and_total_footprint import BAD_POINTING, combined_footprint_of
from lightcurver_ops.stages.psf_modeling import read_psf_of
from lightcurver_ops.stages.stamps import read_stamps


def draw_footprints(lens: Lens, with_stars: bool) -> None:
    """diagnostics/footprints.png, or footprints_with_stars.png."""
    from lightcurver_ops.astrometry.footprints import polygon_from_text
    from lightcurver_ops.diagnostics.footprints import plot_footprints

    with reading(lens.engine) as connection:
        combined = combined_footprint_of(connection, lens.name)
        rows = [row for row in frames.all_frames(connection, lens.name) if row.plate_solved]
        known = frames.footprints_of(connection, lens.name)
        selection = stars.current_selection(connection, lens.name)
        chosen = stars.stars_of(connection, lens.name, selection) if selection and with_stars else []
    if combined is None or not rows:
        return
    marks = None
    if chosen:
        marks = (
            np.array([star.ra for star in chosen]),
            np.array([star.dec for star in chosen]),
            [star.name for star in chosen],
        )
    plot_footprints(
        lens.workdir / f"diagnostics/footprints{'_with_stars' if with_stars else ''}.png",
        polygons=[polygon_from_text(known[row.id].polygon) for row in rows],
        common=json.loads(combined.common),
        largest=json.loads(combined.largest),
        roi=(lens.config.roi.ra, lens.config.roi.dec),
        stars=marks,
        bad=[row.comment == BAD_POINTING for row in rows],
        title=f"{lens.name}: {len(rows)} frames",
    )


def draw_stars(lens: Lens, rows: list[sa.Row], star_ids: list[str], selection: str) -> None:
    """diagnostics/stars/<name>.png of each star of the normalization: its stamps, residuals, chi2 and fluxes."""
    from lightcurver_ops.diagnostics.roi import stack_mean, stack_residuals
    from lightcurver_ops.diagnostics.stars import plot_star

    with reading(lens.engine) as connection:
        names = {star.gaia_id: star.name for star in stars.stars_of(connection, lens.name, selection)}
        psfs = photometry.psfs_of(connection, lens.name, selection)
        measured: dict[str, dict[int, Any]] = {}
        for flux in photometry.fluxes_of(connection, lens.name, selection):
            measured.setdefault(flux.star_gaia_id, {})[flux.frame_id] = flux
    narrow = {row.id: read_psf_of(lens.workdir, psfs[row.id]).narrow for row in rows}
    for star in star_ids:
        having = [row for row in rows if row.id in measured.get(star, {})]
        if not having:
            continue
        fluxes = [measured[star][row.id] for row in having]
        units = [row.image_relpath for row in having]
        stack = read_stamps(
            lens.workdir, units, [[star]] * len(units), lens.config.cutouts.stamp_size_stars, 1
        )
        models = np.array(
            [
                star_image(narrow[row.id], flux, stack.centre[e, 0], stack.data.shape[-1], psfs[row.id])
                for e, (row, flux) in enumerate(zip(having, fluxes, strict=True))
            ]
        )
        good = stack.good[:, 0]
        residuals = np.where(good, (stack.data[:, 0] - models) / stack.noise[:, 0], np.nan)
        plot_star(
            lens.workdir / f"diagnostics/stars/{names[star]}.png",
            title=f"star {names[star]} ({star}), {len(having)} frames",
            stack=stack_mean(stack.data[:, 0], good),
            residual_stack=stack_residuals(residuals, good),
            chi2=np.array([flux.chi2 for flux in fluxes]),
            flux=np.array([flux.flux for flux in fluxes]),
            flux_uncertainty=np.array([flux.flux_uncertainty for flux in fluxes]),
            mjd=np.array([row.mjd for row in having]),
        )


def star_image(narrow: np.ndarray, flux: Any, centre: np.ndarray, size: int, psf: sa.Row) -> np.ndarray:
    """The model of a star [n, n], e-/s, by its row of star_flux_in_frame; `centre` (x, y) is that of the stamp."""
    from lightcurver_ops.numerics.psf.operators import star_operator

    k = psf.subsampling_factor
    across, _ = star_operator(flux.x - centre[0], size, k)
    along, _ = star_operator(flux.y - centre[1], size, k)
    return flux.flux * k**2 * along @ narrow @ across.T


def frame_preview(path: Path, side: int) -> bytes:
    """An imported frame as PNG, asinh stretch, north as the telescope had it, its longer side about `side` pixels.

    Raises:
        BadFrame: the frame is missing or damaged.
    """
    from lightcurver_ops.diagnostics.pixels import asinh_colours
    from lightcurver_ops.diagnostics.sources import block_mean
    from lightcurver_ops.storage.frames import mapped_image

    with mapped_image(path) as image:
        small = block_mean(image, max(1, -(-max(image.shape) // side)))
    return _png(asinh_colours(small))


def roi_preview(lens: Lens, frame: sa.Row) -> bytes:
    """The cutout of the lens as PNG; BadFrame where there is none."""
    from lightcurver_ops.diagnostics.pixels import asinh_colours
    from lightcurver_ops.storage.regions import ROI, read_regions, regions_path

    stored = read_regions(regions_path(lens.workdir, Path(frame.image_relpath).stem), [ROI])
    return _png(asinh_colours(stored.data[0], stored.good[0]))


def psf_preview(connection: sa.Connection, lens: Lens, frame: sa.Row) -> bytes:
    """Narrow and full PSF of a frame side by side as PNG; BadFrame where there is none."""
    from lightcurver_ops.diagnostics.pixels import asinh_colours, tiled

    psf, _ = _psf_of(connection, lens, frame)
    both = read_psf_of(lens.workdir, psf)
    tiles = [asinh_colours(one, scale=1e-3 * float(one.max())) for one in (both.narrow, both.full)]
    return _png(tiled([tiles], 2))


def stars_preview(connection: sa.Connection, lens: Lens, frame: sa.Row) -> bytes:
    """Each measured star of a frame as PNG: data, model, residual (blue to red: -5 to 5 sigma) below each other.

    Raises:
        BadFrame: nothing was measured yet.
    """
    from lightcurver_ops.diagnostics.pixels import asinh_colours, residual_colours, tiled

    psf, selection = _psf_of(connection, lens, frame)
    named = {star.gaia_id: star for star in stars.stars_of(connection, lens.name, selection)}
    fluxes = [
        row
        for row in photometry.fluxes_of(connection, lens.name, selection)
        if row.frame_id == frame.id and row.star_gaia_id in named and row.x is not None
    ]
    if not fluxes:
        raise BadFrame(f"{frame.image_relpath}: no star was measured yet")
    fluxes.sort(key=lambda row: named[row.star_gaia_id].distance_to_roi_arcsec)
    ids = [row.star_gaia_id for row in fluxes]
    size = lens.config.cutouts.stamp_size_stars
    stack = read_stamps(lens.workdir, [frame.image_relpath], [ids], size, len(ids))
    narrow = read_psf_of(lens.workdir, psf).narrow
    rows: list[list[np.ndarray]] = [[], [], []]
    for s, flux in enumerate(fluxes):
        data, good = stack.data[0, s], stack.good[0, s]
        model = star_image(narrow, flux, stack.centre[0, s], size, psf)
        rows[0].append(asinh_colours(data, good))
        rows[1].append(asinh_colours(model, like=data))
        rows[2].append(residual_colours((data - model) / stack.noise[0, s], good))
    return _png(tiled(rows, 2))


def _psf_of(connection: sa.Connection, lens: Lens, frame: sa.Row) -> tuple[sa.Row, str]:
    """The PSF of a frame, and the selection of its stars."""
    selection = stars.current_selection(connection, lens.name)
    psf = photometry.psfs_of(connection, lens.name, selection).get(frame.id) if selection else None
    if psf is None or selection is None:
        raise BadFrame(f"{frame.image_relpath}: it has no PSF yet")
    return psf, selection


def _png(colours: np.ndarray) -> bytes:
    """A picture [ny, nx, 4], first row at the bottom, as PNG."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, colours, format="png", origin="lower")
    return buffer.getvalue()

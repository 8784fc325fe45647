"""What the web pages show on each DAG and task: what it does, reads, writes, and what to do if it fails."""

from dataclasses import dataclass

from lightcurver_ops.config.loading import LoadedLens


@dataclass(frozen=True)
class StageDoc:
    """What an operator wants to know of a task."""

    title: str
    does: str
    reads: str
    writes: str
    if_it_fails: str

    def markdown(self) -> str:
        """For `doc_md`."""
        return (
            f"**{self.title}.** {self.does}\n\n"
            f"* **Reads:** {self.reads}\n* **Writes:** {self.writes}\n* **If it fails:** {self.if_it_fails}\n\n"
            "A task may be cleared at any time: what was made is kept, only what is missing or out of date is made."
        )


_NETWORK = "an error of the network is tried again by itself, later with more patience."

STAGE_DOCS: dict[str, StageDoc] = {
    "read_convert_skysub_character_catalog": StageDoc(
        "Import raw frames",
        "Converts ADU to electrons per second, subtracts the sky, finds sources, measures the seeing.",
        "raw frames of the night (never written to).",
        "`frames/<name>.fits`, `frames/<name>_sources.fits`, rows of `frames`.",
        "a frame that cannot be read is quarantined with its reason and fails nothing. A failure of the task means the "
        "raw directory, the header parser or the disk: the message names it.",
    ),
    "plate_solving": StageDoc(
        "Plate solving",
        "Finds the WCS of each frame, verified against the catalogue; footprint, plate scale, seeing in arcsec.",
        "imported frames, the star catalogue.",
        "the WCS in `frames/<name>.fits`, rows of `footprints`, columns of `frames`.",
        "the quality gate is `plate_solving.min_success_fraction`: `lcops frames list` shows why frames were not "
        "solved (clouds, another field, a wrong `plate_scale_interval`). Eliminate hopeless frames, then clear the "
        "task; " + _NETWORK,
    ),
    "calculate_common_and_total_footprint": StageDoc(
        "Footprints",
        "Intersection and union of all footprints; eliminates frames that point elsewhere.",
        "`footprints`.",
        "`combined_footprint`, `diagnostics/footprints.png`.",
        "look at `diagnostics/footprints.png`.",
    ),
    "query_gaia_for_stars": StageDoc(
        "Reference stars",
        "Chooses the reference stars from the catalogue, and finds them in the frames.",
        "the star catalogue, footprints.",
        "`stars`, `stars_in_frames`, `diagnostics/footprints_with_stars.png`.",
        "too few stars: the message says which cut of the group `stars` removed how many; " + _NETWORK,
    ),
    "stamp_extraction": StageDoc(
        "Cutouts",
        "Cuts out the stars and the lens with noise maps and masks; no pixel is resampled.",
        "imported frames, `stars_in_frames`.",
        "one file of `regions.h5` per frame.",
        "most likely the disk is full.",
    ),
    "psf_modeling": StageDoc(
        "PSF of each frame",
        "Fits the PSF of each frame to its stars, a batch of frames at a time, on the GPU where there is one.",
        "cutouts of the stars.",
        "`psfs/`, rows of `PSFs`, `diagnostics/psf/`.",
        "killed: out of memory; lower `compute.psf_batch`. A frame whose PSF cannot be fitted is quarantined.",
    ),
    "star_photometry": StageDoc(
        "Star photometry",
        "Measures the reference stars in each frame with its PSF.",
        "cutouts of the stars, PSFs.",
        "`star_flux_in_frame`.",
        "see the log.",
    ),
    "calculate_normalization_coefficient": StageDoc(
        "Normalization",
        "The relative throughput of the frames of each filter, from the fluxes of all reference stars.",
        "`star_flux_in_frame`.",
        "`normalization_coefficients`, `star_normalization`, `diagnostics/normalization_<filter>.png`.",
        "no star is measured well: look at the chi2 in `star_flux_in_frame`, choose other stars.",
    ),
    "calculate_absolute_zeropoints": StageDoc(
        "Zero points",
        "The absolute calibration of each frame from catalogue magnitudes of the reference stars.",
        "`star_flux_in_frame`, catalogue magnitudes.",
        "`absolute_zeropoints`, `catalog_star_photometry`.",
        "`zero_points.photometric_band` must have an entry for each filter; " + _NETWORK,
    ),
    "prepare_calibrated_cutouts": StageDoc(
        "Calibrated cutouts",
        "Divides the cutouts of the lens by the coefficients, beside all that a model needs.",
        "cutouts of the lens, PSFs, coefficients, zero points.",
        "`prepared_roi_cutouts/<lens>_<filter>.h5`.",
        "no frame is left: the message counts the reasons.",
    ),
    "model_calibrated_cutouts": StageDoc(
        "Model of the lens, light curves",
        "Models the images and the galaxy in all frames together; publishes a version of the light curve.",
        "calibrated cutouts.",
        "light curves, astrometry, images and figures in `prepared_roi_cutouts/`; `publications`, "
        "`light_curve_points` (a version never changes).",
        "see the log; the last published version stays.",
    ),
}

_NIGHTLY = """\
One run is one **observing night** of {lens}, from noon to noon, {timezone}: `run_id` carries the noon that ends it.

It notices the night's raw frames, and makes of them everything that one frame needs. What needs all frames is made by
[`{season}`](/dags/{season}), once the nights are done.

* A night without frames is skipped. Frames that come late start a run of their own (`late__<night>__...`; of nights
  more than a month ago, `archive__<night>__...`, which stands back behind tonight's).
* **One night again:** trigger with the configuration `{{"night": "YYYY-MM-DD"}}`, or clear the run.
* **A season:** *Trigger → Backfill*, or `airflow backfill create --dag-id {nightly} --from-date ... --to-date ...`.
* **From some stage on, or without some frames or stars:** the DAG [`lens_reprocess`](/dags/lens_reprocess).

{links}
"""

_SEASON = """\
Makes the **light curve** of {lens} from all its nights: normalization, zero points, the joint model of its pixels.

It is started by the nights ([`{nightly}`](/dags/{nightly})), waits until none of them is at work, and then runs once
for all of them. Where nothing changed, it is skipped. Stages that work frame by frame are here, too: they make what a
changed configuration, or a night that failed, left out of date.

{links}
"""

_LINKS = """\
| | |
|---|---|
| configuration | `{file}` |
| products | `{workdir}` |
| light curve | `lcops lightcurve {file}` |
| why a frame is not used | `lcops frames list {file} --unused` |
| what is missing | `lcops status {file}` |
"""


def nightly_doc(loaded: LoadedLens, nightly: str, season: str, timezone: str) -> str:
    """Of the DAG of the nights."""
    name = loaded.lens.name
    return _NIGHTLY.format(lens=name, nightly=nightly, season=season, timezone=timezone, links=_links(loaded))


def season_doc(loaded: LoadedLens, nightly: str) -> str:
    """Of the DAG of the season."""
    return _SEASON.format(lens=loaded.lens.name, nightly=nightly, links=_links(loaded))


def _links(loaded: LoadedLens) -> str:
    return _LINKS.format(file=loaded.path, workdir=loaded.lens.workdir)

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
    cleared: str = "It may be cleared at any time: only what is missing or out of date is made (again)."

    def markdown(self) -> str:
        """For `doc_md`."""
        return (
            f"**{self.title}.** {self.does}\n\n"
            f"* **Reads:** {self.reads}\n* **Writes:** {self.writes}\n* **If it fails:** {self.if_it_fails}\n\n"
            f"{self.cleared}"
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
        "killed: out of memory; lower `compute.psf_batch` or the slots of the pool. "
        "A frame whose PSF cannot be fitted is quarantined.",
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
        "`light_curve_points`, `publications/` (a version never changes).",
        "see the log; the last published version stays.",
    ),
}

TASK_DOCS: dict[str, StageDoc] = {
    "look_for_frames": StageDoc(
        "Look for frames",
        "Notices new raw files that are complete, and finds those of the night. Without any, or where all is up to "
        "date, the rest of the run is skipped.",
        "the listing of the raw directories, headers of new raw frames, the bookkeeping.",
        "rows of `raw_files`.",
        "the raw directory does not answer, or is not where the configuration says: the message names it.",
    ),
    "wait_for_frames": StageDoc(
        "Wait for frames",
        "Waits in the triggerer for the night's first frame (`operations.wait_for_frames_hours`), then the run goes on "
        "in any case.",
        "the listing of the raw directories, the bookkeeping.",
        "rows of `raw_files`.",
        "as the task that looks for frames; the wait holds no slot of a pool.",
    ),
    "night_done": StageDoc(
        "Night done",
        "Tells the season that there is something new; skipped where there is not.",
        "the bookkeeping.",
        "an event of the asset that starts the season.",
        "the quality gate of the plate solution, where the night ends with it: see there.",
    ),
    "wait_for_nights": StageDoc(
        "Wait for nights",
        "Waits in the triggerer until no night of this lens is at work: a backfill of many nights ends in one season "
        "run. Where nothing changed, the rest of the run is skipped.",
        "the runs of the nights, the bookkeeping.",
        "nothing.",
        "the bookkeeping does not answer. If it waits for long, look which run of the nights is queued or running.",
    ),
    "find_waiting_nights": StageDoc(
        "Find waiting nights",
        "Notices new raw files that are complete, of the lenses that the watchers named, or of all, and finds the "
        "nights that wait for work.",
        "the listing of the raw directories, headers of new raw frames, the bookkeeping of the lenses.",
        "rows of `raw_files`.",
        "a lens that cannot be looked at is named in the log and costs no other; the next sweep tries again.",
    ),
    "start_nights": StageDoc(
        "Start nights",
        "Starts a run per lens and night; the same files start one run only.",
        "what the task before found.",
        "runs of the nights.",
        "the DAG of a lens is not there (any more): look at the import errors.",
        "Cleared, it starts what it has not started yet.",
    ),
    "decide": StageDoc(
        "Enter decisions",
        "Eliminates the frames, excludes the stars, and forgets what is to be made again.",
        "the form of the run, the bookkeeping of the lens.",
        "decisions, each with its comment and the name of who took it; `lcops frames restore` and `lcops stars "
        "include` undo them.",
        "no frame, star or night is called so, or the comment is missing: the message says which. Nothing was entered; "
        "trigger again.",
        "Cleared, it enters the same decisions again, and the runs start again.",
    ),
    "start_runs": StageDoc(
        "Start runs",
        "Starts the nights and the season, which waits for them.",
        "what was decided.",
        "runs of the nights and of the season.",
        "the DAG of the lens is not there (any more): look at the import errors.",
        "Cleared, it starts what it has not started yet.",
    ),
    "send_summary": StageDoc(
        "Send summary",
        "Gathers what the last night brought to all lenses, and sends it to the channels of the observatory's file.",
        "the bookkeeping of all lenses.",
        "nothing; the text is in the log, too.",
        "the observatory's file is broken. A channel that fails is named in the log and fails nothing.",
        "Cleared, it is sent again.",
    ),
}
"""Of the tasks that are no stages."""

_NIGHTLY = """\
One run is one **observing night** of {lens}, from noon to noon, {timezone}: `run_id` carries the noon that ends it.

It notices the night's raw frames, and makes of them everything that one frame needs. What needs all frames is made by
[`{season}`](/dags/{season}), once the nights are done.

* A night without frames is skipped. Frames that come late start a run of their own (`late__<night>__...`; of nights
  more than a month ago, `archive__<night>__...`, which stands back behind tonight's).
* **One night again:** trigger with the configuration `{{"night": "YYYY-MM-DD"}}`, or clear the run.
* **A season:** *Trigger → Backfill*, or `airflow backfill create --dag-id {nightly} --from-date ... --to-date ...`.
* **From some stage on, or without some frames or stars:** the page *Reprocess* of the tab *Lens*.

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

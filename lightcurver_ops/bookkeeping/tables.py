"""The tables: names and columns that notebooks of users read, units in the comments.

One schema for both engines. The embedded SQLite file holds one lens, a Postgres database all lenses of an
observatory; every row belongs to a lens through its ``lens`` column or its frame.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

VERSION_TABLE = "lcops_schema_version"
"""Where Alembic notes the revision; not one of the tables below."""

# SQLite's only auto-incrementing type is INTEGER; Postgres wants 64 bits.
_Id = BigInteger().with_variant(Integer, "sqlite")


def _id() -> Column:
    return Column("id", _Id, primary_key=True, autoincrement=True, comment="number of the row")


def _lens(**kwargs) -> Column:
    return Column("lens", String(100), ForeignKey("lenses.name", ondelete="CASCADE"), nullable=False,
                  comment="name of the lens", **kwargs)  # fmt: skip


def _frame(**kwargs) -> Column:
    return Column("frame_id", _Id, ForeignKey("frames.id", ondelete="CASCADE"), nullable=False,
                  comment="frames.id", **kwargs)  # fmt: skip


def _selection(**kwargs) -> Column:
    return Column("combined_footprint_hash", String(64), nullable=False,
                  comment="identifier of the star selection: region, cuts, catalogue", **kwargs)  # fmt: skip


def _provenance() -> list[Column]:
    """What every product row carries."""
    return [
        Column("inputs_hash", String(64), nullable=False, comment="hash of the keys and inputs it was made from"),
        Column("code_version", String(50), nullable=False, comment="version of lightcurver-ops that made it"),
        Column("made_at", DateTime(timezone=True), nullable=False, comment="UTC"),
    ]  # fmt: skip


lenses = Table(
    "lenses",
    metadata,
    Column("name", String(100), primary_key=True, comment="name of the lens in its configuration"),
    Column("roi_ra", Double, nullable=False, comment="deg, ICRS"),
    Column("roi_dec", Double, nullable=False, comment="deg, ICRS"),
    Column("workdir", Text, nullable=False, comment="working directory"),
    Column(
        "id_offset",
        _Id,
        nullable=False,
        server_default="0",
        comment="what a copy from another database added to all ids of the lens; a frame's number, in files and for "
        "users, is its id minus this",
    ),
    comment="the lenses in this database",
)

frames = Table(
    "frames",
    metadata,
    _id(),
    _lens(index=True),
    Column("original_image_path", Text, nullable=False, comment="raw file"),
    Column("image_relpath", Text, nullable=False, comment="imported image, relative to the workdir"),
    Column("sources_relpath", Text, nullable=False, comment="its sources, relative to the workdir"),
    Column(
        "pixel_hash", String(64), nullable=False, comment="sha256 of the raw pixels: tells exposures apart"
    ),
    Column("raw_sha256", String(64), comment="sha256 of the raw file as it was imported; null: not recorded"),
    Column("mjd", Double, nullable=False, comment="MJD UTC, middle of the exposure"),
    Column("exptime", Double, nullable=False, comment="s"),
    Column("gain", Double, nullable=False, comment="electron / adu"),
    Column("read_noise", Double, comment="electron, as configured, to compare with the sky; null: not told"),
    Column("filter", String(40), nullable=False, comment="name of the filter"),
    Column("telescope_name", Text, comment="name"),
    Column("telescope_latitude", Double, comment="deg, north positive"),
    Column("telescope_longitude", Double, comment="deg, east positive"),
    Column("telescope_elevation", Double, comment="m"),
    Column("telescope_imager_name", Text, comment="name"),
    Column("width", Integer, nullable=False, comment="px"),
    Column("height", Integer, nullable=False, comment="px"),
    Column("n_sources", Integer, nullable=False, comment="detected sources"),
    Column("plate_solved", Boolean, nullable=False, server_default=false(), comment="has a verified WCS"),
    Column(
        "attempted_plate_solve",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="a solution was tried",
    ),
    Column("pixel_scale", Double, comment="arcsec / px"),
    Column("plate_solve_method", String(40), comment="what found the solution"),
    Column("plate_solve_n_matched", Integer, comment="catalogue stars matched to sources"),
    Column("plate_solve_rms_arcsec", Double, comment="arcsec, residual of the matched stars"),
    Column("plate_solve_rms_pixels", Double, comment="px, residual of the matched stars"),
    Column("plate_solve_n_catalogue", Integer, comment="catalogue stars on the frame"),
    Column("plate_solve_hint", String(40), comment="where the search began: header, ROI, last solution"),
    Column("eliminated", Boolean, nullable=False, server_default=false(), comment="takes no further part"),
    Column("eliminated_by", String(100), comment="stage or user who eliminated it"),
    Column("comment", Text, comment="why"),
    Column("warnings", Text, comment="what is odd about the frame, but no reason to drop it"),
    Column("airmass", Double, comment="1"),
    Column("degrees_to_moon", Double, comment="deg"),
    Column("moon_phase", Double, comment="illuminated fraction, 0 to 1"),
    Column("sun_altitude", Double, comment="deg"),
    Column("azimuth", Double, comment="deg, north through east"),
    Column("altitude", Double, comment="deg"),
    Column("seeing_pixels", Double, comment="px, FWHM"),
    Column("seeing_arcseconds", Double, comment="arcsec, FWHM"),
    Column("sky_level_electron_per_second", Double, comment="electron / s / px"),
    Column("background_rms_electron_per_second", Double, comment="electron / s / px"),
    Column("ellipticity", Double, comment="1 - b/a, median of the sources"),
    Column("roi_in_footprint", Boolean, comment="the ROI lies in the frame"),
    Column("angle_to_north", Double, comment="deg, from +y of the image to north, counter-clockwise"),
    *_provenance(),
    UniqueConstraint("lens", "image_relpath"),
    UniqueConstraint("lens", "pixel_hash"),
    comment="imported exposures",
)

plate_solve_attempts = Table(
    "plate_solve_attempts",
    metadata,
    _frame(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False, comment="1 is the first attempt"),
    Column("strategy", String(40), nullable=False, comment="what tried"),
    Column("hint", String(40), nullable=False, comment="where the search began: header, ROI, last solution"),
    Column("outcome", String(20), nullable=False, comment="solved, failed or not tried"),
    Column("reason", Text, comment="why not solved; of a solution: why the hint is not the header's WCS"),
    Column("seconds", Double, nullable=False, comment="s, how long it took"),
    Column("n_matched", Integer, comment="catalogue stars matched to sources"),
    Column("rms_arcsec", Double, comment="arcsec, residual of the matched stars"),
    Column("rms_pixels", Double, comment="px, residual of the matched stars"),
    Column("log10_chance", Double, comment="log10 of the probability that the matches are chance"),
    Column("attempted_at", DateTime(timezone=True), nullable=False, comment="UTC"),
    comment="how each frame was plate solved, or why not: the attempts of the last time it was tried",
)

footprints = Table(
    "footprints",
    metadata,
    _frame(primary_key=True),
    Column("polygon", Text, nullable=False, comment="JSON list of [ra, dec], deg"),
    Column("center_ra", Double, nullable=False, comment="deg"),
    Column("center_dec", Double, nullable=False, comment="deg"),
    *_provenance(),
    comment="where frames lie on the sky",
)

combined_footprint = Table(
    "combined_footprint",
    metadata,
    _lens(primary_key=True),
    Column("hash", String(64), primary_key=True, comment="identifier of the set of frames"),
    Column("largest", Text, nullable=False, comment="GeoJSON of the union, deg"),
    Column("common", Text, nullable=False, comment="GeoJSON of the intersection, deg"),
    Column("n_frames", Integer, nullable=False, comment="frames in it"),
    *_provenance(),
    comment="intersection and union of all footprints",
)

star_selections = Table(
    "star_selections",
    metadata,
    _lens(primary_key=True),
    Column("combined_footprint_hash", String(64), primary_key=True, comment="identifier of the selection"),
    Column(
        "description", Text, nullable=False, comment="JSON: region, cuts, catalogue, what the cuts removed"
    ),
    Column("is_current", Boolean, nullable=False, comment="the selection in use"),
    *_provenance(),
    comment="what decided each selection of reference stars",
)

stars = Table(
    "stars",
    metadata,
    _lens(primary_key=True),
    _selection(primary_key=True),
    Column("gaia_id", String(40), primary_key=True, comment="source_id in the catalogue"),
    Column("name", String(10), nullable=False, comment="a, b, ... by distance to the ROI"),
    Column("ra", Double, nullable=False, comment="deg, ICRS at ref_epoch"),
    Column("dec", Double, nullable=False, comment="deg, ICRS at ref_epoch"),
    Column("gmag", Double, comment="mag, Gaia G"),
    Column("rmag", Double, comment="mag, Gaia RP"),
    Column("bmag", Double, comment="mag, Gaia BP"),
    Column("pmra", Double, comment="mas / yr, times cos(dec)"),
    Column("pmdec", Double, comment="mas / yr"),
    Column("ref_epoch", Double, comment="Julian year"),
    Column("astrometric_excess_noise", Double, comment="mas"),
    Column("astrometric_excess_noise_sig", Double, comment="1"),
    Column("phot_g_mean_flux_over_error", Double, comment="1"),
    Column("distance_to_roi_arcsec", Double, nullable=False, comment="arcsec"),
    Column(
        "contamination", Double, comment="flux of catalogue neighbours within a stamp, in units of the star's"
    ),
    UniqueConstraint("lens", "combined_footprint_hash", "name"),
    ForeignKeyConstraint(
        ["lens", "combined_footprint_hash"],
        ["star_selections.lens", "star_selections.combined_footprint_hash"],
        ondelete="CASCADE",
        name="fk_stars_selection",
    ),
    comment="reference stars",
)

stars_in_frames = Table(
    "stars_in_frames",
    metadata,
    _frame(primary_key=True),
    _selection(primary_key=True),
    Column("star_gaia_id", String(40), primary_key=True, comment="stars.gaia_id"),
    Column("x", Double, nullable=False, comment="px, position by the WCS at the frame's epoch"),
    Column("y", Double, nullable=False, comment="px, position by the WCS at the frame's epoch"),
    comment="which star is in which frame",
)

PSFs = Table(
    "PSFs",
    metadata,
    _frame(primary_key=True),
    _selection(primary_key=True),
    Column("psf_ref", Text, nullable=False, comment="names of its stars"),
    Column("chi2", Double, nullable=False, comment="reduced"),
    Column("subsampling_factor", Integer, nullable=False, comment="small px / px"),
    Column(
        "relative_loss_differential", Double, nullable=False, comment="change of the loss over its last 10 %"
    ),
    Column("fwhm_moffat_arcseconds", Double, comment="arcsec"),
    Column("enclosed_fraction", Double, nullable=False, comment="flux of a star inside its stamp"),
    Column("elongation", Double, comment="1 for a round PSF"),
    Column("doubleness", Double, comment="0 for a single PSF"),
    Column("field_order", Integer, comment="of the PSF's variation over the field; 0: constant"),
    Column("field_evidence", Double, comment="gain in ln evidence over a constant PSF"),
    Column("n_stars", Integer, nullable=False, comment="stars fitted, after rejection"),
    Column("n_iter", Integer, nullable=False, comment="iterations"),
    Column("converged", Boolean, nullable=False, comment="stopped by its criterion, not by its count"),
    Column("status", Text, nullable=False, comment="how the fit ended"),
    Column("psf_relpath", Text, nullable=False, comment="file with the arrays, relative to the workdir"),
    *_provenance(),
    comment="one PSF per frame",
)

star_flux_in_frame = Table(
    "star_flux_in_frame",
    metadata,
    _frame(primary_key=True),
    _selection(primary_key=True),
    Column("star_gaia_id", String(40), primary_key=True, comment="stars.gaia_id"),
    Column("flux", Double, nullable=False, comment="electron / s"),
    Column("flux_uncertainty", Double, nullable=False, comment="electron / s"),
    Column("chi2", Double, nullable=False, comment="reduced"),
    Column("x", Double, comment="px, fitted position"),
    Column("y", Double, comment="px, fitted position"),
    Column("n_pixels", Integer, nullable=False, comment="pixels that took part"),
    Column("aperture_radius", Double, comment="px; NULL: by the PSF"),
    Column("converged", Boolean, nullable=False, comment="the fit ended by its criterion"),
    *_provenance(),
    comment="fluxes of reference stars",
)

normalization_coefficients = Table(
    "normalization_coefficients",
    metadata,
    _frame(primary_key=True),
    _selection(primary_key=True),
    Column("coefficient", Double, nullable=False, comment="relative throughput, 1 on average"),
    Column("coefficient_uncertainty", Double, nullable=False, comment="scatter of the stars around it"),
    Column("standard_error", Double, nullable=False, comment="error of the coefficient"),
    Column("n_stars", Integer, nullable=False, comment="stars behind it"),
    *_provenance(),
    comment="relative throughput of frames",
)

star_normalization = Table(
    "star_normalization",
    metadata,
    _lens(primary_key=True),
    _selection(primary_key=True),
    Column("filter", String(40), primary_key=True, comment="name of the filter"),
    Column("star_gaia_id", String(40), primary_key=True, comment="stars.gaia_id"),
    Column("scale", Double, comment="electron / s: flux of the star where the coefficient is 1"),
    Column("scatter", Double, comment="relative scatter of the star around the coefficients"),
    Column("weight", Double, comment="0 to 1: robust weight, small for a variable star"),
    Column("excess", Double, comment="relative scatter that the uncertainties do not explain"),
    Column("chi2", Double, comment="of the star around the coefficients, reduced"),
    Column("variable", Boolean, comment="the star varies more than the others"),
    *_provenance(),
    comment="each star's part in the normalization",
)

control_stars = Table(
    "control_stars",
    metadata,
    _lens(primary_key=True),
    _selection(primary_key=True),
    Column("filter", String(40), primary_key=True, comment="name of the filter"),
    Column("star_gaia_id", String(40), primary_key=True, comment="stars.gaia_id"),
    Column("chosen", Boolean, nullable=False, comment="modelled like the lens"),
    Column("fault", Text, comment="what speaks against the star; NULL: nothing"),
    *_provenance(),
    comment="stars that may serve as control stars, and which of them do",
)

catalog_star_photometry = Table(
    "catalog_star_photometry",
    metadata,
    _lens(primary_key=True),
    _selection(primary_key=True),
    Column("catalog", String(40), primary_key=True, comment="source of the magnitude"),
    Column("band", String(20), primary_key=True, comment="photometric band"),
    Column("star_gaia_id", String(40), primary_key=True, comment="stars.gaia_id"),
    Column("mag", Double, nullable=False, comment="mag"),
    Column("mag_err", Double, comment="mag"),
    *_provenance(),
    comment="catalogue magnitudes of reference stars",
)

absolute_zeropoints = Table(
    "absolute_zeropoints",
    metadata,
    _frame(primary_key=True),
    _selection(primary_key=True),
    Column("source_catalog", String(40), primary_key=True, comment="catalog_star_photometry.catalog"),
    Column("zeropoint", Double, nullable=False, comment="mag of 1 electron / s"),
    Column("zeropoint_uncertainty", Double, nullable=False, comment="mag, scatter of the stars"),
    Column("n_stars", Integer, nullable=False, comment="stars behind it"),
    *_provenance(),
    comment="absolute calibration of frames",
)

publications = Table(
    "publications",
    metadata,
    _id(),
    _lens(index=True),
    Column("filter", String(40), nullable=False, comment="name of the filter"),
    Column("version", Integer, nullable=False, comment="1, 2, ... per lens and filter"),
    Column("configuration", Text, nullable=False, comment="JSON: the configuration that made it"),
    Column("loss", Double, comment="objective of the model"),
    Column("converged", Boolean, comment="the model ended by its criterion"),
    Column(
        "control_stars",
        Text,
        comment="JSON: stars modelled like the lens, their scatter over their quoted errors",
    ),
    Column(
        "common_errors",
        Text,
        comment="JSON: by image the error that all its points share, beside flux_uncertainty; null: within it",
    ),
    Column(
        "epoch_notes",
        Text,
        comment="JSON: frames.image_relpath: what the joint model left out of it and why, whether all of it",
    ),
    Column("files", Text, comment="JSON: files of its snapshot, relative to the workdir: their sha256"),
    Column("rows_sha256", String(64), comment="sha256 of this row and its points; null: not recorded"),
    *_provenance(),
    UniqueConstraint("lens", "filter", "version"),
    comment="versions of light curves; none changes after the fact",
)

withheld_light_curves = Table(
    "withheld_light_curves",
    metadata,
    _lens(primary_key=True),
    Column("filter", String(40), primary_key=True, comment="name of the filter"),
    Column("reasons", Text, nullable=False, comment="JSON list: which gates it missed, and by how much"),
    Column("n_epochs", Integer, nullable=False, comment="epochs in it"),
    Column("file", Text, nullable=False, comment="where it is kept, relative to the workdir"),
    *_provenance(),
    comment="the newest light curve of a filter that missed a gate of the publication, until one passes",
)

light_curve_points = Table(
    "light_curve_points",
    metadata,
    Column(
        "publication_id",
        _Id,
        ForeignKey("publications.id", ondelete="CASCADE"),
        primary_key=True,
        comment="publications.id",
    ),
    Column("frame_id", _Id, ForeignKey("frames.id"), primary_key=True, comment="frames.id"),
    Column("source", String(40), primary_key=True, comment="label of the image"),
    Column("mjd", Double, nullable=False, comment="MJD UTC, middle of the exposure"),
    Column("flux", Double, nullable=False, comment="electron / s at coefficient 1"),
    Column(
        "flux_uncertainty",
        Double,
        nullable=False,
        comment="electron / s, independent from frame to frame where publications.common_errors is known",
    ),
    Column(
        "flux_uncertainty_model",
        Double,
        comment="electron / s, before calibration on control stars; null: not calibrated",
    ),
    Column(
        "flux_covariances",
        Text,
        comment="JSON: (electron / s)^2, independent covariance with the later images of the frame; null: not recorded",
    ),
    Column("coefficient", Double, nullable=False, comment="normalization coefficient of the frame"),
    Column("coefficient_uncertainty", Double, nullable=False, comment="its standard error, in flux_uncertainty"),
    Column("zeropoint", Double, comment="mag"),
    Column("reduced_chi2", Double, comment="of the epoch"),
    comment="the points of each publication",
)  # fmt: skip

stage_runs = Table(
    "stage_runs",
    metadata,
    _id(),
    _lens(index=True),
    Column("stage", String(60), nullable=False, comment="name of the stage"),
    Column("status", String(20), nullable=False, comment="running, done, nothing_to_do, failed, interrupted"),
    Column("started_at", DateTime(timezone=True), nullable=False, comment="UTC"),
    Column("finished_at", DateTime(timezone=True), comment="UTC"),
    Column("n_selected", Integer, comment="units that were missing or out of date"),
    Column("n_done", Integer, comment="units made"),
    Column("n_failed", Integer, comment="units that failed"),
    Column("message", Text, comment="summary, or why it failed"),
    Column("error_class", String(60), comment="class of the error"),
    Column("code_version", String(50), nullable=False, comment="version of lightcurver-ops"),
    Column("host", Text, comment="machine"),
    Column("pid", Integer, comment="process"),
    Column("process", Text, comment="which process of all: container or machine, number, start"),
    Column("cpu_seconds", Double, comment="of all cores and processes"),
    Column("peak_mib", Double, comment="MiB of memory at a time, of all processes"),
    comment="the ledger: every run of a stage",
)

products = Table(
    "products",
    metadata,
    _lens(primary_key=True),
    Column("stage", String(60), primary_key=True, comment="name of the stage"),
    Column(
        "unit",
        String(400),
        primary_key=True,
        comment="what it was made for: a raw file, a frame, a filter, or *",
    ),
    Column("status", String(20), nullable=False, comment="done, failed or quarantined"),
    Column("reason", Text, comment="why not done"),
    Column("error_class", String(60), comment="class of the error"),
    Column("attempts", Integer, nullable=False, comment="times it was tried with these inputs"),
    Column("run_id", _Id, ForeignKey("stage_runs.id"), comment="stage_runs.id"),
    *_provenance(),
    comment="what each stage has made, for which unit, from which inputs",
)

raw_files = Table(
    "raw_files",
    metadata,
    _id(),
    _lens(),
    Column("path", Text, nullable=False, comment="raw file: path or URL"),
    Column("size", BigInteger, nullable=False, comment="bytes"),
    Column("modified", String(100), nullable=False, comment="what the storage says of its last change"),
    Column("mjd", Double, comment="MJD UTC, middle of the exposure, by its header"),
    Column(
        "night", String(10), comment="date on which the observing night began, noon to noon at the telescope"
    ),
    Column("problem", Text, comment="why its night is not known"),
    Column(
        "read_as", String(64), nullable=False, comment="hash of the keys by which header and night were read"
    ),
    Column("noticed_at", DateTime(timezone=True), nullable=False, comment="UTC, when this state was noticed"),
    UniqueConstraint("lens", "path"),
    comment="raw files that were noticed, and their observing nights",
)

star_exclusions = Table(
    "star_exclusions",
    metadata,
    _lens(primary_key=True),
    Column("star_gaia_id", String(40), primary_key=True, comment="stars.gaia_id"),
    Column("name", String(10), nullable=False, comment="name of the star when it was excluded"),
    Column("comment", Text, nullable=False, comment="why"),
    Column("decided_by", String(100), nullable=False, comment="who excluded it"),
    Column("decided_at", DateTime(timezone=True), nullable=False, comment="UTC"),
    comment="reference stars that a user took out of the PSF and the normalization",
)

alerts = Table(
    "alerts",
    metadata,
    _id(),
    _lens(index=True),
    Column("key", String(300), nullable=False, comment="identifier of the event: one message each"),
    Column("kind", String(40), nullable=False, comment="stage_failed, quality_gate, no_frames, ..."),
    Column("subject", Text, nullable=False, comment="first line of the message"),
    Column("body", Text, nullable=False, comment="the message"),
    Column("raised_at", DateTime(timezone=True), nullable=False, comment="UTC"),
    Column("delivery", Text, comment="JSON: channel: delivered, or why not"),
    UniqueConstraint("lens", "key"),
    comment="alerts that were raised, and what became of them",
)

decisions = Table(
    "decisions",
    metadata,
    _id(),
    _lens(),
    Column(
        "kind",
        String(20),
        nullable=False,
        comment="eliminate_frame, restore_frame, exclude_star or include_star",
    ),
    Column("subject", String(400), nullable=False, comment="frames.image_relpath, or stars.gaia_id"),
    Column("name", String(400), nullable=False, comment="of the frame or star, for people"),
    Column("comment", Text, comment="why"),
    Column("decided_by", String(100), nullable=False, comment="who"),
    Column("decided_at", DateTime(timezone=True), nullable=False, comment="UTC"),
    comment="what users decided about frames and stars, one row each time; none changes after the fact",
)

publication_summaries = Table(
    "publication_summaries",
    metadata,
    Column(
        "publication_id",
        _Id,
        ForeignKey("publications.id", ondelete="CASCADE"),
        primary_key=True,
        comment="publications.id",
    ),
    Column("n_epochs", Integer, nullable=False, comment="epochs of the light curve"),
    Column(
        "images", Text, nullable=False, comment="JSON: per image its last magnitude, its change, its course"
    ),
    comment="what lists of many light curves show of each",
)

Index("ix_decisions_lens_subject", decisions.c.lens, decisions.c.subject)
Index("ix_stage_runs_lens_stage", stage_runs.c.lens, stage_runs.c.stage, stage_runs.c.id)
Index("ix_stage_runs_finished_at", stage_runs.c.finished_at)
# As text: both engines use the index only for a condition that is written like its own.
FAILED_RUN = text("stage_runs.status IN ('failed', 'interrupted')")
"""What is true of the runs of stages that did not end well."""
_FAILED = text("status IN ('failed', 'interrupted')")
Index(
    "ix_stage_runs_failed",
    stage_runs.c.lens,
    stage_runs.c.stage,
    stage_runs.c.id,
    postgresql_where=_FAILED,
    sqlite_where=_FAILED,
)
Index("ix_raw_files_lens_night", raw_files.c.lens, raw_files.c.night)
Index("ix_frames_lens_mjd", frames.c.lens, frames.c.mjd)
Index("ix_products_lens_stage_status", products.c.lens, products.c.stage, products.c.status)

"""First schema"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "lenses",
        sa.Column(
            "name", sa.String(length=100), nullable=False, comment="name of the lens in its configuration"
        ),
        sa.Column("roi_ra", sa.Double(), nullable=False, comment="deg, ICRS"),
        sa.Column("roi_dec", sa.Double(), nullable=False, comment="deg, ICRS"),
        sa.Column("workdir", sa.Text(), nullable=False, comment="working directory"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lenses")),
        comment="the lenses in this database",
    )
    op.create_table(
        "catalog_star_photometry",
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the star selection: region, cuts, catalogue",
        ),
        sa.Column("catalog", sa.String(length=40), nullable=False, comment="source of the magnitude"),
        sa.Column("band", sa.String(length=20), nullable=False, comment="photometric band"),
        sa.Column("star_gaia_id", sa.String(length=40), nullable=False, comment="stars.gaia_id"),
        sa.Column("mag", sa.Double(), nullable=False, comment="mag"),
        sa.Column("mag_err", sa.Double(), nullable=True, comment="mag"),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["lens"], ["lenses.name"], name=op.f("fk_catalog_star_photometry_lens"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "lens",
            "combined_footprint_hash",
            "catalog",
            "band",
            "star_gaia_id",
            name=op.f("pk_catalog_star_photometry"),
        ),
        comment="catalogue magnitudes of reference stars",
    )
    op.create_table(
        "combined_footprint",
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="identifier of the set of frames"),
        sa.Column("largest", sa.Text(), nullable=False, comment="GeoJSON of the union, deg"),
        sa.Column("common", sa.Text(), nullable=False, comment="GeoJSON of the intersection, deg"),
        sa.Column("n_frames", sa.Integer(), nullable=False, comment="frames in it"),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["lens"], ["lenses.name"], name=op.f("fk_combined_footprint_lens"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lens", "hash", name=op.f("pk_combined_footprint")),
        comment="intersection and union of all footprints",
    )
    op.create_table(
        "frames",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
            comment="number of the row",
        ),
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column("original_image_path", sa.Text(), nullable=False, comment="raw file"),
        sa.Column(
            "image_relpath", sa.Text(), nullable=False, comment="imported image, relative to the workdir"
        ),
        sa.Column(
            "sources_relpath", sa.Text(), nullable=False, comment="its sources, relative to the workdir"
        ),
        sa.Column(
            "pixel_hash",
            sa.String(length=64),
            nullable=False,
            comment="sha256 of the raw pixels: tells exposures apart",
        ),
        sa.Column("mjd", sa.Double(), nullable=False, comment="MJD UTC, middle of the exposure"),
        sa.Column("exptime", sa.Double(), nullable=False, comment="s"),
        sa.Column("gain", sa.Double(), nullable=False, comment="electron / adu"),
        sa.Column("filter", sa.String(length=40), nullable=False, comment="name of the filter"),
        sa.Column("telescope_name", sa.Text(), nullable=True, comment="name"),
        sa.Column("telescope_latitude", sa.Double(), nullable=True, comment="deg, north positive"),
        sa.Column("telescope_longitude", sa.Double(), nullable=True, comment="deg, east positive"),
        sa.Column("telescope_elevation", sa.Double(), nullable=True, comment="m"),
        sa.Column("telescope_imager_name", sa.Text(), nullable=True, comment="name"),
        sa.Column("width", sa.Integer(), nullable=False, comment="px"),
        sa.Column("height", sa.Integer(), nullable=False, comment="px"),
        sa.Column("n_sources", sa.Integer(), nullable=False, comment="detected sources"),
        sa.Column(
            "plate_solved",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="has a verified WCS",
        ),
        sa.Column(
            "attempted_plate_solve",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="a solution was tried",
        ),
        sa.Column("pixel_scale", sa.Double(), nullable=True, comment="arcsec / px"),
        sa.Column(
            "plate_solve_method", sa.String(length=40), nullable=True, comment="what found the solution"
        ),
        sa.Column(
            "plate_solve_n_matched", sa.Integer(), nullable=True, comment="catalogue stars matched to sources"
        ),
        sa.Column(
            "plate_solve_rms_arcsec",
            sa.Double(),
            nullable=True,
            comment="arcsec, residual of the matched stars",
        ),
        sa.Column(
            "eliminated",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="takes no further part",
        ),
        sa.Column(
            "eliminated_by", sa.String(length=100), nullable=True, comment="stage or user who eliminated it"
        ),
        sa.Column("comment", sa.Text(), nullable=True, comment="why"),
        sa.Column(
            "warnings",
            sa.Text(),
            nullable=True,
            comment="what is odd about the frame, but no reason to drop it",
        ),
        sa.Column("airmass", sa.Double(), nullable=True, comment="1"),
        sa.Column("degrees_to_moon", sa.Double(), nullable=True, comment="deg"),
        sa.Column("moon_phase", sa.Double(), nullable=True, comment="illuminated fraction, 0 to 1"),
        sa.Column("sun_altitude", sa.Double(), nullable=True, comment="deg"),
        sa.Column("azimuth", sa.Double(), nullable=True, comment="deg, north through east"),
        sa.Column("altitude", sa.Double(), nullable=True, comment="deg"),
        sa.Column("seeing_pixels", sa.Double(), nullable=True, comment="px, FWHM"),
        sa.Column("seeing_arcseconds", sa.Double(), nullable=True, comment="arcsec, FWHM"),
        sa.Column("sky_level_electron_per_second", sa.Double(), nullable=True, comment="electron / s / px"),
        sa.Column(
            "background_rms_electron_per_second", sa.Double(), nullable=True, comment="electron / s / px"
        ),
        sa.Column("ellipticity", sa.Double(), nullable=True, comment="1 - b/a, median of the sources"),
        sa.Column("roi_in_footprint", sa.Boolean(), nullable=True, comment="the ROI lies in the frame"),
        sa.Column(
            "angle_to_north",
            sa.Double(),
            nullable=True,
            comment="deg, from +y of the image to north, counter-clockwise",
        ),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(["lens"], ["lenses.name"], name=op.f("fk_frames_lens"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_frames")),
        sa.UniqueConstraint("lens", "image_relpath", name=op.f("uq_frames_lens_image_relpath")),
        sa.UniqueConstraint("lens", "pixel_hash", name=op.f("uq_frames_lens_pixel_hash")),
        comment="imported exposures",
    )
    with op.batch_alter_table("frames", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_frames_lens"), ["lens"], unique=False)
        batch_op.create_index("ix_frames_lens_mjd", ["lens", "mjd"], unique=False)

    op.create_table(
        "publications",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
            comment="number of the row",
        ),
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column("filter", sa.String(length=40), nullable=False, comment="name of the filter"),
        sa.Column("version", sa.Integer(), nullable=False, comment="1, 2, ... per lens and filter"),
        sa.Column("configuration", sa.Text(), nullable=False, comment="JSON: the configuration that made it"),
        sa.Column("loss", sa.Double(), nullable=True, comment="objective of the model"),
        sa.Column("converged", sa.Boolean(), nullable=True, comment="the model ended by its criterion"),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["lens"], ["lenses.name"], name=op.f("fk_publications_lens"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publications")),
        sa.UniqueConstraint("lens", "filter", "version", name=op.f("uq_publications_lens_filter_version")),
        comment="versions of light curves; none changes after the fact",
    )
    with op.batch_alter_table("publications", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_publications_lens"), ["lens"], unique=False)

    op.create_table(
        "stage_runs",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
            comment="number of the row",
        ),
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column("stage", sa.String(length=60), nullable=False, comment="name of the stage"),
        sa.Column(
            "status",
            sa.String(length=20),
            nullable=False,
            comment="running, done, nothing_to_do, failed, interrupted",
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="UTC"),
        sa.Column(
            "n_selected", sa.Integer(), nullable=True, comment="units that were missing or out of date"
        ),
        sa.Column("n_done", sa.Integer(), nullable=True, comment="units made"),
        sa.Column("n_failed", sa.Integer(), nullable=True, comment="units that failed"),
        sa.Column("message", sa.Text(), nullable=True, comment="summary, or why it failed"),
        sa.Column("error_class", sa.String(length=60), nullable=True, comment="class of the error"),
        sa.Column("code_version", sa.String(length=50), nullable=False, comment="version of lightcurver-ops"),
        sa.Column("host", sa.Text(), nullable=True, comment="machine"),
        sa.Column("pid", sa.Integer(), nullable=True, comment="process"),
        sa.ForeignKeyConstraint(
            ["lens"], ["lenses.name"], name=op.f("fk_stage_runs_lens"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stage_runs")),
        comment="the ledger: every run of a stage",
    )
    with op.batch_alter_table("stage_runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_stage_runs_lens"), ["lens"], unique=False)

    op.create_table(
        "star_normalization",
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the star selection: region, cuts, catalogue",
        ),
        sa.Column("filter", sa.String(length=40), nullable=False, comment="name of the filter"),
        sa.Column("star_gaia_id", sa.String(length=40), nullable=False, comment="stars.gaia_id"),
        sa.Column(
            "scale",
            sa.Double(),
            nullable=True,
            comment="electron / s: flux of the star where the coefficient is 1",
        ),
        sa.Column(
            "scatter",
            sa.Double(),
            nullable=True,
            comment="relative scatter of the star around the coefficients",
        ),
        sa.Column(
            "weight", sa.Double(), nullable=True, comment="0 to 1: robust weight, small for a variable star"
        ),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["lens"], ["lenses.name"], name=op.f("fk_star_normalization_lens"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "lens", "combined_footprint_hash", "filter", "star_gaia_id", name=op.f("pk_star_normalization")
        ),
        comment="each star's part in the normalization",
    )
    op.create_table(
        "star_selections",
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the selection",
        ),
        sa.Column(
            "description",
            sa.Text(),
            nullable=False,
            comment="JSON: region, cuts, catalogue, what the cuts removed",
        ),
        sa.Column("is_current", sa.Boolean(), nullable=False, comment="the selection in use"),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["lens"], ["lenses.name"], name=op.f("fk_star_selections_lens"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lens", "combined_footprint_hash", name=op.f("pk_star_selections")),
        comment="what decided each selection of reference stars",
    )
    op.create_table(
        "PSFs",
        sa.Column(
            "frame_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="frames.id",
        ),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the star selection: region, cuts, catalogue",
        ),
        sa.Column("psf_ref", sa.Text(), nullable=False, comment="names of its stars"),
        sa.Column("chi2", sa.Double(), nullable=False, comment="reduced"),
        sa.Column("subsampling_factor", sa.Integer(), nullable=False, comment="small px / px"),
        sa.Column(
            "relative_loss_differential",
            sa.Double(),
            nullable=False,
            comment="change of the loss over its last 10 %",
        ),
        sa.Column("fwhm_moffat_arcseconds", sa.Double(), nullable=True, comment="arcsec"),
        sa.Column(
            "enclosed_fraction", sa.Double(), nullable=False, comment="flux of a star inside its stamp"
        ),
        sa.Column("elongation", sa.Double(), nullable=True, comment="1 for a round PSF"),
        sa.Column("n_stars", sa.Integer(), nullable=False, comment="stars fitted, after rejection"),
        sa.Column("n_iter", sa.Integer(), nullable=False, comment="iterations"),
        sa.Column(
            "converged", sa.Boolean(), nullable=False, comment="stopped by its criterion, not by its count"
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="how the fit ended"),
        sa.Column(
            "psf_relpath", sa.Text(), nullable=False, comment="file with the arrays, relative to the workdir"
        ),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["frame_id"], ["frames.id"], name=op.f("fk_PSFs_frame_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("frame_id", "combined_footprint_hash", name=op.f("pk_PSFs")),
        comment="one PSF per frame",
    )
    op.create_table(
        "absolute_zeropoints",
        sa.Column(
            "frame_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="frames.id",
        ),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the star selection: region, cuts, catalogue",
        ),
        sa.Column(
            "source_catalog", sa.String(length=40), nullable=False, comment="catalog_star_photometry.catalog"
        ),
        sa.Column("zeropoint", sa.Double(), nullable=False, comment="mag of 1 electron / s"),
        sa.Column("zeropoint_uncertainty", sa.Double(), nullable=False, comment="mag, scatter of the stars"),
        sa.Column("n_stars", sa.Integer(), nullable=False, comment="stars behind it"),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["frame_id"], ["frames.id"], name=op.f("fk_absolute_zeropoints_frame_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "frame_id", "combined_footprint_hash", "source_catalog", name=op.f("pk_absolute_zeropoints")
        ),
        comment="absolute calibration of frames",
    )
    op.create_table(
        "footprints",
        sa.Column(
            "frame_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="frames.id",
        ),
        sa.Column("polygon", sa.Text(), nullable=False, comment="JSON list of [ra, dec], deg"),
        sa.Column("center_ra", sa.Double(), nullable=False, comment="deg"),
        sa.Column("center_dec", sa.Double(), nullable=False, comment="deg"),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["frame_id"], ["frames.id"], name=op.f("fk_footprints_frame_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_footprints")),
        comment="where frames lie on the sky",
    )
    op.create_table(
        "light_curve_points",
        sa.Column(
            "publication_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="publications.id",
        ),
        sa.Column(
            "frame_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="frames.id",
        ),
        sa.Column("source", sa.String(length=40), nullable=False, comment="label of the image"),
        sa.Column("mjd", sa.Double(), nullable=False, comment="MJD UTC, middle of the exposure"),
        sa.Column("flux", sa.Double(), nullable=False, comment="electron / s at coefficient 1"),
        sa.Column("flux_uncertainty", sa.Double(), nullable=False, comment="electron / s"),
        sa.Column(
            "coefficient", sa.Double(), nullable=False, comment="normalization coefficient of the frame"
        ),
        sa.Column(
            "coefficient_uncertainty",
            sa.Double(),
            nullable=False,
            comment="its standard error, in flux_uncertainty",
        ),
        sa.Column("zeropoint", sa.Double(), nullable=True, comment="mag"),
        sa.Column("reduced_chi2", sa.Double(), nullable=True, comment="of the epoch"),
        sa.ForeignKeyConstraint(["frame_id"], ["frames.id"], name=op.f("fk_light_curve_points_frame_id")),
        sa.ForeignKeyConstraint(
            ["publication_id"],
            ["publications.id"],
            name=op.f("fk_light_curve_points_publication_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("publication_id", "frame_id", "source", name=op.f("pk_light_curve_points")),
        comment="the points of each publication",
    )
    op.create_table(
        "normalization_coefficients",
        sa.Column(
            "frame_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="frames.id",
        ),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the star selection: region, cuts, catalogue",
        ),
        sa.Column("coefficient", sa.Double(), nullable=False, comment="relative throughput, 1 on average"),
        sa.Column(
            "coefficient_uncertainty", sa.Double(), nullable=False, comment="scatter of the stars around it"
        ),
        sa.Column("standard_error", sa.Double(), nullable=False, comment="error of the coefficient"),
        sa.Column("n_stars", sa.Integer(), nullable=False, comment="stars behind it"),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["frame_id"],
            ["frames.id"],
            name=op.f("fk_normalization_coefficients_frame_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "frame_id", "combined_footprint_hash", name=op.f("pk_normalization_coefficients")
        ),
        comment="relative throughput of frames",
    )
    op.create_table(
        "products",
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column("stage", sa.String(length=60), nullable=False, comment="name of the stage"),
        sa.Column(
            "unit",
            sa.String(length=400),
            nullable=False,
            comment="what it was made for: a raw file, a frame, a filter, or *",
        ),
        sa.Column("status", sa.String(length=20), nullable=False, comment="done, failed or quarantined"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why not done"),
        sa.Column("error_class", sa.String(length=60), nullable=True, comment="class of the error"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="times it was tried with these inputs"),
        sa.Column(
            "run_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="stage_runs.id",
        ),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(["lens"], ["lenses.name"], name=op.f("fk_products_lens"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["stage_runs.id"], name=op.f("fk_products_run_id")),
        sa.PrimaryKeyConstraint("lens", "stage", "unit", name=op.f("pk_products")),
        comment="what each stage has made, for which unit, from which inputs",
    )
    with op.batch_alter_table("products", schema=None) as batch_op:
        batch_op.create_index("ix_products_lens_stage_status", ["lens", "stage", "status"], unique=False)

    op.create_table(
        "star_flux_in_frame",
        sa.Column(
            "frame_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="frames.id",
        ),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the star selection: region, cuts, catalogue",
        ),
        sa.Column("star_gaia_id", sa.String(length=40), nullable=False, comment="stars.gaia_id"),
        sa.Column("flux", sa.Double(), nullable=False, comment="electron / s"),
        sa.Column("flux_uncertainty", sa.Double(), nullable=False, comment="electron / s"),
        sa.Column("chi2", sa.Double(), nullable=False, comment="reduced"),
        sa.Column("x", sa.Double(), nullable=True, comment="px, fitted position"),
        sa.Column("y", sa.Double(), nullable=True, comment="px, fitted position"),
        sa.Column("n_pixels", sa.Integer(), nullable=False, comment="pixels that took part"),
        sa.Column("converged", sa.Boolean(), nullable=False, comment="the fit ended by its criterion"),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["frame_id"], ["frames.id"], name=op.f("fk_star_flux_in_frame_frame_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "frame_id", "combined_footprint_hash", "star_gaia_id", name=op.f("pk_star_flux_in_frame")
        ),
        comment="fluxes of reference stars",
    )
    op.create_table(
        "stars",
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the star selection: region, cuts, catalogue",
        ),
        sa.Column("gaia_id", sa.String(length=40), nullable=False, comment="source_id in the catalogue"),
        sa.Column("name", sa.String(length=10), nullable=False, comment="a, b, ... by distance to the ROI"),
        sa.Column("ra", sa.Double(), nullable=False, comment="deg, ICRS at ref_epoch"),
        sa.Column("dec", sa.Double(), nullable=False, comment="deg, ICRS at ref_epoch"),
        sa.Column("gmag", sa.Double(), nullable=True, comment="mag, Gaia G"),
        sa.Column("rmag", sa.Double(), nullable=True, comment="mag, Gaia RP"),
        sa.Column("bmag", sa.Double(), nullable=True, comment="mag, Gaia BP"),
        sa.Column("pmra", sa.Double(), nullable=True, comment="mas / yr, times cos(dec)"),
        sa.Column("pmdec", sa.Double(), nullable=True, comment="mas / yr"),
        sa.Column("ref_epoch", sa.Double(), nullable=True, comment="Julian year"),
        sa.Column("astrometric_excess_noise", sa.Double(), nullable=True, comment="mas"),
        sa.Column("astrometric_excess_noise_sig", sa.Double(), nullable=True, comment="1"),
        sa.Column("phot_g_mean_flux_over_error", sa.Double(), nullable=True, comment="1"),
        sa.Column("distance_to_roi_arcsec", sa.Double(), nullable=False, comment="arcsec"),
        sa.ForeignKeyConstraint(
            ["lens", "combined_footprint_hash"],
            ["star_selections.lens", "star_selections.combined_footprint_hash"],
            name=op.f("fk_stars_selection"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["lens"], ["lenses.name"], name=op.f("fk_stars_lens"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lens", "combined_footprint_hash", "gaia_id", name=op.f("pk_stars")),
        sa.UniqueConstraint(
            "lens", "combined_footprint_hash", "name", name=op.f("uq_stars_lens_combined_footprint_hash_name")
        ),
        comment="reference stars",
    )
    op.create_table(
        "stars_in_frames",
        sa.Column(
            "frame_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="frames.id",
        ),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the star selection: region, cuts, catalogue",
        ),
        sa.Column("star_gaia_id", sa.String(length=40), nullable=False, comment="stars.gaia_id"),
        sa.Column("x", sa.Double(), nullable=False, comment="px, position by the WCS at the frame's epoch"),
        sa.Column("y", sa.Double(), nullable=False, comment="px, position by the WCS at the frame's epoch"),
        sa.ForeignKeyConstraint(
            ["frame_id"], ["frames.id"], name=op.f("fk_stars_in_frames_frame_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "frame_id", "combined_footprint_hash", "star_gaia_id", name=op.f("pk_stars_in_frames")
        ),
        comment="which star is in which frame",
    )


def downgrade() -> None:
    op.drop_table("stars_in_frames")
    op.drop_table("stars")
    op.drop_table("star_flux_in_frame")
    with op.batch_alter_table("products", schema=None) as batch_op:
        batch_op.drop_index("ix_products_lens_stage_status")

    op.drop_table("products")
    op.drop_table("normalization_coefficients")
    op.drop_table("light_curve_points")
    op.drop_table("footprints")
    op.drop_table("absolute_zeropoints")
    op.drop_table("PSFs")
    op.drop_table("star_selections")
    op.drop_table("star_normalization")
    with op.batch_alter_table("stage_runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_stage_runs_lens"))

    op.drop_table("stage_runs")
    with op.batch_alter_table("publications", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_publications_lens"))

    op.drop_table("publications")
    with op.batch_alter_table("frames", schema=None) as batch_op:
        batch_op.drop_index("ix_frames_lens_mjd")
        batch_op.drop_index(batch_op.f("ix_frames_lens"))

    op.drop_table("frames")
    op.drop_table("combined_footprint")
    op.drop_table("catalog_star_photometry")
    op.drop_table("lenses")

"""The groups of keys of a lens configuration, in the order of the stages that read them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lightcurver_ops.config.base import (
    Declination,
    EvenSize,
    Fraction,
    Interval,
    Positive,
    RightAscension,
    Section,
    SkyPosition,
    TimeZone,
    Url,
    WithoutCredentials,
)
from lightcurver_ops.config.header import HeaderField, HeaderMapping, one_keyword

Label = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]+$")]
StarList = list[str]
StarCount = Annotated[int, Field(ge=1)]
ControlCount = Annotated[int, Field(ge=0, le=3)]
ControlList = Annotated[StarList, Field(max_length=3)]
ColumnName = str


MAX_PIXELS = 200_000_000


class Raw(Section):
    """Where the raw frames are and how to read them."""

    raw_dirs: list[WithoutCredentials] = Field(min_length=1)
    """Directories with raw frames, searched recursively; local paths or URLs such as s3://bucket/lens."""
    s3_endpoint_url: Url | None = None
    """Address of the store of s3:// directories (https://s3.example.org); null: Amazon's. Credentials never stand here:
    they come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a profile (AWS_PROFILE), or a role."""
    s3_etag_is_md5: bool = True
    """false: do not verify downloads by the ETags of the store; for stores whose ETags are no MD5 sums."""
    cache_dir: Path | None = None
    """Where downloaded objects are kept; null: raw_cache in the working directory. Deleting it costs a download."""
    files_match_pattern: str = "*.fit*"
    """File names that count as frames (shell pattern, upper and lower case are the same)."""
    header: HeaderMapping = HeaderMapping()
    """Where the header has time, exposure, gain and filter."""
    header_parser: Path | None = None
    """Python file with parse_header(header) -> {mjd, gain, exptime, filter}; takes the place of the mapping."""
    read_noise: HeaderField | None = None
    """Where the header has the read noise of a pixel, electrons. It is compared with the noise of the sky, which says
    when it, or the gain, is wrong; no flux and no error depends on it: noise is measured. null: not compared."""
    hdu_data: int = Field(default=0, ge=0)
    """The HDU that holds the image."""
    hdus_header: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    """The HDUs whose headers are merged, a later one wins."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)
    """Files whose headers announce larger images, or that unpack to more than 4 bytes for each of so many pixels, are
    refused before memory is taken for them."""
    trim_vertical: int = Field(default=0, ge=0)
    """Pixels cut off at the top and at the bottom."""
    trim_horizontal: int = Field(default=0, ge=0)
    """Pixels cut off at the left and at the right."""

    @field_validator("read_noise")
    @classmethod
    def _of_one_keyword(cls, field: HeaderField | None) -> HeaderField | None:
        return field and one_keyword(field)


class Roi(Section):
    """The region of interest: the lens."""

    ra: RightAscension
    """Right ascension of the centre, ICRS degrees."""
    dec: Declination
    """Declination of the centre, ICRS degrees."""
    name: str | None = None
    """Name of the region in file names; null: the name of the lens."""
    ROI_size: Positive = 5.0
    """Arcsec: no reference star is taken this close to the centre."""
    point_sources: dict[Label, SkyPosition] = {}
    """The images: label: [ra, dec], ICRS degrees."""

    @field_validator("point_sources")
    @classmethod
    def _columns_of_their_own(cls, sources: dict[str, SkyPosition]) -> dict[str, SkyPosition]:
        for label in sources:
            for kind in ("d", "scatter", "count"):  # A_d_mag: the error of A, or the magnitude of A_d?
                if f"{label}_{kind}" in sources:
                    raise ValueError(
                        f"the images {label} and {label}_{kind} would share columns of the light curve "
                        f"({label}_{kind}_flux); call one of them something else"
                    )
        return sources


class Telescope(Section):
    """Where the telescope stands; without it, airmass, Moon and Sun stay unknown."""

    name: str
    """Name of the telescope."""
    latitude: Annotated[float, Field(ge=-90, le=90)]
    """Degrees, north positive."""
    longitude: Annotated[float, Field(ge=-180, le=360)]
    """Degrees, east positive."""
    elevation: Annotated[float, Field(ge=-500, le=9000)]
    """Metres above sea level."""
    imager: str | None = None
    """Name of the camera."""
    timezone: TimeZone | None = None
    """IANA name (America/Santiago) by which nights run from noon to noon; null: from the longitude."""


class Background(Section):
    """The sky."""

    do_background_subtraction: bool = True
    """false: the frames come sky subtracted; the noise is measured all the same."""
    mask_sources_before_background: bool = False
    """Estimate, detect sources, mask them, estimate again: for crowded fields."""
    n_boxes: int = Field(default=10, ge=1, le=200)
    """The sky is sampled in this many boxes along each side of the image."""


class Detection(Section):
    """Sources on each frame, for its seeing and its plate solution."""

    threshold: Positive = 3.0
    """Detection threshold in sigma per pixel."""
    min_area: int = Field(default=5, ge=1)
    """Smallest number of connected pixels above the threshold."""
    do_plots: bool = False
    """Write a figure of each frame with its sources to diagnostics/sources/."""


Strategy = Literal["plate_solve", "alternate_gaia_solve", "adapt_wcs_from_reference"]


class PlateSolving(Section):
    """The astrometric solution of each frame."""

    already_plate_solved: bool = False
    """true: the raw headers have a good WCS; it is checked, and where it is wrong the fallbacks solve the frame."""
    frames: Literal["all_never_attempted", "all_not_plate_solved", "all_not_eliminated"] = (
        "all_never_attempted"
    )
    """Which frames to solve: new ones; also those that failed before; or all again."""
    strategy: Strategy = "alternate_gaia_solve"
    """plate_solve: astrometry.net's solve-field; alternate_gaia_solve: match the stars of the catalogue, no other
    program needed; adapt_wcs_from_reference: move the solution of a solved frame."""
    fallbacks: list[Strategy] | None = None
    """Strategies tried in this order where the chosen one finds no verified solution; null: alternate_gaia_solve, then
    plate_solve; []: none."""
    plate_scale_interval: Interval = (0.1, 6.0)
    """Arcsec per pixel: the plate scale lies between these."""
    search_radius: Positive = 1.0
    """Degrees around the ROI in which the frame's centre lies."""
    alternate_plate_solve_gaia_radius: Positive | None = None
    """Arcsec around the ROI from which catalogue stars are matched; null: the frame's half diagonal and some."""
    index_dir: Path | None = None
    """Directory of astrometry.net index files; null: an index is built from the lens's catalogue."""
    astrometry_net_api_key_file: Path | None = None
    """File that holds the key of a hosted astrometry.net, asked where no solve-field is installed."""
    reference_frame: str | None = None
    """adapt_wcs_from_reference: file name of the solved frame to start from; null: the one with most sources."""
    sip_order: Annotated[int, Field(ge=0, le=5)] = 0
    """Order of the distortion polynomial (SIP) that is fitted where the stars allow it; 0: none. A polynomial that
    a header or a solver brings is kept in any case."""
    allow_unverified: bool = False
    """true: a solution of a frame with too few catalogue stars to verify it counts; one that they contradict never."""
    solve_field_timeout: Annotated[float, Field(ge=1)] = 60.0
    """Seconds after which solve-field is killed."""
    max_pixel_anisotropy: Positive = 0.02
    """|psx - psy| / (psx + psy) above this eliminates the frame as suspicious_plate_solved."""
    min_success_fraction: Fraction = 0.85
    """The stage fails if a smaller fraction of the frames has a solution."""


class Stars(Section):
    """The reference stars."""

    strategy: Literal["ROI_disk", "common_footprint_stars", "stars_per_frame"] = "ROI_disk"
    """Stars in a disk around the ROI; in the footprint common to all frames; or in any frame at all."""
    ROI_disk_radius_arcseconds: Positive = 300.0
    """Radius of the disk."""
    min_gmag: float | None = None
    """Stars brighter than this Gaia G magnitude are left out (saturation); null: no limit."""
    max_gmag: float | None = 20.0
    """Stars fainter than this are left out; null: no limit."""
    max_astrometric_excess_noise: Positive | None = None
    """Mas: larger ones are often galaxies or doubles; null: no limit."""
    max_astrometric_excess_noise_significance: Positive | None = None
    """The same by its significance; null: no limit."""
    min_phot_g_mean_flux_over_error: Positive | None = None
    """Variable stars have a small one; null: no limit."""
    min_number_stars: int = Field(default=4, ge=1)
    """Fewer stars than this are an error."""
    gaia_provider: Literal["gaia", "vizier", "file"] = "gaia"
    """The Gaia archive, its copy at VizieR, or a local file."""
    gaia_catalog_file: Path | None = None
    """For the provider file: ECSV, FITS, CSV or Parquet with Gaia's column names."""
    stars_to_use_psf: StarCount | StarList | None = None
    """Stars of the PSF: names; a number N, the N best (bright, isolated, point-like, of usual colour, near the ROI and
    around it; `lcops stars list` has their ranks); or null, up to 24. Unless named, a star that a frame shows saturated
    or too faint makes way for the next."""
    stars_to_exclude_psf: StarList = []
    """Never for the PSF."""
    stars_to_use_norm: StarCount | StarList | None = None
    """Stars of the normalization and zero points: names; a number N, the N best (as above, constant too, and distance
    counts less); or null, up to 24."""
    stars_to_exclude_norm: StarList = []
    """Never for the normalization."""
    stars_to_use_control: ControlCount | ControlList = 2
    """Control stars, at most 3: stars of the lens's brightness that take no part in PSF and normalization and are
    modelled like the lens, so that their scatter tells how good its errors are: a number, names, or 0 for none. By a
    number they are chosen, of a few that are held back, for being constant, single and in most frames."""

    @model_validator(mode="after")
    def _consistent(self) -> "Stars":
        if self.gaia_provider == "file" and self.gaia_catalog_file is None:
            raise ValueError("gaia_provider: file needs gaia_catalog_file: the path of the catalogue")
        if self.min_gmag is not None and self.max_gmag is not None and self.min_gmag >= self.max_gmag:
            raise ValueError(
                f"min_gmag ({self.min_gmag}) is the bright limit and must be smaller than max_gmag ({self.max_gmag})"
            )
        for purpose in ("psf", "norm"):
            controls, use = self.stars_to_use_control, getattr(self, f"stars_to_use_{purpose}")
            if isinstance(controls, list) and isinstance(use, list) and (both := set(controls) & set(use)):
                raise ValueError(
                    f"stars_to_use_control and stars_to_use_{purpose} both name {', '.join(sorted(both))}: a control "
                    "star takes no part in the PSF and the normalization, else its scatter flatters; take it out of "
                    "one of the lists"
                )
        return self


ServiceUrl = Annotated[str, Field(pattern=r"^https?://[^\s/]+\S*$")]
"""Address of a catalogue service."""


class Catalogs(Section):
    """The services of star catalogues, and the answers that are kept of them."""

    offline: bool = False
    """true: only kept answers are used (`lcops catalog fetch` and `lcops catalog import` fill them); false: what is not
    kept is asked of the service."""
    cache_dir: Path | None = None
    """Directory of the kept answers, which lenses may share; null: catalog_cache in the working directory."""
    gaia_url: ServiceUrl = "https://gea.esac.esa.int/tap-server/tap"
    """TAP service of the provider gaia: ESA's archive, or a mirror."""
    gaia_table: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")] = "gaiadr3.gaia_source"
    """Its table, hence the data release; with Gaia's column names."""
    vizier_protocol: Literal["tap", "cone"] = "tap"
    """How VizieR is asked: by TAP, or by simple cone search, which more mirrors have but which is slower."""
    vizier_url: ServiceUrl | None = None
    """A mirror of VizieR: of its TAP service, or the address of its cone searches up to the catalogue's name; null:
    CDS."""
    panstarrs: Literal["vizier", "mast"] = "vizier"
    """Pan-STARRS, for bands *_panstarrs: DR1 at VizieR, or DR2 at MAST."""
    mast_url: ServiceUrl = "https://mast.stsci.edu/vo-tap/api/v0.1/ps1dr2"
    """TAP service of Pan-STARRS DR2, or a mirror."""
    timeout_seconds: Positive = 60.0
    """A request that takes longer has failed."""
    job_timeout_seconds: Positive = 1800.0
    """A job at a service that takes longer has failed."""
    retries: int = Field(default=4, ge=0)
    """How often a request that failed for a reason that may pass is repeated before the task fails."""
    retry_delay_seconds: Annotated[float, Field(ge=0)] = 2.0
    """The pause before the first repetition; it doubles each time."""
    rows_per_answer: int = Field(default=50_000, ge=10)
    """A region with more stars is asked for in parts."""
    max_rows: int = Field(default=1_000_000, ge=1)
    """A region with more stars is refused: it is larger or deeper than any lens needs."""


class Cosmics(Section):
    """Parameters of L.A.Cosmic (van Dokkum 2001), as astroscrappy names them."""

    sigclip: Positive = 4.5
    """Laplacian-to-noise limit."""
    sigfrac: Positive = 0.3
    """Fraction of it for neighbouring pixels."""
    objlim: Positive = 5.0
    """Contrast between Laplacian and fine structure: larger if cores of stars are masked."""


class Cutouts(Section):
    """Stamps of the stars and of the ROI."""

    stamp_size_stars: EvenSize = 24
    """Pixels, even."""
    stamp_size_ROI: EvenSize = 32
    """Pixels, even."""
    mask_bad_rows_and_columns: bool = True
    """Find and mask full bad rows and columns."""
    clean_cosmics: bool = True
    """Mask cosmics."""
    mask_trails: bool = True
    """Find trails of satellites and the like in the whole frame, and mask them."""
    cosmics_masking_params: Cosmics = Cosmics()
    """How cosmics are told from stars."""
    saturation_level: Positive | None = None
    """ADU of the raw frame: pixels at or above are masked; null: unknown."""


class Psf(Section):
    """The PSF of each frame."""

    solver: Literal["lcops", "starred"] = "lcops"
    """Ours, or STARRED's own routine (slower; the reference)."""
    subsampling_factor: int = Field(default=2, ge=1, le=5)
    """Small pixels of the model per pixel of the frame."""
    field_distortion: bool | Literal["auto"] = "auto"
    """Let the PSF vary over the field, so that each star, and each image of the lens, has that of its own place: where
    the stars of a frame show it (auto), in every frame (true), or never (false)."""
    measure_wings: bool = True
    """Measure the wings of the PSF, and the sky, around its stars on the whole frame; false: from the stamps alone."""
    local_sky: bool = True
    """Fit a constant background in each stamp; false where stamps are so small or crowded that they show no sky."""
    n_iter_analytic: int = Field(default=100, ge=1)
    """At most this many iterations of the Moffat fit."""
    n_iter_pixels: int = Field(default=3000, ge=1)
    """At most this many iterations of the pixel grid."""
    min_signal_to_noise: Positive | None = 50.0
    """A frame whose PSF stars have less than this together (clouds) gets no PSF: it would be that of noise; null: no
    limit."""
    max_elongation: Annotated[float, Field(ge=1)] | None = None
    """A frame whose PSF is longer than wide by more than this factor takes no part; null: no limit. The model follows
    an elongated PSF, so that such a frame is as good as its noise."""
    max_trail: Positive | None = 0.4
    """A frame whose PSF is longer than wide (root of the difference of the squared FWHM) by more than this part of a
    star's stamp takes no part: the stamp does not hold it; null: no limit. A trail of length l counts as 0.7 l."""
    max_doubleness: Annotated[float, Field(ge=0)] | None = 0.15
    """A frame whose PSF has a second peak that rises by more than this above the saddle, in units of the first (two
    exposures in one), takes no part; null: no limit."""
    max_misfit: Positive | None = 0.05
    """A frame takes no part where the PSF leaves unexplained, beyond the noise, more than this part of the light of
    most of its bright stars, and three times what it leaves in the other frames; null: no limit."""


class Exclusion(Section):
    """Which chi2 are good enough: give one of the two."""

    sigma_clip: Positive | None = None
    """Within this many sigma of the median of the clipped distribution."""
    interval: Interval | None = None
    """Between these two values."""

    @model_validator(mode="after")
    def _one_rule(self) -> "Exclusion":
        if (self.sigma_clip is None) == (self.interval is None):
            raise ValueError(
                "give either 'sigma_clip' or 'interval' (or null instead of the group: exclude nothing)"
            )
        return self


class StarPhotometry(Section):
    """Fluxes of the reference stars."""

    method: Literal["psf", "aperture"] = "psf"
    """By the PSF, or in an aperture of a multiple of each frame's FWHM, corrected for what it loses of the PSF."""
    aperture_fwhm: Positive | None = None
    """Radius of the aperture in FWHM; null: that with which the reference stars scatter least over all frames."""
    psf_fit_exclude_strategy: Exclusion | None = None
    """Frames whose PSF fitted with another chi2 than those of the others take no part; null: all take part. chi2 grows
    with the light of the stars, so that this costs frames of good seeing: psf.max_misfit does not."""
    uniform_background_per_epoch: bool = True
    """Fit a constant background in each stamp: what the sky subtraction of the frame left."""
    starlet_global_background: bool = False
    """Fit what lies around the star, common to all epochs."""


class Normalization(Section):
    """The relative throughput of the frames."""

    fluxes_fit_exclude_strategy: Exclusion | None = Exclusion(sigma_clip=5.0)
    """Star fluxes that fitted badly take no part; null: all take part."""


Band = Literal[
    "G", "g_sdss", "r_sdss", "i_sdss", "V", "R", "Ic", "B_T", "V_T",
    "g_panstarrs", "r_panstarrs", "i_panstarrs", "z_panstarrs", "y_panstarrs", "c_panstarrs", "o_panstarrs",
]  # fmt: skip


class ZeroPoints(Section):
    """The absolute calibration, from catalogue magnitudes of the reference stars."""

    photometric_band: Band | dict[str, Band] = "G"
    """The band nearest to the filter; with several filters {filter: band}."""


class Regularisation(Section):
    """Strengths of the penalties of the ROI model, in units of the noise."""

    scales: Annotated[float, Field(ge=0)] = 3.0
    """Starlet scales of the background but the finest; at 3 the noise alone makes next to no structure."""
    high_frequency: Annotated[float, Field(ge=0)] = 3.0
    """The finest starlet scale."""
    positivity: Annotated[float, Field(ge=0)] = 1.0
    """0 lets the background be negative."""


class RoiModel(Section):
    """The joint model of the lens's pixels."""

    do_ROI_model: bool = True
    """false: stop at the calibrated cutouts."""
    method: Literal["joint", "aperture"] = "joint"
    """The joint model; or the flux of a single isolated star in the aperture of the reference stars, which needs
    star_photometry.method: aperture."""
    solver: Literal["lcops", "starred"] = "lcops"
    """Ours, or STARRED's own routines (slower; the reference)."""
    constraints_on_frame_columns: dict[ColumnName, Interval] = {}
    """Columns of the frames table and the range that a frame needs: {seeing_arcseconds: [0, 3]}."""
    constraints_on_normalization_coefficient: Interval | None = (0.1, 10.0)
    """Range of the coefficient; null: any."""
    max_scale_difference: Positive = 0.005
    """Frames whose plate scale differs by more from that of the first ones take no part, as mirrored ones: the model
    turns and moves the scene, it does not stretch it. Of two cameras, `constraints_on_frame_columns: {pixel_scale:
    [0.34, 0.36]}` chooses one."""
    fix_point_source_astrometry: bool | Positive = False
    """true: the positions of the configuration; false: fitted; a number: fitted, with this prior sigma in pixels."""
    starting_background: Path | None = None
    """The expected background, relative to the working directory: FITS or npy image on the subsampled grid; or a FITS
    image of the lens with a WCS, sharper, without its sky and the images, whose brightness is fitted."""
    further_optimize_background: bool = True
    """false: keep the starting background, or none."""
    smooth_galaxy: bool = True
    """Let one smooth profile (Sersic), fitted, not penalised, be part of the background where the data show a galaxy,
    and arcs of the lensed host along the ring of the images; false: the penalised pixels alone, as in STARRED, which
    dim the galaxy and brighten the images seen against it."""
    uniform_background_per_epoch: bool = True
    """Fit a constant background in each epoch: what the sky subtraction of the frame left."""
    regularisation: Regularisation = Regularisation()
    """Penalties on the background."""
    n_iter_translations: int = Field(default=300, ge=1)
    """solver starred: iterations of translations and fluxes."""
    n_iter_all: int = Field(default=2000, ge=1)
    """At most this many iterations of the whole model."""
    calibrate_errors: bool = False
    """Multiply the errors of the light curve by what the control stars scatter more, or less, than their own quoted
    errors (stars.stars_to_use_control); the errors of the model are kept beside them."""


class Publication(Section):
    """What a light curve must pass to be published; else it is withheld, with an alert. null: no such limit."""

    max_last_move: Positive | None = 0.3
    """Of a model that did not converge: by how much of its error its last iteration may have moved a flux."""
    max_fraction_aside: Annotated[float, Field(gt=0, le=1)] | None = 0.5
    """Epochs, of all, that may be set aside because they do not fit what the others have in common."""
    max_chi2: Positive | None = 5.0
    """Median reduced chi2 of the epochs."""
    min_fraction_measured: Annotated[float, Field(gt=0, le=1)] | None = 0.5
    """Epochs, of all, in which each image must have a flux."""
    max_error_factor: Positive | None = 5.0
    """Scatter of the control stars over their quoted errors."""


class Compute(Section):
    """How the machine is used; never changes a result."""

    processes: int | None = Field(default=None, ge=1)
    """Parallel processes of frame-wise stages; null: one per core."""
    psf_batch: int = Field(default=16, ge=1)
    """Frames whose stamps are in memory at a time when PSFs are fitted."""
    diagnostics: bool = True
    """Write the figures."""


class Operations(Section):
    """How an observatory runs this lens every night; never changes a result."""

    owner: str = "lightcurver-ops"
    """Who answers for this lens, shown in the web pages."""
    tags: list[str] = []
    """More tags by which its DAGs are found."""
    frames_per_task: int = Field(default=20, ge=1)
    """Frames in one task of the stages that work frame by frame."""
    wait_for_frames_hours: Annotated[float, Field(ge=0, le=20)] = 0.0
    """How long the run of a night waits for its first frame to arrive; 0: it takes what is there. The season waits with
    it."""
    alert_after_nights_without_frames: int | None = Field(default=3, ge=1)
    """Nights without a frame before an alert is raised, once; null: never."""
    season_overdue_hours: Positive | None = 12.0
    """An alert is raised when the run that makes the light curve is not finished after so long; null: never."""

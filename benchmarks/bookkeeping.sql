-- Rows of the tables of the bookkeeping, in the order of their foreign keys; names with $ are those of bookkeeping.py.
insert into lenses (
    name, roi_ra, roi_dec, workdir
)
select name, 0.3 * l, -30.0, '/data/reduced/' || name
from sim_lenses
order by l;

insert into raw_files (
    lens, path, size, modified, mjd, night, read_as, noticed_at
)
select l.name, $raw, 33560640, '1772503' || (100000 + f.n) || '.25', f.mjd, f.night, :hash, $now
$each_frame
$by_night;

insert into frames (
    id, lens, original_image_path, image_relpath, sources_relpath, pixel_hash, raw_sha256, mjd, exptime,
    gain, filter, telescope_name, telescope_latitude, telescope_longitude, telescope_elevation,
    telescope_imager_name, width, height, n_sources, plate_solved, attempted_plate_solve, pixel_scale,
    plate_solve_method, plate_solve_n_matched, plate_solve_rms_arcsec, plate_solve_rms_pixels,
    plate_solve_n_catalogue, plate_solve_hint, eliminated, eliminated_by, comment, warnings, airmass,
    degrees_to_moon, moon_phase, sun_altitude, azimuth, altitude, seeing_pixels, seeing_arcseconds,
    sky_level_electron_per_second, background_rms_electron_per_second, ellipticity, roi_in_footprint,
    angle_to_north, inputs_hash, code_version, made_at
)
select $frame_id, l.name, $raw, $image, replace($image, '.fits', '_sources.fits'), substr('0000000' ||
    $frame_id || 'd1b54a32d192ed03c8f3e7a94b6d5f2e0a1c7b8e9f4d3a2b1c0d9e8f7a6b5c4d', 1, 64),
    '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08', f.mjd, 300.0, 1.7, 'r', 'T1',
    -29.26, -70.73, 2400.0, 'camera', 4096, 4096, 800 + l.l % 400, $solved, true, case when $solved then
    0.2134 end, case when $solved then 'alternate_gaia_solve' end, case when $solved then 44 end, case
    when $solved then 0.081 + 0.01 * f.u end, case when $solved then 0.38 + 0.05 * f.u end, case when
    $solved then 60 end, case when $solved then 'header' end, not ($solved), case when not ($solved)
    then 'plate_solving' end, case when not ($solved) then 'alternate_gaia_solve: 4 of 800 sources match the catalogue, 8 are needed' end, case when f.n % 50 = 1 then 'the sky is bright: 40 electron / s / px' end, f.airmass, 80.0 + 20 * f.u, f.u, -25.0 - 10 * f.u, 120.0 * f.u, 60.0 - 20 * f.u, f.seeing /
    0.2134, f.seeing, f.sky, 0.3 * f.sky, 0.1 * f.u, case when $solved then true end, case when $solved
    then 0.17 end, $made
$each_frame
$by_night;

insert into plate_solve_attempts (
    frame_id, number, strategy, hint, outcome, reason, seconds, n_matched, rms_arcsec, rms_pixels,
    log10_chance, attempted_at
)
select $frame_id, 1, 'alternate_gaia_solve', 'header', case when $solved then 'solved' else 'failed'
    end, case when not ($solved) then '4 of 800 sources match the catalogue, 8 are needed' end, 0.1 +
    0.2 * f.u, 44, 0.081 + 0.01 * f.u, 0.38 + 0.05 * f.u, -60.0 * f.u, $now
$each_frame
$by_night;

insert into footprints (
    frame_id, polygon, center_ra, center_dec, inputs_hash, code_version, made_at
)
select $frame_id, :polygon, 0.3 * l.l + 0.01 * f.u, -30.0 + 0.01 * f.u, $made
$each_frame
where $solved
$by_night;

insert into combined_footprint (
    lens, hash, largest, common, n_frames, inputs_hash, code_version, made_at
)
select name, :hash, :polygon, :polygon, :n_frames, $made
from sim_lenses;

insert into star_selections (
    lens, combined_footprint_hash, description, is_current, inputs_hash, code_version, made_at
)
select name, :selection, :description, true, $made
from sim_lenses;

insert into stars (
    lens, combined_footprint_hash, gaia_id, name, ra, dec, gmag, rmag, bmag, pmra, pmdec, ref_epoch,
    astrometric_excess_noise, astrometric_excess_noise_sig, phot_g_mean_flux_over_error,
    distance_to_roi_arcsec, contamination
)
select l.name, :selection, s.gaia_id, s.name, 0.3 * l.l + 0.01 * s.u, -30 + 0.02 * s.u, s.gmag, s.gmag -
    0.6, s.gmag + 0.4, 3 * s.u, -2 * s.u, 2016.0, 0.1 * s.u, s.u, 2000 * s.u, s.distance, 0.01 * s.u
from sim_lenses l
cross join sim_stars s;

insert into stars_in_frames (
    frame_id, combined_footprint_hash, star_gaia_id, x, y
)
select $frame_id, :selection, s.gaia_id, 2048 + 1500 * (s.u - 0.5) + f.u, 2048 + 1500 * (f.u - 0.5) +
    s.u
$each_frame
cross join sim_stars s
where $solved
$by_night, s.s;

insert into "PSFs" (
    frame_id, combined_footprint_hash, psf_ref, chi2, subsampling_factor, relative_loss_differential,
    fwhm_moffat_arcseconds, enclosed_fraction, elongation, doubleness, field_order, field_evidence,
    n_stars, n_iter, converged, status, psf_relpath, inputs_hash, code_version, made_at
)
select $frame_id, :selection, 'psf_a_b_c_d_e_f_g_h_i_j_k_l', 1.0 + 0.3 * f.u, 2, 0.0001 * f.u, f.seeing,
    0.97, 1.0 + 0.2 * f.u, 0.02 * f.u, 2, 12.3 * f.u, 12, 140, true, 'converged', replace(replace($image, 'frames/',
    'psfs/'), '.fits', '.h5'), $made
$each_frame
where $solved
$by_night;

insert into star_flux_in_frame (
    frame_id, combined_footprint_hash, star_gaia_id, flux, flux_uncertainty, chi2, x, y, n_pixels,
    converged, inputs_hash, code_version, made_at
)
select $frame_id, :selection, s.gaia_id, s.flux * f.coefficient * (1 + 0.01 * (s.u * f.u - 0.25)), 0.003
    * s.flux, 1 + 0.3 * f.u * s.u, 2048 + 1500 * (s.u - 0.5) + f.u, 2048 + 1500 * (f.u - 0.5) + s.u,
    576, true, $made
$each_frame
cross join sim_stars s
where $solved
$by_night, s.s;

insert into normalization_coefficients (
    frame_id, combined_footprint_hash, coefficient, coefficient_uncertainty, standard_error, n_stars,
    inputs_hash, code_version, made_at
)
select $frame_id, :selection, f.coefficient, 0.01, 0.002, 24, $made
$each_frame
where $solved
$by_night;

insert into star_normalization (
    lens, combined_footprint_hash, filter, star_gaia_id, scale, scatter, weight, excess, chi2, variable,
    inputs_hash, code_version, made_at
)
select l.name, :selection, 'r', s.gaia_id, s.flux, 0.004 + 0.01 * s.u, 1 - 0.3 * s.u, 0.004 * s.u, 1 +
    s.u, s.s = 7, $made
from sim_lenses l
cross join sim_stars s
where s.s < 24;

insert into control_stars (
    lens, combined_footprint_hash, filter, star_gaia_id, chosen, fault, inputs_hash, code_version, made_at
)
select l.name, :selection, 'r', s.gaia_id, s.s < 2, case when s.s = 2 then
    'varies: scatters by 3.58 times its errors' end, $made
from sim_lenses l
cross join sim_stars s
where s.s < 6;

insert into catalog_star_photometry (
    lens, combined_footprint_hash, catalog, band, star_gaia_id, mag, mag_err, inputs_hash, code_version,
    made_at
)
select l.name, :selection, 'gaia', 'r', s.gaia_id, s.gmag, 0.01, $made
from sim_lenses l
cross join sim_stars s;

insert into absolute_zeropoints (
    frame_id, combined_footprint_hash, source_catalog, zeropoint, zeropoint_uncertainty, n_stars,
    inputs_hash, code_version, made_at
)
select $frame_id, :selection, 'gaia', 25.0 + 0.02 * f.u, 0.02, 24, $made
$each_frame
where $solved
$by_night;

insert into publications (
    id, lens, filter, version, configuration, loss, converged, control_stars, common_errors, epoch_notes, files,
    rows_sha256,
    inputs_hash, code_version, made_at
)
select $publication, l.name, 'r', v.n + 1, :configuration, 123456.7, true, :control_stars,
    :common_errors, :epoch_notes, :files,
    '2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae', $made
from sim_frames v
cross join sim_lenses l
where v.n < :versions
order by v.n, l.l;

insert into light_curve_points (
    publication_id, frame_id, source, mjd, flux, flux_uncertainty, flux_uncertainty_model, flux_covariances,
    coefficient, coefficient_uncertainty, zeropoint, reduced_chi2
)
select $publication, $frame_id, i.source, f.mjd, i.flux * (1 + 0.1 * f.u), 0.01 * i.flux, 0.009 *
    i.flux, :covariances, f.coefficient, 0.002, 25.0, 1 + 0.2 * f.u
from sim_frames v
cross join sim_lenses l
cross join sim_frames f
cross join sim_images i
where v.n < :versions and v.n >= :versions - :with_points and $solved
order by v.n, l.l, f.n, i.source;

insert into stage_runs (
    lens, stage, status, started_at, finished_at, n_selected, n_done, n_failed, message, error_class,
    code_version, host, pid, process, cpu_seconds, peak_mib
)
select l.name, t.stage, case when t.stage = :failing and t.kind = 'season' and l.l % 10 = 0 then
    'failed' else 'done' end, $now, $now, :per_night, :per_night, 0, '5 of 5 done', case when t.stage =
    :failing and t.kind = 'season' and l.l % 10 = 0 then 'TemporaryFailure' end, :version, 'worker-1',
    4711, '0123abcd.4711.1', 60.0, 500.0
from sim_frames f
cross join sim_lenses l
cross join sim_stages t
where f.k = 0 and t.kind in ('night', 'season')
order by f.night_number, l.l, t.step;

insert into products (
    lens, stage, unit, status, reason, error_class, attempts, run_id, inputs_hash, code_version, made_at
)
select l.name, :import, $raw, 'done', null, null, 1, null, $made
$each_frame
$by_night;

insert into products (
    lens, stage, unit, status, reason, error_class, attempts, run_id, inputs_hash, code_version, made_at
)
select l.name, t.stage, $image, 'done', null, null, 1, null, $made
$each_frame
cross join sim_stages t
where t.kind = 'frame' and ($solved or t.stage = :solve)
order by f.night_number, t.step, l.l, f.k;

insert into products (
    lens, stage, unit, status, reason, error_class, attempts, run_id, inputs_hash, code_version, made_at
)
select l.name, t.stage, case when t.step < 15 then '*' else 'r' end, 'done', null, null, 1, null, $made
from sim_lenses l
cross join sim_stages t
where t.kind = 'once' or (t.kind = 'season' and (t.step < 12 or t.step >= 15));

insert into alerts (
    lens, key, kind, subject, body, raised_at, delivery
)
select l.name, 'failed:' || f.night, 'stage_failed', 'Stage psf_modeling failed', :alert, $now,
    '{"email": "delivered"}'
$each_frame
where f.k = 0 and f.night_number % 20 = 0;

insert into decisions (
    lens, kind, subject, name, comment, decided_by, decided_at
)
select l.name, 'eliminate_frame', $image, $image, 'a satellite trail', 'Vera', $now
$each_frame
where f.k = 0 and f.night_number % 20 = 1;

insert into star_exclusions (
    lens, star_gaia_id, name, comment, decided_by, decided_at
)
select l.name, s.gaia_id, s.name, 'a galaxy', 'Vera', $now
from sim_lenses l
cross join sim_stars s
where s.s = 5;

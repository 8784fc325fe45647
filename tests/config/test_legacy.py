"""A flat configuration of the original system loads, with a notice of each key that moved."""

import pytest

from lightcurver_ops.config.loading import load_lens_with_notices
from lightcurver_ops.errors import ConfigurationError

FLAT = """\
workdir: /data/lens
raw_dirs:
  - /data/lens/raw
multiprocessing_cpu_count: 2
hdu_header_index: 1
ROI:
  J0030-1525:
    coordinates: [7.563750, -15.417083]
ROI_size: 3.5
telescope: {name: VST, latitude: -24.6, longitude: -70.4, elevation: 2635.0, imager_name: OmegaCAM}
mask_sources_before_background: false
background_estimation_n_boxes: 12
source_extraction_threshold: 2.0
source_extraction_do_plots: 1
already_plate_solved: 1
plate_solving_min_success_fraction: 0.8
star_selection_strategy: 'ROI_disk'
ROI_disk_radius_arcseconds: 300
star_min_gmag: 16.0
star_max_gmag: 20.0
gaia_query_redo: false
stars_to_use_psf: abd
stars_to_use_norm: 8
stamp_size_stars: 24
cosmics_masking_params: {sigclip: 4.0, sigfrac: 0.3, objlim: 6.0}
redo_psf: false
psf_n_iter_pixels: 2500
psf_fit_exclude_strategy: {threshold: [0, 1.5]}
fluxes_fit_exclude_strategy: {sigma_clip: 3.0}
constraints_on_frame_columns_for_roi: {seeing_arcseconds: [0.0, 3.0]}
constraints_on_normalization_coeff: {coefficient: [0.2, 5]}
photometric_band: r_sdss
point_sources:
  A: [7.5637, -15.4170]
  B_west: [7.5636, -15.4171]
fix_point_source_astrometry: 1
further_optimize_background: true
roi_deconv_all_iters: 1500
"""


def test_a_flat_configuration_is_mapped_with_notices(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(FLAT)
    loaded = load_lens_with_notices(path)
    lens = loaded.lens
    assert lens.name == lens.roi_name == "J0030-1525"
    assert (lens.roi.ra, lens.roi.dec, lens.roi.ROI_size) == (7.563750, -15.417083, 3.5)
    assert lens.raw.hdus_header == [1]
    assert str(lens.raw.header_parser) == "/data/lens/header_parser/parse_header.py"
    assert lens.telescope is not None
    assert lens.telescope.imager == "OmegaCAM"
    assert lens.background.n_boxes == 12
    assert lens.detection.threshold == 2.0
    assert lens.detection.do_plots is True
    assert lens.plate_solving.already_plate_solved is True
    assert lens.plate_solving.min_success_fraction == 0.8
    assert (lens.stars.min_gmag, lens.stars.max_gmag) == (16.0, 20.0)
    assert lens.stars.stars_to_use_psf == ["a", "b", "d"]
    assert lens.stars.stars_to_use_norm == 8
    assert lens.cutouts.cosmics_masking_params.objlim == 6.0
    assert lens.psf.n_iter_pixels == 2500
    assert lens.star_photometry.psf_fit_exclude_strategy.interval == (0, 1.5)
    assert lens.normalization.fluxes_fit_exclude_strategy.sigma_clip == 3.0
    assert lens.roi_model.constraints_on_frame_columns == {"seeing_arcseconds": (0.0, 3.0)}
    assert lens.roi_model.constraints_on_normalization_coefficient == (0.2, 5.0)
    assert lens.roi_model.fix_point_source_astrometry == 1.0
    assert lens.roi_model.n_iter_all == 1500
    assert lens.compute.processes == 2
    assert list(lens.roi.point_sources) == ["A", "B_west"]
    text = "\n".join(loaded.notices)
    assert "source_extraction_threshold is now detection.threshold" in text
    assert "redo_psf is not used" in text
    assert "telescope.imager_name is now telescope.imager" in text


def test_a_typo_in_a_flat_configuration_is_still_an_error(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(FLAT.replace("stamp_size_stars", "stamp_size_star"))
    with pytest.raises(
        ConfigurationError, match=r"unknown key 'stamp_size_star'; did you mean 'cutouts.stamp_size_stars'\?"
    ):
        load_lens_with_notices(path)

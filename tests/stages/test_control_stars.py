"""Stars modelled like the lens: which they are, what is made of them, and what follows for the errors."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import photometry, stars
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import (
    normalization_coefficients,
    stage_runs,
    star_flux_in_frame,
    star_normalization,
)
from lightcurver_ops.config import load_lens
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.control_light_curves import control_line, control_record, measure_controls
from lightcurver_ops.stages.control_stars import (
    candidates_of_lens,
    choose,
    choose_candidates,
    controls_of_lens,
    object_name,
)
from lightcurver_ops.stages.light_curve_products import published_columns
from lightcurver_ops.stages.model_calibrated_cutouts import ModelCalibratedCutouts
from lightcurver_ops.stages.pipeline import pipeline_state, run_pipeline, stage_number
from lightcurver_ops.stages.prepare_calibrated_cutouts import PrepareCalibratedCutouts, control_path
from lightcurver_ops.stages.psf_modeling import read_psf_of
from lightcurver_ops.stages.roi_fit import fit_prepared
from lightcurver_ops.stages.stamp_extraction import StampExtraction
from lightcurver_ops.storage import regions
from lightcurver_ops.storage.prepared import read_prepared, write_prepared
from lightcurver_ops.storage.tables import read_table
from tests.seasons import copied

PREPARED = "prepared_roi_cutouts/small_r"
QUICK = {"further_optimize_background": False}
MODEL = stage_number("model_calibrated_cutouts")


@pytest.fixture
def controlled_copy(controlled_season, tmp_path):
    """The small season with two control stars, up to date."""
    season = copied(controlled_season, tmp_path / "controlled")
    lens = season.lens()
    run_pipeline(lens, last=1)
    lens.close()
    return season


def controls_now(lens):
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        return controls_of_lens(connection, lens.config, selection)


def newest(lens):
    """The newest publication and its tables."""
    with reading(lens.engine) as connection:
        publication = photometry.publication_of(connection, lens.name, "r")
        return publication, *published_columns(connection, publication.id)


def measured(lens):
    def fit(config, prepared, scene, _name):
        return fit_prepared(config, prepared, scene)

    return measure_controls(lens.config, "r", controls_now(lens), fit)


def shrink_noise(lens, factor):
    for star in controls_now(lens).stars:
        path = control_path(lens.config, "r", star.name)
        prepared = read_prepared(path)
        write_prepared(path, replace(prepared, noisemap=prepared.noisemap / factor))


def test_control_stars_are_as_bright_as_the_lens_and_take_no_part_in_its_calibration(controlled_season):
    lens = controlled_season.lens()
    chosen = controls_now(lens).stars
    assert len(chosen) == 2
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        lens_gmag = stars.description_of(connection, lens.name, selection)["lens_gmag"]
        psfs = photometry.psfs_of(connection, lens.name, selection)
        normalized = {row.star_gaia_id for row in connection.execute(sa.select(star_normalization))}
    lens.close()
    assert lens_gmag == pytest.approx(18.9)  # the images have 18.4 and 18.9, the galaxy 20
    assert all(abs(star.gmag - lens_gmag) < 1 for star in chosen)
    for psf in psfs.values():
        assert not {star.name for star in chosen} & set(psf.psf_ref.removeprefix("psf_").split("_"))
    assert len(normalized) >= 8
    assert not {star.gaia_id for star in chosen} & normalized


def test_every_product_of_the_control_stars_is_there(controlled_season):
    lens = controlled_season.lens()
    chosen = controls_now(lens).stars
    names = [star.name for star in chosen]
    of_lens = read_prepared(controlled_season.work / f"{PREPARED}.h5")
    for path in sorted((controlled_season.work / "regions").glob("*.h5")):
        assert {object_name(star.gaia_id) for star in chosen} <= set(regions.objects_in(path))
        cut = regions.read_regions(path, ["ROI", *(object_name(star.gaia_id) for star in chosen)])
        assert cut.data.shape == (3, 16, 16)
    for star in chosen:
        prepared = read_prepared(controlled_season.work / f"{PREPARED}_control_{star.name}.h5")
        for column in ("frame_id", "coefficient", "psf", "full_psf", "relative_normalization_error"):
            np.testing.assert_array_equal(getattr(prepared, column), getattr(of_lens, column))
        assert prepared.global_zeropoint == of_lens.global_zeropoint
        peaks = [np.unravel_index(np.argmax(image), image.shape) for image in prepared.data]
        expected = prepared.roi_offset[:, ::-1] + (16 - 1) / 2
        assert np.abs(np.array(peaks) - expected).max() < 1.5
    table = read_table(controlled_season.work / f"{PREPARED}_control_stars.csv")
    assert list(table) == [
        "frame_id", "mjd", "seeing", *(f"{n}_{c}" for n in names for c in ("flux", "d_flux", "mag", "d_mag"))
    ]  # fmt: skip
    np.testing.assert_array_equal(table["mjd"], of_lens.mjd)
    for star in chosen:
        # Of the field's simulated stars the band r is close to G.
        assert np.abs(table[f"{star.name}_mag"] - star.gmag).max() < 0.2
    publication, _, epochs, _ = newest(lens)
    lens.close()
    record = json.loads(publication.control_stars)
    assert record == json.loads((controlled_season.work / f"{PREPARED}_control_stars.json").read_text())
    assert [star["name"] for star in record["stars"]] == names
    assert record["errors_calibrated"] is False
    assert "A_d_flux_model" not in epochs


def test_right_errors_give_a_ratio_of_about_one_and_too_small_ones_are_detected(controlled_copy):
    lens = controlled_copy.lens()
    honest = measured(lens)
    record = json.loads(newest(lens)[0].control_stars)
    assert record["error_factor"] == pytest.approx(honest.scale)
    assert abs(np.log(honest.scale)) < 3 * record["error_factor_uncertainty"] / honest.scale
    assert {star["epochs"] for star in record["stars"]} == {6}
    shrink_noise(lens, 4.0)
    # The error of the coefficients, which noise maps do not know, stays.
    assert 2.5 * honest.scale < measured(lens).scale < 4.5 * honest.scale
    lens.close()


def test_the_run_says_what_the_control_stars_show(controlled_season):
    lens = controlled_season.lens()
    said = sa.select(stage_runs.c.message).where(stage_runs.c.stage == ModelCalibratedCutouts.name)
    with reading(lens.engine) as connection:
        last = connection.execute(said.order_by(stage_runs.c.id.desc())).scalar()
    record = json.loads(newest(lens)[0].control_stars)
    lens.close()
    names = ", ".join(star["name"] for star in record["stars"])
    ratio = f"{record['error_factor']:.2f} +- {record['error_factor_uncertainty']:.2f}"
    assert f"r: control stars {names}: scatter / quoted error {ratio}" in last


def test_calibrated_errors_are_scaled_and_those_of_the_model_kept(controlled_copy):
    lens = controlled_copy.lens()
    plain, _, before, nights_before = newest(lens)
    shrink_noise(lens, 4.0)
    lens.close()
    controlled_copy.configure(roi_model={"calibrate_errors": True})
    lens = controlled_copy.lens()
    assert {state.stage for state in pipeline_state(lens) if state.outdated()} == {
        ModelCalibratedCutouts.name
    }
    run_pipeline(lens)
    publication, labels, epochs, nights = newest(lens)
    lens.close()
    assert publication.version == plain.version + 1
    record = json.loads(publication.control_stars)
    factor = record["error_factor"]
    assert record["errors_calibrated"] is True
    assert factor > 2
    written = read_table(controlled_copy.work / f"{PREPARED}_photometry_per_epoch.csv")
    by_night = read_table(controlled_copy.work / f"{PREPARED}_photometry_per_night.csv")
    for label in labels:
        np.testing.assert_allclose(epochs[f"{label}_flux"], before[f"{label}_flux"], rtol=1e-9)
        np.testing.assert_allclose(epochs[f"{label}_d_flux_model"], before[f"{label}_d_flux"], rtol=1e-9)
        np.testing.assert_allclose(epochs[f"{label}_d_flux"], factor * before[f"{label}_d_flux"], rtol=1e-9)
        np.testing.assert_allclose(epochs[f"{label}_d_mag"], factor * before[f"{label}_d_mag"], rtol=1e-9)
        np.testing.assert_allclose(
            nights[f"{label}_d_flux"], factor * nights_before[f"{label}_d_flux"], rtol=1e-9
        )
        for column in ("d_flux", "d_flux_model", "d_mag"):
            np.testing.assert_allclose(written[f"{label}_{column}"], epochs[f"{label}_{column}"], rtol=1e-9)
        np.testing.assert_allclose(by_night[f"{label}_d_flux"], nights[f"{label}_d_flux"], rtol=1e-9)
    assert control_line(record).endswith(", errors multiplied by it")


def test_without_control_stars_errors_stay_as_they_are_and_the_run_says_so(season_copy):
    season = season_copy()
    season.configure(roi_model={**QUICK, "calibrate_errors": True})
    lens = season.lens()
    notes = run_pipeline(lens)[MODEL].report.notes
    assert any("WARNING: roi_model.calibrate_errors: errors are left as they are" in note for note in notes)
    publication, _, epochs, _ = newest(lens)
    with reading(lens.engine) as connection:
        points = photometry.points_of(connection, publication.id)
    lens.close()
    assert publication.control_stars is None
    assert {point.flux_uncertainty_model for point in points} == {None}
    assert not [name for name in epochs if name.endswith("_model")]
    assert not list((season.work / "prepared_roi_cutouts").glob("*control*"))


def test_only_frames_with_the_star_are_cut_again(controlled_copy):
    """A star near the edge of the field, which pointing brings in and out."""
    lens = controlled_copy.lens()
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        present = stars.ids_in_frames(connection, lens.name, selection)
        count = {
            star.gaia_id: sum(star.gaia_id in ids for ids in present.values())
            for star in stars.stars_of(connection, lens.name, selection)
        }
        chosen = controls_of_lens(connection, lens.config, selection).stars
        edge = next(
            star for star in stars.stars_of(connection, lens.name, selection) if 0 < count[star.gaia_id] < 6
        )
    assert {count[star.gaia_id] for star in chosen} == {6}
    lens.close()
    names = [star.name for star in chosen]
    controlled_copy.configure(stars={"stars_to_use_control": names})
    lens = controlled_copy.lens()
    run_pipeline(lens, last=stage_number(StampExtraction.name))
    lens.close()
    controlled_copy.configure(stars={"stars_to_use_control": [*names, edge.name]})
    lens = controlled_copy.lens()
    stale = {state.stage: len(state.outdated()) for state in pipeline_state(lens)}
    lens.close()
    assert stale[StampExtraction.name] == count[edge.gaia_id]
    assert stale["query_gaia_for_stars"] == stale["plate_solving"] == 0


def test_with_no_control_star_everything_is_as_it_was_before(reduced_season, controlled_copy):
    controlled_copy.configure(stars={"stars_to_use_control": 0})
    before, after = reduced_season.lens(), controlled_copy.lens()
    for stage in (StampExtraction, PrepareCalibratedCutouts):
        run_pipeline(after, last=stage_number(stage.name))
        with reading(before.engine) as one, reading(after.engine) as other:
            assert stage(before).plan(one) == stage(after).plan(other)
    run_pipeline(after)
    query = sa.select(normalization_coefficients.c.coefficient).order_by(
        normalization_coefficients.c.frame_id
    )
    with reading(before.engine) as one, reading(after.engine) as other:
        expected, found = (connection.execute(query).scalars().all() for connection in (one, other))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    before.close()
    after.close()
    assert not list((controlled_copy.work / "prepared_roi_cutouts").glob("*control*"))
    for path in (controlled_copy.work / "regions").glob("*.h5"):
        assert not [name for name in regions.objects_in(path) if name.startswith("control")]


def test_a_psf_that_varies_is_taken_where_the_control_star_is(controlled_copy):
    from lightcurver_ops.numerics.psf.distortion import full_psf_slopes, full_psfs_at

    lens = controlled_copy.lens()
    star = controls_now(lens).stars[0]
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        psfs = photometry.psfs_of(connection, lens.name, selection)
    for psf in psfs.values():
        stored = read_psf_of(lens.workdir, psf)
        coefficients = np.full_like(stored.distortion, 0.04)
        regions.write_psf(
            lens.workdir / psf.psf_relpath, psf.psf_ref, replace(stored, distortion=coefficients)
        )
    of_lens = read_prepared(controlled_copy.work / f"{PREPARED}.h5")
    run_pipeline(lens, first=10, last=10, redo=10)
    np.testing.assert_array_equal(
        read_prepared(controlled_copy.work / f"{PREPARED}.h5").full_psf, of_lens.full_psf
    )
    # The images of the lens lie side by side, a control star does not.
    half = np.full(len(of_lens.psf), 200 / 2)
    # Beyond the PSF that was fitted lie its wings, which do not vary.
    margin = (of_lens.psf.shape[-1] - stored.narrow.shape[-1]) // 2
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    narrow = of_lens.psf[inner]
    slope = full_psf_slopes(narrow, np.tile(coefficients, (len(half), 1)), half)
    now = read_prepared(controlled_copy.work / f"{PREPARED}.h5")
    np.testing.assert_allclose(now.psf_slope[inner], slope, atol=1e-6 * np.abs(slope).max())
    assert np.abs(now.psf_slope).sum() == pytest.approx(np.abs(slope).sum())
    assert of_lens.psf_slope is None
    prepared = read_prepared(control_path(lens.config, "r", star.name))
    assert prepared.psf_slope is None
    lens.close()
    stem = sorted((controlled_copy.work / "regions").glob("*.h5"))[0]
    cut = regions.read_regions(stem, ["ROI", object_name(star.gaia_id)])
    place = (cut.position[1] - cut.position[0]) / (200 / 2)
    expected = full_psfs_at(narrow[:1], coefficients[None], place[None, None])[0, 0]
    # The place is that of the stamp, half a pixel from the star at most.
    np.testing.assert_allclose(prepared.full_psf[0][inner], expected, atol=1e-3 * expected.max())
    assert np.abs(prepared.full_psf[0] - of_lens.full_psf[0]).max() > 0.01 * expected.max()
    assert prepared.psf[0].max() == pytest.approx(of_lens.psf[0].max(), rel=0.3)
    assert np.abs(prepared.psf[0] - of_lens.psf[0]).max() > 0.01 * of_lens.psf[0].max()


def test_too_few_epochs_say_nothing(controlled_copy):
    lens = controlled_copy.lens()
    for star in controls_now(lens).stars:
        path = control_path(lens.config, "r", star.name)
        prepared = read_prepared(path)
        scalars = ("global_zeropoint", "global_zeropoint_scatter", "subsampling_factor")
        few = {
            name: value[:4]
            for name, value in vars(prepared).items()
            if name not in scalars and value is not None
        }
        write_prepared(path, replace(prepared, **few))
    result = measured(lens)
    record = control_record(result, applied=False)
    names = ", ".join(star.name for star in controls_now(lens).stars)
    lens.close()
    assert result.scale is None
    assert [star["epochs"] for star in record["stars"]] == [4, 4]
    assert control_line(record) == f"control stars {names}: too few epochs to judge the errors"


def test_a_control_star_that_disagrees_is_named_and_one_outside_every_frame_is_told(controlled_copy):
    lens = controlled_copy.lens()
    # One of the two is measured with far too small errors, as a variable star would be.
    star = controls_now(lens).stars[0]
    path = control_path(lens.config, "r", star.name)
    prepared = read_prepared(path)
    flickering = 1 + 0.3 * (-1.0) ** np.arange(len(prepared.mjd))
    write_prepared(path, replace(prepared, data=prepared.data * flickering[:, None, None]))
    record = control_record(measured(lens), applied=False)
    assert f" (without {star.name}: " in control_line(record)
    assert control_line(record).endswith(": variable or disturbed)")
    notes = []
    stage, run = ModelCalibratedCutouts(lens), SimpleNamespace(note=notes.append)
    stage._note_controls("r", controls_now(lens), None, run)
    lens.close()
    assert notes == ["r: no control star: those chosen lie in no frame of it"]


def test_a_given_background_is_the_lenss_alone(controlled_copy):
    lens = controlled_copy.lens()
    expected = measured(lens)
    np.save(controlled_copy.work / "background.npy", np.full((32, 32), 5.0))
    lens.close()
    controlled_copy.configure(roi_model={**QUICK, "starting_background": "background.npy"})
    lens = controlled_copy.lens()
    for before, after in zip(expected.curves, measured(lens).curves, strict=True):
        np.testing.assert_allclose(after.flux, before.flux)
    lens.close()


def test_a_star_that_a_user_excludes_is_no_control_star_any_more(controlled_copy):
    lens = controlled_copy.lens()
    first, second = controls_now(lens).stars
    with writing(lens.engine) as connection:
        stars.exclude_star(connection, lens.name, first, "it varies", "ada")
    left = controls_now(lens).ids
    assert len(left) == 2
    assert second.gaia_id in left
    assert first.gaia_id not in left
    lens.close()


def rows(number):
    """Reference stars a, b, ... of G 17, 17.1, ..."""
    unknown = dict.fromkeys(
        ("bmag", "rmag", "contamination", "astrometric_excess_noise", "astrometric_excess_noise_sig",
         "phot_g_mean_flux_over_error")
    )  # fmt: skip
    return [
        SimpleNamespace(
            name="abcdefghijklmnop"[s],
            gaia_id=str(100 + s),
            gmag=17 + s / 10,
            ra=70.5,
            dec=-21 + 0.01,
            **unknown,
        )
        for s in range(number)
    ]


def configured(season, tmp_path, **keys):
    shutil.copy(season.config_path, tmp_path / "lens.yaml")
    return load_lens(replace(season, config_path=tmp_path / "lens.yaml").configure(stars=keys))


def names_of(controls):
    return [star.name for star in controls.stars]


def test_few_reference_stars_are_left_to_the_psf(raw_season, tmp_path):
    config = configured(raw_season, tmp_path, stars_to_use_control=2)
    none = choose_candidates(config, rows(7), set(), 17.3, {})
    assert none.stars == []
    assert none.lacking == "there are only 7 reference stars, fewer than 8"
    assert choose_candidates(config, rows(9), {"100", "101"}, 17.3, {}).stars == []
    enough = choose_candidates(config, rows(8), set(), 17.32, {})
    assert (names_of(enough), enough.lacking) == (["d", "e"], None)
    named = configured(raw_season, tmp_path, stars_to_use_control=["b"])
    assert names_of(choose_candidates(named, rows(5), set(), None, {})) == ["b"]


def test_a_star_with_a_neighbour_in_the_large_stamp_makes_way(raw_season, tmp_path):
    config = configured(raw_season, tmp_path, stars_to_use_control=1)
    assert names_of(choose_candidates(config, rows(12), set(), 17.32, {})) == ["d", "e", "c"]
    crowded = choose_candidates(config, rows(12), set(), 17.32, {"103": 0.5})
    assert names_of(crowded) == ["e", "c", "f"]


def test_stars_that_the_user_names_or_distrusts_are_not_chosen(raw_season, tmp_path):
    config = configured(
        raw_season, tmp_path, stars_to_use_control=1, stars_to_use_psf=["d"], stars_to_exclude_norm=["c", "e"]
    )
    assert names_of(choose_candidates(config, rows(12), set(), 17.32, {})) == ["f", "b", "g"]
    everyone = [star.name for star in rows(8)]
    config = configured(raw_season, tmp_path, stars_to_use_control=1, stars_to_use_psf=everyone)
    none = choose_candidates(config, rows(8), set(), 17.3, {})
    assert none.stars == []
    assert none.lacking == "the configuration names or excludes all reference stars"


def test_a_name_that_no_star_has_is_an_error(raw_season, tmp_path):
    config = configured(raw_season, tmp_path, stars_to_use_control=["b", "zz"])
    with pytest.raises(
        ConfigurationError,
        match=r"stars.stars_to_use_control: no reference star is called 'zz'; there are a, b, c\. Write names",
    ):
        choose_candidates(config, rows(3), set(), None, {})


def test_candidates_lie_in_most_frames(raw_season, tmp_path):
    config = configured(raw_season, tmp_path, stars_to_use_control=2)
    shares = {str(100 + s): 0.1 * s for s in range(12)}
    found = choose_candidates(config, rows(12), set(), 17.32, {}, shares)
    assert names_of(found) == [
        "i",
        "j",
    ]  # of G 17.8 and 17.9; those nearer in brightness lie in half of the frames
    nowhere = choose_candidates(config, rows(12), set(), 17.32, {}, dict.fromkeys(shares, 0.3))
    assert (nowhere.stars, nowhere.lacking) == ([], "no reference star lies in 80 % of the frames")


@pytest.mark.parametrize(
    ("before", "faulty", "expected"),
    [
        (set(), set(), ["a", "b"]),
        ({"c", "d"}, set(), ["c", "d"]),
        ({"c"}, {"a"}, ["b", "c"]),
        ({"a", "c"}, {"a"}, ["b", "c"]),
        ({"gone"}, {"a", "b", "c"}, ["d"]),
    ],
)
def test_a_choice_is_kept(before, faulty, expected):
    assert choose(["a", "b", "c", "d"], before, faulty, 2) == expected


NORMALIZED_NAME = "calculate_normalization_coefficient"
NORMALIZED = stage_number(NORMALIZED_NAME)


def scaled(lens, star, factors):
    """Multiply the measured fluxes of a star, frame by frame."""
    flux = star_flux_in_frame
    with writing(lens.engine) as connection:
        for frame, factor in factors.items():
            here = (flux.c.frame_id == frame) & (flux.c.star_gaia_id == star)
            connection.execute(flux.update().where(here).values(flux=flux.c.flux * factor))


def normalized_again(lens):
    (result,) = run_pipeline(lens, first=NORMALIZED, last=NORMALIZED, redo=NORMALIZED)
    return result.report.notes


def test_a_control_star_that_varies_makes_way_for_good_and_nothing_else_is_made_again(controlled_copy):
    lens = controlled_copy.lens()
    first, second = controls_now(lens).stars
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        spare = candidates_of_lens(connection, lens.config, selection).stars[2]
        frames = sorted(photometry.coefficients_of(connection, lens.name, selection))
    # A little noise is no reason for another choice.
    scaled(lens, first.gaia_id, {frame: 1 + 0.004 * (-1) ** frame for frame in frames})
    assert not [note for note in normalized_again(lens) if "no control star" in note]
    assert controls_now(lens).ids == {first.gaia_id, second.gaia_id}
    scaled(lens, first.gaia_id, {frame: 1 + 0.3 * (-1) ** frame for frame in frames})
    notes = normalized_again(lens)
    assert [
        note for note in notes if f"{first.name} is no control star any more: varies: scatters by" in note
    ]
    assert controls_now(lens).ids == {second.gaia_id, spare.gaia_id}
    made = [result.name for result in run_pipeline(lens) if result.report is not None and result.report.done]
    assert not {"stamp_extraction", "psf_modeling", "star_photometry", NORMALIZED_NAME} & set(made)
    assert {"prepare_calibrated_cutouts", "model_calibrated_cutouts"} <= set(made)
    assert control_path(lens.config, "r", spare.name).exists()
    assert not control_path(lens.config, "r", first.name).exists()
    assert not {state.stage for state in pipeline_state(lens) if state.outdated()}
    # Quiet again, it does not come back: the others have done nothing wrong.
    scaled(lens, first.gaia_id, {frame: 1 / (1 + 0.3 * (-1) ** frame) for frame in frames})
    normalized_again(lens)
    assert controls_now(lens).ids == {second.gaia_id, spare.gaia_id}
    lens.close()


def test_the_list_says_what_speaks_against_a_spare(controlled_copy, lcops):
    lens = controlled_copy.lens()
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        spare = candidates_of_lens(connection, lens.config, selection).stars[2]
        frames = sorted(photometry.coefficients_of(connection, lens.name, selection))
    scaled(lens, spare.gaia_id, {frame: 1 + 0.3 * (-1) ** frame for frame in frames})
    normalized_again(lens)
    lens.close()
    listed = lcops("stars", "list", controlled_copy.config_path).out.splitlines()
    (line,) = [line for line in listed if line.split()[:1] == [spare.name]]
    assert line.count("spare") == 2
    assert "r: varies: scatters by" in line


def test_without_a_sound_candidate_there_is_no_control_star(controlled_copy):
    lens = controlled_copy.lens()
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        candidates = candidates_of_lens(connection, lens.config, selection).stars
        frames = sorted(photometry.coefficients_of(connection, lens.name, selection))
    for star in candidates:
        scaled(lens, star.gaia_id, {frame: 1 + 0.3 * (-1) ** frame for frame in frames})
    normalized_again(lens)
    none = controls_now(lens)
    lens.close()
    assert none.stars == []
    assert none.lacking.startswith(f"every candidate has a fault: {candidates[0].name} varies: scatters by")


@pytest.mark.parametrize("purpose", ["psf", "norm"])
def test_a_star_cannot_be_in_two_lists(raw_season, tmp_path, purpose):
    with pytest.raises(
        ConfigurationError, match=rf"stars_to_use_control and stars_to_use_{purpose} both name c: a"
    ):
        configured(
            raw_season,
            tmp_path,
            stars_to_use_control=["c", "d"],
            **{f"stars_to_use_{purpose}": ["a", "b", "c"]},
        )


@pytest.mark.parametrize("value", [4, -1, ["a", "b", "c", "d"]])
def test_at_most_three(raw_season, tmp_path, value):
    with pytest.raises(ConfigurationError, match="stars_to_use_control"):
        configured(raw_season, tmp_path, stars_to_use_control=value)

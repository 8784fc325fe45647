"""A light curve that misses a gate is withheld: kept, said again by every run, and never published."""

from types import SimpleNamespace

import numpy as np
import pytest

from lightcurver_ops.bookkeeping import ledger, photometry, withheld
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import publications
from lightcurver_ops.cli.lightcurve import lightcurve
from lightcurver_ops.config.sections import Publication
from lightcurver_ops.errors import ConfigurationError, NothingToDo, QualityGate
from lightcurver_ops.stages.model_calibrated_cutouts import ModelCalibratedCutouts
from lightcurver_ops.stages.publication_gates import missed_by_controls, missed_by_fit
from lightcurver_ops.stages.publishing import chosen_publication

LIMITS = Publication()
NONE = Publication(**dict.fromkeys(Publication.model_fields))


def fit(aside, *, converged=True, last_move=0.01, chi2=1.0, flux=None):
    count = len(aside)
    return SimpleNamespace(
        chi2=np.full(count, chi2),
        aside=np.array(aside),
        converged=converged,
        last_move=last_move,
        flux=np.ones((count, 2)) if flux is None else flux,
    )


def missed(one, limits=LIMITS):
    found = missed_by_fit(limits, ["A", "B"], one)
    assert missed_by_fit(NONE, ["A", "B"], one) == []
    return found


def test_a_fit_that_converged_without_one_epoch_is_published():
    assert missed(fit([True, False, False, False, False, False])) == []
    assert missed(fit([False])) == []


@pytest.mark.parametrize(("move", "published"), [(0.2, True), (0.5, False), (np.inf, False), (np.nan, True)])
def test_a_fit_that_still_moves_is_not_published(move, published):
    """Not a number: STARRED's optimiser says nothing of it."""
    found = missed(fit([False] * 6, converged=False, last_move=move))
    assert (not found) == published
    assert all("did not converge" in one and "above 0.3 (publication.max_last_move)" in one for one in found)


def test_a_scene_that_half_of_the_epochs_contradict_is_not_published():
    (reason,) = missed(fit([True, True, True, False, False, False]))
    assert reason.startswith("3 of 6 epochs do not fit what the others have in common")
    assert missed(fit([True, True, False, False, False, False])) == []


@pytest.mark.parametrize(
    ("chi2", "published"), [(1.2, True), (4.9, True), (5.2, False), (315.0, False), (np.nan, False)]
)
def test_pixels_that_the_model_does_not_explain(chi2, published):
    found = missed(fit([False] * 6, chi2=chi2))
    assert (not found) == published
    assert all("median reduced chi2" in one and "above 5 (publication.max_chi2)" in one for one in found)


def test_an_image_without_fluxes():
    flux = np.ones((6, 2))
    flux[:4, 1] = np.nan
    (reason,) = missed(fit([False] * 6, flux=flux))
    assert reason == "image B has a flux in 2 of 6 epochs only (publication.min_fraction_measured)"


def test_an_aperture_has_no_model_to_converge_or_to_fit():
    one = fit([False] * 6, converged=False, last_move=np.inf, chi2=900.0)
    assert missed_by_fit(LIMITS, ["A", "B"], one, modelled=False) == []


def test_control_stars_that_scatter_by_more_than_their_errors():
    assert missed_by_controls(LIMITS, 1.3, 0.1) == missed_by_controls(LIMITS, None, None) == []
    assert missed_by_controls(LIMITS, 5.5, 1.0) == missed_by_controls(NONE, 50.0, 1.0) == []
    (reason,) = missed_by_controls(LIMITS, 8.0, 1.0)
    assert (
        reason
        == "the control stars scatter by 8.0 times their quoted errors, above 5 (publication.max_error_factor)"
    )


def test_a_withheld_light_curve_is_kept_and_said_until_one_passes(season_copy, capsys):
    season = season_copy()

    def lens():
        return season.lens()

    one = lens()
    with reading(one.engine) as connection:
        before = photometry.publications_of(connection, one.name)
    products = season.work / "prepared_roi_cutouts"
    published = {path: path.read_bytes() for path in products.glob("*_photometry_*.csv")}
    assert published
    one.close()
    season.configure(publication={"max_chi2": 0.01}, compute={"diagnostics": True})

    with pytest.raises(
        QualityGate, match=r"is withheld of filter r: the median reduced chi2 .* above 0\.01"
    ) as caught:
        ModelCalibratedCutouts(lens()).run()
    assert caught.value.measured == {"filters": "r", "epochs": 6}
    one = lens()
    with reading(one.engine) as connection:
        assert photometry.publications_of(connection, one.name) == before
        (row,) = withheld.withheld_of(connection, one.name)
    assert {path: path.read_bytes() for path in published} == published
    kept = season.work / row.file
    assert len(kept.read_text().splitlines()) == 1 + 6
    assert (products / kept.name.replace("per_epoch.csv", "residuals.png")).exists()
    assert not list(products.glob("*_memory_*"))  # nothing to go on from

    # Again: nothing is fitted, and it is no success.
    with pytest.raises(QualityGate, match="is withheld"):
        ModelCalibratedCutouts(one).run()
    lightcurve(season.config_path)
    said = capsys.readouterr()
    assert "UTC is withheld: the median reduced chi2" in said.err
    assert "version 1" in said.out

    # A filter that the lens no longer has is not withheld for ever.
    with writing(one.engine) as connection:
        gone = {"lens": one.name, "filter": "g", "n_epochs": 1, "file": "x", **ledger.provenance("hash")}
        withheld.withhold(connection, gone, ["it missed a gate"])
    one = lens()
    with pytest.raises(QualityGate, match="is withheld of filter r"):
        ModelCalibratedCutouts(one).run()
    with reading(one.engine) as connection:
        assert [row.filter for row in withheld.withheld_of(connection, one.name)] == ["r"]
        connection.rollback()
    with writing(one.engine) as connection:
        connection.execute(publications.delete())
    with (
        reading(one.engine) as connection,
        pytest.raises(
            ConfigurationError, match="no light curve yet: that of filter r is withheld: the median"
        ),
    ):
        chosen_publication(connection, one.name, season.config_path, None, None)
    one.close()
    season.configure(publication={"max_chi2": None})
    one = lens()
    report = ModelCalibratedCutouts(one).run()
    assert report.done == 1
    with reading(one.engine) as connection:
        assert withheld.withheld_of(connection, one.name) == []
    assert not list(products.glob("*_withheld_*"))
    with pytest.raises(NothingToDo):
        ModelCalibratedCutouts(one).run()
    one.close()

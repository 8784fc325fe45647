"""The daily update of the joint model against a fit of the same epochs from scratch."""

from dataclasses import replace

import numpy as np
import pytest

from lightcurver_ops.numerics.roi import update
from lightcurver_ops.numerics.roi.fit import set_up
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.numerics.roi.update import fit_and_remember
from lightcurver_ops.simulation.roi import roi_stamps
from lightcurver_ops.storage.roi_memory import read_roi_memory, write_roi_memory

EPOCHS = 13


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch):
    """Small fits stand for those of a season."""
    monkeypatch.setattr(update, "FEWEST", 0)


@pytest.fixture(scope="module")
def roi():
    return roi_stamps(
        7, EPOCHS, 12, 2, positions=((-1.9, 0.8), (1.6, -0.7)), magnitudes=(18.6, 19.4), galaxy_magnitude=20.0
    )


def asked(roi, chosen, options=None, scale=1.0):
    """Problem and start of some epochs."""
    return set_up(
        scale * roi.data[chosen],
        scale * roi.noise[chosen],
        np.ones(roi.data[chosen].shape, dtype=bool),
        roi.psf[chosen],
        roi.subsampling,
        roi.positions + 0.05,
        roi.translations[chosen],
        None,
        False,
        None,
        True,
        roi.narrow_psf[chosen],
        options or RoiOptions(),
        like_starred=False,
    )


def keys(chosen):
    return [f"epoch {e}" for e in chosen]


FIRST = list(range(EPOCHS - 1))


def fitted(roi, chosen):
    return fit_and_remember(*asked(roi, chosen), keys(chosen))


@pytest.fixture(scope="module")
def scratch(roi):
    """All epochs from scratch."""
    return fitted(roi, list(range(EPOCHS)))[0]


@pytest.fixture
def memory(roi, tmp_path_factory):
    """Of all epochs but the last; through a file, as from night to night."""
    path = tmp_path_factory.getbasetemp() / "memory_of_the_first.h5"
    if not path.exists():
        write_roi_memory(path, fitted(roi, FIRST)[1])
    return read_roi_memory(path)


def assert_same(fit, other):
    assert fit.converged
    assert np.all(np.abs(fit.flux - other.flux) < 0.1 * other.flux_uncertainty)
    np.testing.assert_allclose(fit.flux_uncertainty, other.flux_uncertainty, rtol=0.1)
    np.testing.assert_allclose(fit.common_flux_uncertainty, other.common_flux_uncertainty, rtol=0.2)
    assert fit.loss == pytest.approx(other.loss, abs=0.5)
    np.testing.assert_allclose(fit.positions, other.positions, atol=0.01)


def test_a_new_epoch_changes_what_a_fit_from_scratch_would(roi, memory, scratch):
    chosen = list(range(EPOCHS))
    fit, kept = fit_and_remember(*asked(roi, chosen), keys(chosen), memory)
    assert fit.updated
    assert not scratch.updated
    assert fit.n_iter < scratch.n_iter + 3
    assert (kept.since, kept.scratch, kept.normal.epochs) == (1, EPOCHS - 1, EPOCHS)
    assert_same(fit, scratch)


def test_an_epoch_taken_out_leaves_no_trace(roi, memory):
    chosen = FIRST[:4] + FIRST[5:]
    fit, kept = fit_and_remember(*asked(roi, chosen), keys(chosen), memory)
    assert fit.updated
    assert kept.normal.epochs == len(chosen)
    assert_same(fit, fitted(roi, chosen)[0])


def test_a_changed_epoch_is_taken_out_and_added(roi, memory):
    changed = replace(roi, data=roi.data.copy())
    changed.data[3] += 3 * roi.noise[3] * np.random.default_rng(1).normal(size=roi.data[3].shape)
    new = keys(FIRST)
    new[3] += " made again"
    fit, kept = fit_and_remember(*asked(changed, FIRST), new, memory)
    assert fit.updated
    assert kept.since == 1
    assert_same(fit, fitted(changed, FIRST)[0])


def test_todays_pixels_count_where_a_coefficient_has_moved_a_little(roi, memory, scratch):
    chosen = list(range(EPOCHS))
    fit, _ = fit_and_remember(*asked(roi, chosen, scale=1.002), keys(chosen), memory)
    assert fit.updated
    np.testing.assert_allclose(fit.flux, 1.002 * scratch.flux, atol=0.1 * scratch.flux_uncertainty.min())


def test_few_epochs_and_unchanged_ones_are_fitted_from_scratch(roi, memory, monkeypatch):
    """To the last digit: what an interrupted run has kept must not show in the result."""
    chosen = list(range(EPOCHS))
    assert memory.serves(*asked(roi, chosen), keys(chosen))
    assert not memory.serves(*asked(roi, FIRST), keys(FIRST))
    monkeypatch.setattr(update, "FEWEST", EPOCHS)
    assert not memory.serves(*asked(roi, chosen), keys(chosen))


def test_too_many_changes_or_another_model_are_fitted_from_scratch(roi, memory):
    few = FIRST[:9]
    fit, kept = fit_and_remember(*asked(roi, few), keys(few), memory)
    assert not fit.updated
    assert (kept.since, kept.scratch) == (0, 9)
    other = RoiOptions(strength=5.0)
    new = [*keys(FIRST), "new"]
    assert not memory.serves(*asked(roi, FIRST, other), new)
    assert memory.serves(*asked(roi, FIRST), new)
    assert not replace(memory, since=2).serves(*asked(roi, FIRST), new)
    problem, state = asked(roi, FIRST)
    given = replace(state, scene=replace(state.scene, mean=state.scene.mean + 1.0))
    assert not memory.serves(problem, given, new)


@pytest.mark.parametrize("damage", ["matrix", "structure"])
def test_an_update_that_fails_is_fitted_from_scratch(roi, memory, damage, caplog):
    if damage == "matrix":
        memory.normal.matrix[:] = -memory.normal.matrix
    else:
        memory.state.scene.structure[:] = np.nan
    chosen = list(range(EPOCHS))
    fit, kept = fit_and_remember(*asked(roi, chosen), keys(chosen), memory)
    assert ("from scratch" in caplog.text) == (damage == "matrix")  # what is not finite is not even tried
    assert fit.converged
    assert not fit.updated
    assert kept.since == 0


def test_epochs_must_have_keys_of_their_own(roi):
    with pytest.raises(ValueError, match="need as many different keys"):
        fit_and_remember(*asked(roi, [0, 1]), ["one", "one"])


def test_a_memory_that_cannot_be_read_is_none(tmp_path):
    assert read_roi_memory(tmp_path / "absent.h5") is None
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(b"not HDF5")
    assert read_roi_memory(damaged) is None


def test_a_memory_is_what_was_kept(roi, memory, tmp_path):
    write_roi_memory(tmp_path / "again.h5", memory)
    again = read_roi_memory(tmp_path / "again.h5")
    assert again.keys == memory.keys
    assert again.problem.layout == memory.problem.layout
    assert again.problem.options == memory.problem.options
    np.testing.assert_array_equal(again.normal.matrix, memory.normal.matrix)
    np.testing.assert_array_equal(again.normal.matrix, again.normal.matrix.T)
    np.testing.assert_array_equal(again.state.scene.background, memory.state.scene.background)
    np.testing.assert_array_equal(again.covariances, memory.covariances)

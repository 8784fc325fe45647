"""What the joint model left out: when nothing is published, and what is said of frames."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from lightcurver_ops.bookkeeping import photometry
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import publications
from lightcurver_ops.cli import frames as cli_frames
from lightcurver_ops.errors import QualityGate
from lightcurver_ops.stages import model_calibrated_cutouts
from lightcurver_ops.stages.model_calibrated_cutouts import ModelCalibratedCutouts, unsupported_fit
from lightcurver_ops.stages.usage import usage


def fit(aside, *, converged=True, last_move=0.01):
    return SimpleNamespace(
        chi2=np.ones(len(aside)), aside=np.array(aside), converged=converged, last_move=last_move
    )


def test_a_fit_that_converged_without_one_epoch_is_published():
    assert unsupported_fit("lens", "r", fit([True, False, False, False, False, False])) is None
    assert unsupported_fit("lens", "r", fit([False])) is None


@pytest.mark.parametrize(("move", "published"), [(0.2, True), (0.5, False), (np.inf, False), (np.nan, True)])
def test_a_fit_that_still_moves_is_not_published(move, published):
    """Not a number: STARRED's optimiser says nothing of it."""
    gate = unsupported_fit("lens", "r", fit([False] * 6, converged=False, last_move=move))
    assert (gate is None) == published
    if gate is not None:
        assert gate.measured == {"last_move": move}


def test_a_scene_that_half_of_the_epochs_contradict_is_not_published():
    gate = unsupported_fit("lens", "r", fit([True, True, True, False, False, False]))
    assert gate is not None
    assert gate.measured == {"epochs": 6, "aside": 3}
    assert "3 of 6 epochs do not fit" in str(gate)


def test_the_last_light_curve_stays(season_copy, monkeypatch):
    lens = season_copy().lens()
    monkeypatch.setattr(model_calibrated_cutouts, "unsupported_fit", lambda *_: QualityGate("no"))
    monkeypatch.setattr(ModelCalibratedCutouts, "version", 1000)
    with reading(lens.engine) as connection:
        before = photometry.publications_of(connection, lens.name)
    with pytest.raises(QualityGate, match="no"):
        ModelCalibratedCutouts(lens).run()
    with reading(lens.engine) as connection:
        assert photometry.publications_of(connection, lens.name) == before
    lens.close()


def test_frames_say_what_the_model_left_out_of_them(season_copy, capsys):
    season = season_copy()
    lens = season.lens()
    with reading(lens.engine) as connection:
        first, second, *_ = (
            item.frame.image_relpath for item in usage(connection, lens.config) if not item.reason
        )
    notes = json.dumps(
        {
            first: {"note": "set aside: a trail", "aside": True},
            second: {"note": "9 pixels", "aside": False},
        }
    )
    with writing(lens.engine) as connection:
        connection.execute(publications.update().values(epoch_notes=notes))
    with reading(lens.engine) as connection:
        found = {item.frame.image_relpath: item for item in usage(connection, lens.config)}
    path = season.config_path
    lens.close()
    assert (found[first].used, found[second].used) == ("set aside", "yes")
    cli_frames.list_frames(path, unused=False, as_csv=False)
    said = capsys.readouterr().out
    assert "set aside: a trail" in said
    assert "(1 of them set aside by the joint model)" in said
    cli_frames.why(path, [second])
    assert "joint model: 9 pixels" in capsys.readouterr().out

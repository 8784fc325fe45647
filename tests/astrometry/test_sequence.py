"""Trials in turn: the order, what is kept of each failure, and what ends the search."""

from dataclasses import replace

import pytest

from lightcurver_ops.astrometry.base import Solution
from lightcurver_ops.astrometry.catalog_match import CatalogMatchSolver
from lightcurver_ops.astrometry.sequence import Trial, solve_in_turn
from lightcurver_ops.errors import BadFrame, ConfigurationError, TemporaryFailure


class Answers:
    """A solver that gives what it was told to give."""

    def __init__(self, answer):
        self.answer = answer

    def solve(self, request):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(scope="module")
def frame(sim):
    return sim.frame(1)


def trial(request, answer, strategy="plate_solve", hint="ROI", **how):
    return Trial(strategy, hint, request, lambda: Answers(answer), **how)


def test_the_first_verified_solution_ends_the_search_and_each_failure_is_kept(sim, frame):
    model, request = frame

    def not_reached():
        raise AssertionError("the search went on after a solution")

    outcome = solve_in_turn(
        "simulated",
        [
            Trial("alternate_gaia_solve", "header", request, why_not="the header has no WCS"),
            trial(request, BadFrame("simulated: no solution in the index")),
            trial(request, TemporaryFailure("simulated: killed"), hint="header"),
            trial(request, ConfigurationError("solve-field is not installed"), "fallback"),
            Trial("alternate_gaia_solve", "ROI", request, CatalogMatchSolver),
            Trial("never", "ROI", request, not_reached),
        ],
    )
    assert sim.corner_errors_px(outcome.solution.wcs, model).max() < 0.5
    assert outcome.error is None
    assert [(a.strategy, a.hint, a.outcome, a.reason) for a in outcome.attempts] == [
        ("alternate_gaia_solve", "header", "not tried", "the header has no WCS"),
        ("plate_solve", "ROI", "failed", "no solution in the index"),
        ("plate_solve", "header", "failed", "killed"),
        ("fallback", "ROI", "not tried", "solve-field is not installed"),
        ("alternate_gaia_solve", "ROI", "solved", None),
    ]
    last = outcome.attempts[-1]
    assert last.n_matched == outcome.solution.n_matched > 20
    assert last.rms_pixels == pytest.approx(last.rms_arcsec / 0.7, rel=0.01)
    assert last.log10_chance < -20


def test_nothing_solved_names_every_attempt(frame):
    request = frame[1]
    outcome = solve_in_turn(
        "simulated",
        [trial(request, BadFrame("simulated: too cloudy " + 60 * "very ")), trial(request, BadFrame("no"))],
    )
    assert isinstance(outcome.error, BadFrame)
    message = str(outcome.error)
    assert message.startswith(
        "simulated: no trustworthy solution. (1) plate_solve from the ROI: too cloudy very very "
    )
    assert "very ...; (2) plate_solve from the ROI: no. Check the frame" in message
    assert "lcops astrometry show" in message
    assert outcome.attempts[0].reason.count("very") == 60  # in full
    assert "(nothing could be tried)" in str(solve_in_turn("simulated", []).error)


def test_a_failure_that_may_pass_keeps_the_frame_in_play(frame):
    request = frame[1]
    outcome = solve_in_turn("f", [trial(request, TemporaryFailure("killed")), trial(request, BadFrame("no"))])
    assert isinstance(outcome.error, TemporaryFailure)


def test_a_strategy_that_the_user_chose_must_be_able_to_work(frame):
    with pytest.raises(ConfigurationError, match="not installed"):
        solve_in_turn("f", [trial(frame[1], ConfigurationError("not installed"), required=True)])


def test_a_solver_that_verifies_nothing_is_not_believed(frame):
    model, request = frame
    unverified = Solution(model.to_header(), "somebody else's solver", n_matched=50)
    outcome = solve_in_turn("f", [trial(request, unverified)])
    assert "not verified against the catalogue" in outcome.attempts[0].reason
    trusted = solve_in_turn("f", [trial(replace(request, allow_unverified=True), unverified)])
    assert trusted.solution is unverified


def test_a_solution_beyond_the_search_radius_is_not_taken(sim, frame):
    _, request = frame
    there = Trial("m", "header", request, CatalogMatchSolver, near=(150.0, 2.0, 0.3))
    assert solve_in_turn("f", [there]).solution
    outcome = solve_in_turn("f", [replace(there, near=(151.0, 2.0, 0.3))])
    assert (
        "the solution lies 0.999 deg from the ROI, beyond plate_solving.search_radius"
        in outcome.attempts[0].reason
    )

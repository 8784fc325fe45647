"""The joint model at work: what is given, and all unknowns."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi import galaxy
from lightcurver_ops.numerics.roi.epoch import Epoch, Layout, Linear, Local, linearise
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.penalty import Penalty
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.numerics.roi.scene import Prior, Scene

Array = NDArray[np.float64]

LARGEST_STEP = 0.5  # data pixels, of a position or a translation in one iteration
ANGLES = 8  # images of the galaxy's outskirts kept at a time


@dataclass(frozen=True)
class State:
    """All unknowns: what is common, and each epoch's own."""

    scene: Scene
    locals: tuple[Local, ...]

    @property
    def flux(self) -> Array:
        """[E, J]."""
        return np.array([local.flux for local in self.locals])

    def of(self, chosen: list[int]) -> "State":
        """The state of some epochs."""
        return replace(self, locals=tuple(self.locals[e] for e in chosen))


@dataclass(frozen=True)
class Problem:
    """What stays fixed during a fit.

    Attributes:
        epochs, layout, prior, options: data, what is free, what is expected, settings.
        margin: small pixels around the background's grid within which the galaxy's light is followed.
        resolution: makes the blurring matrix of the background's resolution for a grid side; None for the sky's.
        with_galaxy: whether a galaxy's profile is looked for.
    """

    epochs: tuple[Epoch, ...]
    layout: Layout
    prior: Prior
    options: RoiOptions
    margin: int
    resolution: Callable[[int], Array] | None
    with_galaxy: bool

    def of(self, chosen: list[int]) -> "Problem":
        """The problem of some epochs."""
        return replace(self, epochs=tuple(self.epochs[e] for e in chosen))

    def linearise(self, state: State) -> Iterator[Linear]:
        """Each epoch in turn, linearised around a state."""
        background = state.scene.background
        wide = self._outside(state.scene)
        for epoch, local in zip(self.epochs, state.locals, strict=True):
            outside = None if wide is None else wide(epoch.angle)
            yield linearise(epoch, local, state.scene.positions, background, self.layout, outside)

    def _outside(self, state: Scene) -> Callable[[float], Array] | None:
        """The galaxy's light beyond the grid, for an angle of the scene."""
        if state.theta is None or self.margin == 0:
            return None
        theta = state.theta
        known: dict[float, Array] = {}
        side = self.layout.fine + 2 * self.margin
        frame = galaxy.Frame.of(side, None if self.resolution is None else self.resolution(side))

        def light(angle: float) -> Array:
            if angle not in known:
                if len(known) >= ANGLES:
                    known.clear()
                image = galaxy.profile(galaxy.turned(theta, angle), frame)
                image[self.margin : -self.margin, self.margin : -self.margin] = 0.0
                known[angle] = image
            return known[angle]

        return light


@dataclass(frozen=True)
class Outcome:
    """Where the iterations ended."""

    state: State
    history: list[float]
    converged: bool
    status: str
    normal: NormalMatrix | None = None
    penalty: Penalty | None = None


def moved_by(local: Local, linear: Linear, step: Array | None, layout: Layout) -> tuple[Local, float]:
    """Local unknowns after a step of the global ones, and the largest move of a flux in standard deviations."""
    change = linear.local_step(step)
    j = layout.sources
    largest = float(np.max(np.abs(change[:j]) / np.sqrt(linear.flux_variance(j)), initial=0.0))
    if layout.translation_sigma > 0:
        change[j : j + 2] = np.clip(change[j : j + 2], -LARGEST_STEP, LARGEST_STEP)
    return local.moved_by(change, layout), largest


def status(converged: bool, iterations: int, largest: float) -> str:
    """One line for the log."""
    how = "converged" if converged else "NOT converged"
    return f"{how} after {iterations} iterations; the last moved the fluxes by at most {largest:.2g} sigma"

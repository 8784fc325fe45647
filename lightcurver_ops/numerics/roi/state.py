"""The joint model at work: what is given, and all unknowns."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi import galaxy
from lightcurver_ops.numerics.roi.block import Block, Lights, blocks
from lightcurver_ops.numerics.roi.epoch import Chosen, Epochs, Layout, Local
from lightcurver_ops.numerics.roi.modes import Modes
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.penalty import Penalty
from lightcurver_ops.numerics.roi.render import Light
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.numerics.roi.scene import Prior, Scene
from lightcurver_ops.numerics.roi.trust import Trust

Array = NDArray[np.float64]

LARGEST_STEP = 0.5  # data pixels, of a position or a translation in one iteration
ANGLES = 8  # of the scene, whose light is kept at a time


@dataclass(frozen=True)
class State:
    """All unknowns: what is common, and each epoch's own."""

    scene: Scene
    locals: Local

    def of(self, chosen: Chosen) -> "State":
        """The state of some epochs."""
        return replace(self, locals=self.locals.of(chosen))

    def with_locals_of(self, other: "State", chosen: Chosen) -> "State":
        """The scene of another state, and what that one, of some epochs, says of these."""
        local = Local(*(array.copy() for array in self.locals))
        for mine, its in zip(local, other.locals, strict=True):
            mine[chosen] = its
        return State(other.scene, local)


@dataclass(frozen=True)
class Problem:
    """What stays fixed during a fit.

    Attributes:
        epochs, layout, prior, options: data, what is free, what is expected, settings.
        margin: small pixels around the background's grid within which the galaxy's light is followed.
        resolution: makes the blurring matrix of the background's resolution for a grid side; None for the sky's.
        with_galaxy: whether a galaxy's profile is looked for.
        pointing: [E] errors of the expected translations as the frames' stars tell them, data pixels; None: unknown.
        trust: how much of each epoch is believed; `epochs.weight` follows from it and from outlying pixels.
        modes: the patterns of the background that the epochs see; None without a free background.
    """

    epochs: Epochs
    layout: Layout
    prior: Prior
    options: RoiOptions
    margin: int
    resolution: Callable[[int], Array] | None
    with_galaxy: bool
    trust: Trust
    pointing: Array | None = None
    modes: Modes | None = None

    @property
    def count(self) -> int:
        """E, the number of epochs."""
        return len(self.epochs.data)

    def of(self, chosen: Chosen) -> "Problem":
        """The problem of some epochs."""
        trust = Trust(self.trust.given[chosen], self.trust.scale[chosen], self.trust.aside[chosen])
        pointing = None if self.pointing is None else self.pointing[chosen]
        return replace(self, epochs=self.epochs.of(chosen), trust=trust, pointing=pointing)

    @property
    def kept(self) -> list[int]:
        """The epochs from which what is common is found."""
        return [int(e) for e in np.flatnonzero(~self.trust.aside)]

    def blocks(self, state: State) -> Iterator[Block]:
        """All epochs, linearised around a state, block by block."""
        light = self.lights(state.scene.background, state.scene)
        return blocks(self.epochs, state.locals, state.scene.positions, light, self.layout)

    def lights(self, background: Array, scene: Scene | None = None) -> Lights:
        """A background [N, N], with the light of a scene's galaxy around it, by angle; None where there is none."""
        outside = None if scene is None else self._outside(scene)
        if not self.layout.background and outside is None and not np.any(background):
            return lambda angle: None
        known: dict[float, Light] = {}

        def light(angle: float) -> Light:
            if angle not in known:
                if len(known) >= ANGLES:
                    known.clear()
                side = self.epochs.background_psf.shape[-1]
                around = None if outside is None else outside(angle)
                known[angle] = Light.of(background, angle, side, around)
            return known[angle]

        return light

    def _outside(self, scene: Scene) -> Callable[[float], Array] | None:
        """The galaxy's light beyond the grid, [N + 2 m, N + 2 m], by angle; None where there is none."""
        if scene.theta is None or self.margin == 0:
            return None
        theta = scene.theta
        side = self.layout.fine + 2 * self.margin
        frame = galaxy.Frame.of(side, None if self.resolution is None else self.resolution(side))

        def around(angle: float) -> Array:
            image = galaxy.profile(galaxy.turned(theta, angle), frame)
            image[self.margin : -self.margin, self.margin : -self.margin] = 0.0
            return image

        return around


@dataclass(frozen=True)
class Outcome:
    """Where the iterations ended; `last_move`: the largest move of a flux in the last one, in sigma."""

    state: State
    history: list[float]
    converged: bool
    status: str
    normal: NormalMatrix | None = None
    penalty: Penalty | None = None
    last_move: float = np.inf


class Steps:
    """The steps of all local unknowns, gathered block by block.

    Attributes:
        step: [E, p] where the global unknowns stay.
        response: [E, p, moved] how they answer to a step of the positions.
        variance: [E, J] of the fluxes, the global unknowns held fixed.
        translation_variance: [E, 2]; 0 where translations are fixed.
    """

    def __init__(self, problem: Problem):
        layout, count = problem.layout, problem.count
        self._layout = layout
        self.step = np.zeros((count, layout.unknowns))
        self.response = np.zeros((count, layout.unknowns, layout.moved))
        self.variance = np.ones((count, layout.sources))
        self.translation_variance = np.zeros((count, 2))

    def take(self, block: Block) -> None:
        """What a block says."""
        chosen = block.place.chosen
        self.step[chosen], self.response[chosen], variance = block.local_step()
        j = self._layout.sources
        self.variance[chosen] = variance[:, :j]
        if self._layout.translation_sigma > 0:
            self.translation_variance[chosen] = variance[:, j : j + 2]

    def applied(self, local: Local, positions: Array | None = None) -> tuple[Local, float]:
        """The local unknowns after it, and a step [moved] of the positions, and the largest move of a flux in sigma."""
        layout, j = self._layout, self._layout.sources
        step = self.step.copy() if positions is None else self.step + self.response @ positions
        largest = float(np.max(np.abs(step[:, :j]) / np.sqrt(self.variance), initial=0.0))
        if layout.translation_sigma > 0:
            step[:, j : j + 2] = np.clip(step[:, j : j + 2], -LARGEST_STEP, LARGEST_STEP)
        return local.moved_by(step, layout), largest


def status(converged: bool, iterations: int, largest: float) -> str:
    """One line for the log."""
    how = "converged" if converged else "NOT converged"
    return f"{how} after {iterations} iterations; the last moved the fluxes by at most {largest:.2g} sigma"

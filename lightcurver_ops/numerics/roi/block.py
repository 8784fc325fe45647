"""The epochs of the joint model in blocks: what is asked of a block is worked out where its arrays are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.device import Device, device, padded_count
from lightcurver_ops.numerics.roi import epoch, render
from lightcurver_ops.numerics.roi.epoch import Epochs, Layout, Linear, Local
from lightcurver_ops.numerics.roi.modes import Modes

Array = NDArray[np.float64]
Lights = Callable[[float], render.Light | None]

EPOCHS_PER_BLOCK = 16  # on a CPU: enough to make the cost of Python's calls small, few enough for the cache
WIDE_ARRAYS = 5  # of the size of an epoch's Jacobian that are in use at once


@dataclass(frozen=True)
class Place:
    """Which epochs a block has.

    Attributes:
        chosen: [C] their numbers.
        padded: [B] the same and, where blocks have one size, the last of them repeated.
    """

    chosen: NDArray[np.int_]
    padded: NDArray[np.int_]

    @property
    def count(self) -> int:
        """C."""
        return len(self.chosen)


def places(angle: Array, layout: Layout, where: Device) -> Iterator[Place]:
    """Divide epochs of these angles [E] into blocks; those that are turned alike come together."""
    wide = 4 * layout.size**2 * layout.fine**2 if layout.background else 4 * layout.size**2 * layout.fine
    size = where.batch(WIDE_ARRAYS * wide, EPOCHS_PER_BLOCK)
    if where.fixed:
        size = min(size, padded_count(len(angle)))
    order = np.argsort(angle, kind="stable")
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        missing = size - len(chosen) if where.fixed else 0
        yield Place(chosen, np.concatenate([chosen, np.repeat(chosen[-1:], missing)]))


class Block:
    """Some epochs, linearised.

    Results have the epochs' axis first, without the padding, and are arrays of numpy; sums are over these epochs.

    Attributes:
        place: which epochs.
        epochs: their data.
    """

    def __init__(self, place: Place, epochs: Epochs, layout: Layout, where: Device, linear: Linear):
        self.place, self.epochs, self._layout, self._where, self._linear = (
            place,
            epochs,
            layout,
            where,
            linear,
        )

    @classmethod
    def of(
        cls,
        place: Place,
        epochs: Epochs,
        local: Local,
        positions: Array,
        lights: Lights,
        layout: Layout,
        where: Device,
    ) -> "Block":
        """Linearise some of all epochs around all of their local unknowns.

        Args:
            place: which.
            epochs, local: all of them.
            positions: [J, 2] common positions.
            lights: the light of the scene by angle.
            layout: what is free.
            where: to work.
        """
        part = epochs.of(place.padded)
        part.weight[place.count :] = 0.0
        spectrum, margin = _spectra(part.angle, lights)
        turn = _turn(part.angle, layout, where)
        linear = where.call(
            epoch.linearise,
            part,
            local.of(place.padded),
            positions,
            spectrum,
            turn,
            layout=layout,
            margin=margin,
        )
        return cls(place, part, layout, where, linear)

    def _call(self, function: Callable[..., Any], *arrays: Any) -> Any:
        return self._where.call(function, self._linear, *arrays, layout=self._layout)

    def _host(self, array: Any) -> Array:
        return self._where.host(array)[: self.place.count]

    @property
    def model(self) -> Array:
        """[C, n, n]."""
        return self._host(self._linear.model)

    @property
    def light(self) -> Array:
        """Its part without the point sources and the sky, [C, n, n]."""
        return self._host(self._linear.light)

    @property
    def loss(self) -> float:
        """Half the chi2 of pixels and of the priors of translation and sky: the sum."""
        return float(self.losses.sum())

    @property
    def losses(self) -> Array:
        """The same of each epoch, [C]."""
        return self._host(self._linear.loss)

    @property
    def chi2(self) -> Array:
        """[C] of the pixels."""
        return self._host(self._linear.chi2)

    @property
    def mean_weight(self) -> float:
        """Of the pixels of each epoch, the mean over all places: the sum over epochs."""
        return float(self.epochs.weight[: self.place.count].mean(axis=(1, 2)).sum())

    def local_step(self) -> tuple[Array, Array, Array]:
        """As `epoch.local_step`."""
        step, response, variance = self._call(epoch.local_step)
        return self._host(step), self._host(response), self._host(variance)

    def rhs(self) -> Array:
        """Gradient [G] of the log likelihood with respect to the global unknowns, the local ones at their best."""
        return self._where.host(self._call(epoch.rhs))

    def position_matrix(self) -> Array:
        """As `epoch.position_matrix`."""
        return self._where.host(self._call(epoch.position_matrix))

    def follower(self) -> tuple[Place, epoch.Follower]:
        """What `follow` needs."""
        kept = self._where.call(epoch.follower, self._linear)
        return self.place, epoch.Follower(*(self._where.host(one) for one in kept))

    def flux_covariance(self, shared: Any, rows: Any, mean: Any) -> Array:
        """As `epoch.flux_covariance`; the arguments may be on the device already."""
        return self._host(self._call(epoch.flux_covariance, shared, rows, mean))

    def pieces(self) -> "Iterator[Block]":
        """Parts for what takes much memory: on a CPU the epochs one by one, else the whole."""
        if self._where.fixed or self.place.count == 1:
            yield self
            return
        for e, number in enumerate(self.place.chosen):
            one = Place(np.array([number]), np.array([number]))
            part = self.epochs.of(slice(e, e + 1))
            yield Block(one, part, self._layout, self._where, self._linear.of(e))

    def add_to(self, matrix: Any, at: Array, sign: int, modes: Modes | None) -> tuple[Any, Array]:
        """Add the normal matrix to one [moved + K, moved + K] (its lower triangle), which is used up, or take it out.

        Args:
            matrix: numpy's or the device's.
            at: [moved + K] where the epochs are linearised.
            sign: 1 or -1.
            modes: the patterns of the background; None without one.

        Returns:
            The new matrix, maybe on the device, and [moved + K] this block's matrix times `at`.
        """
        patterns: tuple[Any, ...] = ()
        if modes is not None:
            patterns = (*modes.products, turned_patterns(modes, self.epochs.angle))
        rows = self._call(epoch.projected_jacobian, *patterns)
        product = self._where.call(_gram_times, rows, at)
        return self._where.add_gram(self._where.put(matrix), rows, sign), self._where.host(product)

    def flux_response(self) -> tuple[Array, Array]:
        """As `epoch.flux_response`."""
        response, weight = self._call(epoch.flux_response)
        return self._where.host(response), self._where.host(weight)

    def starlet_variance(self) -> Array:
        """As `epoch.back_projected_variance`."""
        part = self.epochs
        return self._where.host(
            self._where.call(
                epoch.back_projected_variance, part.weight, part.background_psf, layout=self._layout
            )
        )


def _gram_times(rows: Any, vector: Any, *, xp: Any) -> Any:
    """`sum_b rows^T rows vector` of [B, R, G] and [G], in the precision of the rows."""
    flat = rows.reshape(-1, rows.shape[-1])
    return flat.T @ (flat @ vector.astype(rows.dtype))


def blocks(epochs: Epochs, local: Local, positions: Array, lights: Lights, layout: Layout) -> Iterator[Block]:
    """All epochs, block by block, linearised as `Block.of` says."""
    where = device()
    for place in places(epochs.angle, layout, where):
        yield Block.of(place, epochs, local, positions, lights, layout, where)


def follow(
    followers: list[tuple[Place, epoch.Follower]],
    epochs: Epochs,
    positions: Array,
    lights: Lights,
    layout: Layout,
) -> Array:
    """Steps [E, p] of all local unknowns that are best for a step of the global ones.

    Args:
        followers: from all blocks.
        epochs: all.
        positions: step [moved].
        lights: by angle, the change of the background.
        layout: what is free.
    """
    where = device()
    steps = np.zeros((len(epochs.data), layout.unknowns))
    for place, one in followers:
        spectrum, margin = _spectra(epochs.angle[place.padded], lights)
        psf = epochs.background_psf[place.padded]
        step = where.call(epoch.follow, one, psf, positions, spectrum, layout=layout, margin=margin)
        steps[place.chosen] = where.host(step)[: place.count]
    return steps


def _spectra(angle: Array, lights: Lights) -> tuple[Any, int]:
    """The spectra of the light at these angles [B]: [1, ...] where all are the same; None for none; and its margin."""
    unique, which = np.unique(angle, return_inverse=True)
    seen = [lights(float(one)) for one in unique]
    if seen[0] is None:
        return None, 0
    spectrum = np.stack([one.spectrum for one in seen if one is not None])
    return spectrum if len(unique) == 1 else spectrum[which], seen[0].margin


def _turn(angle: Array, layout: Layout, where: Device) -> Any:
    """The rotations by these angles [B], as `render.turned_back` takes them."""
    if not layout.background or not np.any(angle):
        return None
    if not where.fixed:
        return [render.rotation_operator(float(one), layout.fine) for one in angle]
    unique, which = np.unique(angle, return_inverse=True)
    parts = [render.rotation_weights(float(one), layout.fine) for one in unique]
    return render.Turn(*(np.stack(one) if len(unique) == 1 else np.stack(one)[which] for one in zip(*parts)))


def turned_patterns(modes: Modes, angle: Array) -> Any:
    """What the seen patterns are, turned by these angles [B], in seen patterns: [B, K, K] float32; None: not turned."""
    if not np.any(angle):
        return None
    return np.stack([_turned(float(one), modes.fine, modes.seen.tobytes()) for one in angle])


@lru_cache(maxsize=64)
def _turned(angle: float, fine: int, seen: bytes) -> NDArray[np.float32]:
    modes = Modes(np.zeros(fine**2), np.frombuffer(seen, dtype=np.int_))
    waves, places = modes.products
    images = (render.rotation_operator(angle, fine) @ modes.patterns().T).T.reshape(-1, fine, fine)
    found = (waves @ images @ waves.T).reshape(len(images), -1)[:, places]
    return np.ascontiguousarray(found.T, dtype=np.float32)

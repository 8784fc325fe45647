"""Stamps of several frames as arrays of one shape, absent stars padded with no good pixel."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StampStack:
    """Stamps of S stars in F frames."""

    data: NDArray[np.float64]
    """[F, S, n, n] e-/s; 0 where a star is absent."""
    noise: NDArray[np.float64]
    """[F, S, n, n] e-/s; 1 where a star is absent."""
    good: NDArray[np.bool_]
    """[F, S, n, n] pixels to use."""
    centre: NDArray[np.float64]
    """[F, S, 2] x, y in the frame of the stamp's centre (n - 1) / 2, px; NaN where a star is absent."""
    expected: NDArray[np.float64]
    """[F, S, 2] x, y of the star by the WCS, relative to the stamp's centre, px."""
    present: NDArray[np.bool_]
    """[F, S]"""

    def picked(self, stars: list[NDArray[np.intp]], n_slots: int) -> "StampStack":
        """Some of the stars of each frame: indices [F][at most n_slots], in this order; the rest is padded anew."""
        size = self.data.shape[-1]
        picked = _empty_stack((len(stars), n_slots), size)
        for f, chosen in enumerate(stars):
            for field in fields(self):
                getattr(picked, field.name)[f, : len(chosen)] = getattr(self, field.name)[f, chosen]
        return picked


def _empty_stack(shape: tuple[int, int], size: int) -> StampStack:
    return StampStack(
        np.zeros((*shape, size, size)),
        np.ones((*shape, size, size)),
        np.zeros((*shape, size, size), dtype=bool),
        np.full((*shape, 2), np.nan),
        np.zeros((*shape, 2)),
        np.zeros(shape, dtype=bool),
    )


def read_stamps(
    workdir: Path, units: list[str], objects: list[list[str]], size: int, n_slots: int
) -> StampStack:
    """Read the stamps of some objects of each frame.

    Args:
        workdir: of the lens.
        units: [F] image_relpath of the frames.
        objects: [F] names of at most ``n_slots`` objects of each frame.
        size: side n of the stamps, px.
        n_slots: S, the same for all frames.
    """
    from lightcurver_ops.storage import regions as region_files

    stack = _empty_stack((len(units), n_slots), size)
    for f, (unit, names) in enumerate(zip(units, objects, strict=True)):
        if not names:
            continue
        stored = region_files.read_regions(region_files.regions_path(workdir, Path(unit).stem), names)
        here = slice(0, len(names))
        stack.good[f, here] = stored.good
        stack.data[f, here] = np.where(stored.good, stored.data, 0.0)
        stack.noise[f, here] = np.where(stored.good, stored.noisemap, 1.0)
        stack.centre[f, here] = stored.origin + (size - 1) / 2
        stack.expected[f, here] = stored.position - stack.centre[f, here]
        stack.present[f, here] = True
    return stack

"""Trails of satellites, aircraft and meteors: straight lines across a frame, found in the whole of it.

A stamp sees a piece of a trail only, which may look like anything. In the frame its light adds up along the line: sums
along all straight lines (the fast Radon transform of Brady 1998, SIAM J. Comput. 27, 107) of the frame in units of its
noise, with stars clipped, show trails that are fainter than the noise of a pixel. A line is a trail where it is lit in
most of its length, evenly, and as wide as the seeing at least; so that stars in a row, galaxies, arcs, spikes and
bleeding columns are none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightcurver_ops.constants import MAD_TO_SIGMA

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

LONGEST_SIDE = 512  # of the binned frame in which lines are sought
CLIP = 3.0  # sigma of a binned pixel: a star counts no more than this
SKY_BOX = 25  # binned pixels: what varies over more is sky, or a halo
SIGNIFICANT = 8.0  # sigma of the sum along a line
MOST = 6  # trails of a frame
SHORTEST = 0.35  # of the frame's shorter side
PIECES = 48  # of a line, each with its own profile
LIT = 0.75  # of the pieces along the part of a line that is a trail
PIECE_SIGMA = 2.0
RUN = 4  # pieces at an end of a trail of which `LIT` is lit, too
HALF_WINDOW = 40  # pixels to both sides that a profile is measured in
FAINTEST = 0.1  # of a pixel's noise: the mask reaches to where the trail is fainter
UNEVEN = 0.6  # 1.48 MAD of the pieces' brightness over its median: a spike fades from its star


@dataclass(frozen=True)
class Trail:
    """A straight trail: the pixels within `half_width` of the line from (x0, y0) to (x1, y1), pixels."""

    x0: float
    y0: float
    x1: float
    y1: float
    half_width: float

    def mask(self, shape: tuple[int, int]) -> Mask:
        """True in the pixels of a frame [ny, nx] that it covers."""
        length = np.hypot(self.x1 - self.x0, self.y1 - self.y0)
        ux, uy = (self.x1 - self.x0) / length, (self.y1 - self.y0) / length
        dx = np.arange(shape[1])[None, :] - self.x0
        dy = np.arange(shape[0])[:, None] - self.y0
        along, across = dx * ux + dy * uy, dy * ux - dx * uy
        reach = self.half_width
        return np.asarray((np.abs(across) <= reach) & (along >= -reach) & (along <= length + reach))


def trail_pixels(image: Array, noise: Array, fwhm: float | None = None) -> Mask:
    """True in the pixels [ny, nx] of `find_trails`."""
    covered = np.zeros(image.shape, dtype=bool)
    for trail in find_trails(image, noise, fwhm):
        covered |= trail.mask(image.shape)
    return covered


def find_trails(image: Array, noise: Array, fwhm: float | None = None) -> list[Trail]:
    """The trails of a frame, the brightest first.

    Args:
        image, noise: [ny, nx] sky-subtracted frame and its noise, any common unit; not finite where unknown.
        fwhm: seeing in pixels; no trail is narrower.
    """
    known = np.isfinite(image) & np.isfinite(noise) & (noise > 0)
    if min(image.shape) < 2 * HALF_WINDOW or not known.any():
        return []
    relative = np.where(known, image / np.where(known, noise, 1.0), 0.0)
    factor = max(1, int(np.ceil(max(image.shape) / LONGEST_SIDE)), 2)
    binned, usable = _binned(relative, known, factor)
    found: list[Trail] = []
    for _ in range(2 * MOST):
        line = _strongest_line(binned, usable)
        if line is None or len(found) == MOST:
            break
        ends = tuple(float(one) * factor + (factor - 1) / 2 for one in line)
        trail = _examined(relative, known, ends, fwhm)
        if trail is not None:
            found.append(trail)
        width = 3.0 if trail is None else trail.half_width / factor + 2.0
        usable = usable & ~Trail(*line, width).mask(binned.shape)
    return found


def _binned(relative: Array, known: Mask, factor: int) -> tuple[Array, Mask]:
    """Means of blocks of pixels in units of their noise, the sky around them taken off, and where they are usable."""
    ny, nx = (side // factor for side in relative.shape)
    cut = (slice(0, ny * factor), slice(0, nx * factor))
    blocks = (ny, factor, nx, factor)
    count = known[cut].reshape(blocks).sum(axis=(1, 3))
    mean = (
        relative[cut].reshape(blocks).sum(axis=(1, 3)) / np.maximum(count, 1) * np.sqrt(np.maximum(count, 1))
    )
    usable = count > factor**2 / 2
    sky = ndimage.median_filter(mean[::2, ::2], SKY_BOX // 2 + 1)
    sky = np.repeat(np.repeat(sky, 2, axis=0), 2, axis=1)[:ny, :nx]
    level = mean - sky
    spread = MAD_TO_SIGMA * np.median(np.abs(level[usable])) if usable.any() else 1.0
    return np.clip(level / max(spread, 1e-30), -CLIP, CLIP), usable


def _strongest_line(binned: Array, usable: Mask) -> tuple[float, float, float, float] | None:
    """Ends of the line with the most significant sum; None where none is significant."""
    best, ends = SIGNIFICANT, None
    values = np.where(usable, binned, 0.0).astype(np.float32)
    for turn in range(4):
        # The transform knows lines that rise by 0 to 1 rows per column: the other angles by mirrors and turns.
        one, mask = (_oriented(array, turn) for array in (values, usable.astype(np.float32)))
        sums, counts = _line_sums(one), _line_sums(mask)
        long_enough = counts > SHORTEST * min(binned.shape)
        snr = np.where(long_enough, sums / np.sqrt(np.maximum(counts, 1.0)), 0.0)
        # Against the scatter of all lines: stars and what is left of the sky make it larger than one.
        snr /= max(
            1.0, MAD_TO_SIGMA * float(np.median(np.abs(snr[long_enough]))) if long_enough.any() else 1.0
        )
        row, rise = np.unravel_index(int(np.argmax(snr)), snr.shape)
        if snr[row, rise] > best:
            best = float(snr[row, rise])
            ends = _back(float(row), float(row + rise), one.shape, turn)
    return ends


def _oriented(array: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    """The array turned such that its lines rise by 0 to 1: as is, mirrored, transposed, transposed and mirrored."""
    side = array.T if turn >= 2 else array
    return side[::-1] if turn % 2 else side


def _line_sums(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums along lines from row r of the first column, r from -L to ny - 1, to r + rise of the last of L columns."""
    columns = 1 << int(np.ceil(np.log2(array.shape[1])))
    rows = array.shape[0] + columns
    # [columns / w, w rises, rows]: what is added lies side by side in memory.
    sums = np.zeros((columns, 1, rows), dtype=np.float32)
    sums[: array.shape[1], 0, columns:] = array.T
    while len(sums) > 1:
        left, right = sums[0::2], sums[1::2]
        wide = left.shape[1]
        new = np.empty((len(left), 2 * wide, rows), dtype=np.float32)
        for rise in range(2 * wide):
            half, shift = rise // 2, (rise + 1) // 2
            inside = rows - shift
            np.add(left[:, half, :inside], right[:, half, shift:], out=new[:, rise, :inside])
            new[:, rise, inside:] = left[:, half, inside:]
        sums = new
    return sums[0].T


def _back(
    first: float, last: float, oriented: tuple[int, int], turn: int
) -> tuple[float, float, float, float]:
    """Ends (x0, y0, x1, y1) in the binned frame of a line of `_line_sums`, cut at the frame's edges."""
    columns = 1 << int(np.ceil(np.log2(oriented[1])))
    first, last = first - columns, last - columns
    slope = (last - first) / (columns - 1)
    low = 0.0 if slope == 0 else np.clip(-first / slope, 0, oriented[1] - 1)
    high = oriented[1] - 1.0 if slope == 0 else np.clip((oriented[0] - 1 - first) / slope, 0, oriented[1] - 1)
    x = np.array([low, high])
    y = first + slope * x
    if turn % 2:
        y = oriented[0] - 1 - y
    if turn >= 2:
        x, y = y, x
    return float(x[0]), float(y[0]), float(x[1]), float(y[1])


def _examined(relative: Array, known: Mask, ends: tuple[float, ...], fwhm: float | None) -> Trail | None:
    """The trail along a line: its place refined, its ends and its width; None where the line is no trail."""
    for _ in range(3):
        pieces, centres = _profiles(relative, known, ends)
        if pieces is None:
            return None
        offset = np.arange(-HALF_WINDOW, HALF_WINDOW + 1)
        profile = np.nanmedian(pieces, axis=0)
        smooth = ndimage.gaussian_filter1d(np.nan_to_num(profile - _floor(profile)), 1.5)
        inner = np.abs(offset) <= HALF_WINDOW // 2
        peak = int(np.argmax(np.where(inner, smooth, -np.inf)))
        above = smooth > 0.5 * smooth[peak]
        groups, _ = ndimage.label(above)
        core = groups == groups[peak]
        # A straight line through the trail's place in each piece.
        window = np.abs(offset - offset[peak]) <= 3 * core.sum()
        light = np.clip(np.nan_to_num(pieces - _floor(pieces)), 0.0, 4 * max(smooth[peak], 1e-30)) * window
        total = light.sum(axis=1)
        place = (light * offset).sum(axis=1) / np.maximum(total, 1e-30)
        slope, shift = _robust_line(np.linspace(-1, 1, len(place)), place)
        ends = _moved(ends, shift - slope, shift + slope)
    pieces, centres = _profiles(relative, known, ends)
    if pieces is None:
        return None
    core_half = max(1, int(core.sum()) // 2)
    inside = np.abs(offset) <= core_half
    floor = _floor(pieces)[:, 0]
    brightness = np.nanmean(np.where(inside, pieces, np.nan), axis=1) - floor
    error = 1.0 / np.sqrt(inside.sum() * np.maximum(centres, 1.0))
    lit = np.nan_to_num(brightness / error) > PIECE_SIGMA
    begin, end = _longest_part(lit)
    length = np.hypot(ends[2] - ends[0], ends[3] - ends[1]) * (end - begin) / len(lit)
    values = brightness[begin:end][lit[begin:end]]
    if end - begin < 4 or length < SHORTEST * min(relative.shape):
        return None
    middle = float(np.median(values))
    if MAD_TO_SIGMA * np.median(np.abs(values - middle)) > UNEVEN * middle + float(np.median(error)):
        return None
    if fwhm is not None and core.sum() < 0.7 * fwhm:
        return None
    profile = np.nanmedian(pieces[begin:end], axis=0)
    smooth = ndimage.uniform_filter1d(np.nan_to_num(profile - _floor(profile)), 3)
    noise = 1.0 / np.sqrt(3 * np.sum(centres[begin:end]))
    # Both sides are alike but for stars and noise.
    folded = np.minimum(smooth[HALF_WINDOW:], smooth[HALF_WINDOW::-1])
    faint = np.flatnonzero((folded < max(FAINTEST, 2.0 * noise)) & (offset[HALF_WINDOW:] > core_half))
    half = (int(faint[0]) if len(faint) else HALF_WINDOW) + 2
    step = np.array([ends[2] - ends[0], ends[3] - ends[1]]) / len(lit)
    # A trail that ends in the frame is masked a piece further; one that does not, to the edge.
    first = np.array(ends[:2]) + step * max(begin - 1, -len(lit) if begin == 0 else 0)
    last = np.array(ends[:2]) + step * (min(end + 1, len(lit)) if end < len(lit) else 2 * len(lit))
    return Trail(float(first[0]), float(first[1]), float(last[0]), float(last[1]), float(half))


def _profiles(relative: Array, known: Mask, ends: tuple[float, ...]) -> tuple[Array | None, Array]:
    """Profiles across each piece of a line [PIECES, 2 HALF_WINDOW + 1] (medians along it), and pixels along each."""
    x0, y0, x1, y1 = ends
    length = np.hypot(x1 - x0, y1 - y0)
    each = int(length / PIECES)
    if each < 2:
        return None, np.zeros(0)
    along = (np.arange(PIECES * each) + 0.5) * length / (PIECES * each)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    across = np.arange(-HALF_WINDOW, HALF_WINDOW + 1)
    x = np.rint(x0 + ux * along[:, None] - uy * across).astype(int)
    y = np.rint(y0 + uy * along[:, None] + ux * across).astype(int)
    ny, nx = relative.shape
    there = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    x, y = np.clip(x, 0, nx - 1), np.clip(y, 0, ny - 1)
    values = np.where(there & known[y, x], relative[y, x], np.nan).reshape(PIECES, each, len(across))
    with np.errstate(invalid="ignore"):
        middle = np.nanmedian(np.where(np.isfinite(values).any(axis=1, keepdims=True), values, 0.0), axis=1)
    return middle, np.full(PIECES, each * 2 / np.pi)


def _floor(profile: Array) -> Array:
    """The sky beside a line: the median of the outer quarters of profiles [..., n], [..., 1]."""
    quarter = profile.shape[-1] // 4
    return np.nanmedian(
        np.concatenate([profile[..., :quarter], profile[..., -quarter:]], axis=-1), axis=-1, keepdims=True
    )


def _robust_line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and value at 0 of a line through most of the points."""
    good = np.isfinite(y)
    slope, value = 0.0, float(np.median(y[good]))
    for _ in range(5):
        left = y - slope * x - value
        scatter = max(MAD_TO_SIGMA * float(np.median(np.abs(left[good]))), 0.2)
        kept = good & (np.abs(left) < 2.5 * scatter)
        if kept.sum() < 3:
            break
        slope, value = (float(one) for one in np.polyfit(x[kept], y[kept], 1))
    return slope, value


def _moved(ends: tuple[float, ...], first: float, last: float) -> tuple[float, ...]:
    """A line whose ends move across it."""
    x0, y0, x1, y1 = ends
    length = np.hypot(x1 - x0, y1 - y0)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    return x0 - uy * first, y0 + ux * first, x1 - uy * last, y1 + ux * last


def _longest_part(lit: Mask) -> tuple[int, int]:
    """The longest stretch [begin, end) that begins and ends lit and of which `LIT` is."""
    total = np.concatenate([[0], np.cumsum(lit)])
    best = (0, 0)
    places = [int(one) for one in np.flatnonzero(lit)]
    for begin in places:
        for end in (one + 1 for one in reversed(places)):
            if end - begin <= best[1] - best[0]:
                break
            if total[end] - total[begin] >= LIT * (end - begin):
                best = (begin, end)
                break
    begin, end = best
    # A star beyond the end does not make the trail longer.
    while end - begin > RUN and lit[end - RUN : end].mean() < LIT:
        end -= 1
    while end - begin > RUN and lit[begin : begin + RUN].mean() < LIT:
        begin += 1
    return begin, end

"""Two publications of a light curve compared: which points differ, by how much, and what caused it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import photometry
from lightcurver_ops.bookkeeping.photometry import same_values
from lightcurver_ops.stages.base import joined
from lightcurver_ops.stages.provenance import values_that_matter
from lightcurver_ops.stages.publishing import provenance_of

_COMPARED = ("mjd", "flux", "flux_uncertainty", "zeropoint")


@dataclass(frozen=True)
class PointChange:
    """A point in two publications; flux and error in e-/s, None where it is in but one of them."""

    frame: str
    label: str
    mjd: float
    old: tuple[float, float] | None
    new: tuple[float, float] | None
    causes: list[str]

    @property
    def kind(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        return "added" if self.old is None else "removed" if self.new is None else "changed"

    @property
    def sigma(self) -> float | None:
        """The change of the flux in units of the older error."""
        if self.old is None or self.new is None:
            return None
        difference = self.new[0] - self.old[0]
        return difference / self.old[1] if self.old[1] > 0 else None


@dataclass(frozen=True)
class Difference:
    """One thing that differs in the origin of a frame: what, and how."""

    kind: str
    details: str

    @property
    def text(self) -> str:
        """Both, for people."""
        return self.kind + self.details


@dataclass(frozen=True)
class Comparison:
    """What differs between two publications; causes: those that concern more than single frames."""

    changes: list[PointChange]
    unchanged: int
    causes: list[str]

    def of_kind(self, kind: str) -> list[PointChange]:
        """The changes that are ``added``, ``removed`` or ``changed``."""
        return [change for change in self.changes if change.kind == kind]


def compare_publications(connection: sa.Connection, workdir: Path, old: sa.Row, new: sa.Row) -> Comparison:
    """Compare two publications of one filter.

    Raises:
        ConfigurationError: a snapshot is missing or was changed.
    """
    before, after = (photometry.named_points_of(connection, row.id) for row in (old, new))
    origins = provenance_of(workdir, old), provenance_of(workdir, new)
    changes, unchanged = [], 0
    for place in sorted(before.keys() | after.keys(), key=lambda key: (_mjd(key, before, after), *key)):
        mine, theirs = before.get(place), after.get(place)
        if mine and theirs and same_values(*({key: one[key] for key in _COMPARED} for one in (mine, theirs))):
            unchanged += 1
            continue
        causes = _causes_of_point(place[0], mine, theirs, *origins)
        changes.append(
            PointChange(*place, _mjd(place, before, after), _measured(mine), _measured(theirs), causes)
        )
    frames = {place[0] for place in before}, {place[0] for place in after}
    causes = _causes(old, new, *origins, *frames)
    zeropoints = [next((point["zeropoint"] for point in points.values()), None) for points in (before, after)]
    if all(zeropoints) and not same_values(*zeropoints):
        causes.append(f"zero point: {zeropoints[0]:.4f} -> {zeropoints[1]:.4f} mag")
    return Comparison(changes, unchanged, causes)


def _mjd(place: tuple[str, str], *tables: photometry.Points) -> float:
    return next(table[place]["mjd"] for table in tables if place in table)


def _measured(point: dict[str, Any] | None) -> tuple[float, float] | None:
    return None if point is None else (point["flux"], point["flux_uncertainty"])


Document = dict[str, Any] | None


def _causes_of_point(frame: str, old: Any, new: Any, before: Document, after: Document) -> list[str]:
    if before is None or after is None:
        return ["not known: no snapshot"]
    if old is None and frame in before["frames"]:
        return ["the image was not measured in this frame before"]
    if new is None and frame in after["frames"]:
        return ["the image is not measured in this frame any more"]
    if old is None:
        reason = before["unused"].get(frame)
        return [f"used now; before: {reason}" if reason else "a new frame"]
    if new is None:
        return [after["unused"].get(frame) or "the frame is gone"]
    found = frame_differences(before["frames"][frame], after["frames"][frame], before, after)
    causes = [difference.text for difference in found]
    if not same_values(old["zeropoint"], new["zeropoint"]):
        causes.append("zero point")
    return causes or ["the joint model: see the causes above"]


def frame_differences(
    old: dict[str, Any], new: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> list[Difference]:
    """What differs in the origin of a frame between two documents."""
    differences: list[Difference] = []

    def note(kind: str, details: str = "") -> None:
        differences.append(Difference(kind, details))

    if old["raw"]["sha256_of_pixels"] != new["raw"]["sha256_of_pixels"]:
        note("pixels of the raw file")
    if not same_values(*([one[key] for key in ("mjd", "exptime", "gain")] for one in (old, new))):
        note("header of the raw file")
    if not same_values(old["plate_solution"], new["plate_solution"]):
        note("plate solution")
    psf_stars = _ids(old["psf"], before), _ids(new["psf"], after)
    if psf_stars[0] != psf_stars[1]:
        note("PSF stars", f" ({_exchanged(*psf_stars, before, after)})")
    elif not same_values(*((one["psf"] or {}).get("inputs_hash") for one in (old, new))):
        note("PSF made again from other inputs")
    elif not same_values(*((one["psf"] or {}).get("chi2") for one in (old, new))):
        note("PSF")
    norm_stars = _ids(old["normalization"], before), _ids(new["normalization"], after)
    if norm_stars[0] != norm_stars[1]:
        note("stars of the normalization", f" ({_exchanged(*norm_stars, before, after)})")
    coefficients = [(one["normalization"] or {}).get("coefficient") for one in (old, new)]
    if not same_values(*coefficients):
        both = all(value is not None for value in coefficients)
        details = f" {coefficients[0]:.5f} -> {coefficients[1]:.5f}" if both else ""
        note("normalization coefficient", details)
    return differences


def _ids(part: dict[str, Any] | None, document: dict[str, Any]) -> set[str]:
    """Catalogue identifiers of stars: their names may go to others with another selection."""
    return {document["stars"].get(name, name) for name in (part or {}).get("stars", [])}


def _exchanged(old: set[str], new: set[str], before: dict[str, Any], after: dict[str, Any]) -> str:
    names = {star: name for document in (before, after) for name, star in document["stars"].items()}
    gone, come = (sorted(names.get(star, star) for star in stars) for stars in (old - new, new - old))
    return ", ".join([*(f"-{name}" for name in gone), *(f"+{name}" for name in come)])


def _causes(
    old: sa.Row, new: sa.Row, before: Document, after: Document, frames: set[str], frames_now: set[str]
) -> list[str]:
    causes = []
    mine, theirs = (values_that_matter(json.loads(row.configuration)) for row in (old, new))
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            causes.append(
                f"configuration: {key}: {json.dumps(mine.get(key))} -> {json.dumps(theirs.get(key))}"
            )
    if old.code_version != new.code_version:
        causes.append(f"code: lightcurver-ops {old.code_version} -> {new.code_version}")
    if before is None or after is None:
        return [*causes, "not known more precisely: one of them was published before snapshots were kept"]
    for what, called in (("stages", "version of the stage"), ("libraries", "library")):
        for name in sorted(before[what].keys() | after[what].keys()):
            was, now = before[what].get(name), after[what].get(name)
            if was != now:
                causes.append(f"code: {called} {name}: {was} -> {now}")
    for what, called in (("catalogue", "star catalogue"), ("star_selection", "selection of reference stars")):
        if before[what] != after[what]:
            causes.append(f"{called}: another one ({before[what]} -> {after[what]})")
    if come := sorted(frames_now - frames):
        causes.append(f"frames: {len(come)} more: {joined(come, 5)}")
    if gone := sorted(frames - frames_now):
        causes.append(f"frames: {len(gone)} fewer: {joined(gone, 5)}")
    changed: dict[str, int] = {}
    for frame in frames & frames_now:
        for difference in frame_differences(before["frames"][frame], after["frames"][frame], before, after):
            what = difference.kind
            changed[what] = changed.get(what, 0) + 1
    causes += [f"{what}: in {count} of {len(frames & frames_now)} frames" for what, count in changed.items()]
    factors = [_factor(document["errors"]) for document in (before, after)]
    if not same_values(*factors):
        causes.append(f"calibration of the errors: factor {factors[0]:.4g} -> {factors[1]:.4g}")
    if before["model"] != after["model"] and not causes:
        causes.append("the joint model: an update of an earlier fit, or a fit from scratch")
    return causes


def _factor(errors: dict[str, Any] | None) -> float:
    """What the errors of a light curve were multiplied by."""
    return float(errors["error_factor"]) if errors and errors["errors_calibrated"] else 1.0

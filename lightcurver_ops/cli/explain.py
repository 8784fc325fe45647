"""`lcops explain`: where a point of the light curve comes from."""

import json
from typing import Annotated, Any, Literal

import typer

from lightcurver_ops.bookkeeping import photometry
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.cli.common import Config, FilterName, Version, counted, opened, table
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.initialize_database import ensure_initialized


def explain(
    config: Config,
    mjd: Annotated[
        float | None, typer.Option(help="The point nearest to this time (MJD, UTC).", metavar="MJD")
    ] = None,
    frame: Annotated[
        str | None,
        typer.Option(help="The point of a frame: number, name or pattern, used or not.", metavar="FRAME"),
    ] = None,
    per: Annotated[
        Literal["night", "epoch"] | None,
        typer.Option(
            help="With --mjd: the point of a night or of an exposure; default: as `lcops lightcurve`."
        ),
    ] = None,
    filter_name: FilterName = None,
    version: Version = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show where a point comes from: frames, raw files, PSFs and their stars, coefficients, zero points, code."""
    from lightcurver_ops.stages.explanation import explain_frame, explain_mjd, frame_called
    from lightcurver_ops.stages.light_curve_products import published_columns
    from lightcurver_ops.stages.publishing import chosen_publication

    if (mjd is None) == (frame is None):
        raise ConfigurationError("say which point: either --mjd TIME or --frame FRAME")
    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            if mjd is not None:
                publication = chosen_publication(connection, lens.name, config, filter_name, version)
                if per is None:
                    nights = published_columns(connection, publication.id)[2]
                    per = "night" if len(nights["mjd"]) > 1 else "epoch"
                found = explain_mjd(connection, lens, publication, mjd, per)
            else:
                assert frame is not None
                own = frame_called(connection, lens, frame).filter
                if own in photometry.published_filters(connection, lens.name):
                    publication = chosen_publication(connection, lens.name, config, own, version)
                    found = explain_frame(connection, lens, publication, frame)
                else:
                    found = explain_frame(connection, lens, None, frame)
    if as_json:
        typer.echo(json.dumps(found, indent=2, sort_keys=True))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    title = f"{found['lens']}, filter {found['filter']}"
    if "version" in found:
        title += f", version {found['version']} of {found['published']}"
    typer.echo(title)
    if "point" in found:
        place = f"{found['per']} at MJD {found['mjd']:.5f}, {counted(len(found['frames']), 'frame')}"
        if "asked_mjd" in found:
            place += f" (asked for {found['asked_mjd']:.5f}: {found['distance_days']:.5f} d away)"
        typer.echo(place)
        _print_point(found["point"], found["common_errors"] or {})
    elif "version" in found:
        typer.echo("not in this version of the light curve")
    else:
        typer.echo("there is no light curve yet")
    if found.get("snapshot") is False:
        typer.echo("note: published before snapshots were kept; what follows is the bookkeeping of today")
    for frame in found["frames"]:
        typer.echo()
        _print_frame(frame)
    for item in found.get("left_out", []):
        typer.echo(f"\nnot in the point: {item['frame']}, MJD {item['mjd']:.5f}: {item['reason']}")
    typer.echo("\nwhat all frames share")
    _print_ledger(found["ledger"])
    _print_shared(found)


def _print_point(point: dict[str, Any], common: dict[str, Any]) -> None:
    labels = [name.removesuffix("_d_flux") for name in point if name.endswith("_d_flux")]
    rows = [
        [
            label,
            *(_number(point[f"{label}_{kind}"], digits) for kind, digits in
              (("mag", 4), ("d_mag", 4), ("flux", 4), ("d_flux", 4))),
            _number(common.get(label, {}).get("flux_uncertainty"), 4),
        ]
        for label in labels
    ]  # fmt: skip
    header = ["image", "mag", "+-", "flux [e-/s]", "+-", "all points +-"]
    typer.echo(table(header, rows, numeric={1, 2, 3, 4, 5}))


def _print_frame(frame: dict[str, Any]) -> None:
    raw, solution, psf = frame["raw"], frame["plate_solution"], frame["psf"]
    used = "used" if frame["used"] else f"NOT used: {frame['why_not_used']}"
    typer.echo(
        f"{frame['frame']} (frame {frame['id']}), MJD {frame['mjd']:.6f}, {frame['exptime']:g} s: {used}"
    )
    lines = [
        ("raw file", f"{raw['file']}: {frame['raw_file_now']}"),
        ("  sha256", raw["sha256"] or "-"),
        ("  of its pixels", raw["sha256_of_pixels"]),
        (
            "plate solution",
            f"{solution['method'] or 'none'}, {solution['stars'] or '-'} stars, "
            f"RMS {_number(solution['rms_arcsec'], 3)} arcsec",
        ),
        (
            "PSF",
            "none"
            if psf is None
            else f"{psf['file']}: chi2 {_number(psf['chi2'], 3)}, FWHM {_number(psf['fwhm_arcseconds'], 2)} arcsec, "
            f"{counted(len(psf['stars']), 'star')}: {' '.join(psf['stars'])}",
        ),
        ("normalization", _normalization(frame["normalization"])),
        ("zero point", _zero_point(frame["zero_point"])),
        (
            "eliminated",
            f"by {frame['eliminated_by']}: {frame['comment'] or 'no comment'}"
            if frame["eliminated"]
            else "no",
        ),
    ]
    if frame["warnings"]:
        lines.append(("warning", frame["warnings"]))
    if frame["changed_since"]:
        lines.append(("changed since", "; ".join(frame["changed_since"])))
    for name, text in lines:
        typer.echo(f"  {name:<15} {text}")
    _print_ledger(frame["ledger"])


def _print_ledger(entries: list[dict[str, Any]]) -> None:
    header = ["stage", "status", "made at", "code", "tries", "run", "reason"]
    rows = [
        [
            entry["stage"],
            entry["status"],
            (entry["made_at"] or "-")[:19],
            entry["code_version"],
            str(entry["attempts"]),
            str(entry["run"] or "-"),
            entry["reason"] or "",
        ]
        for entry in entries
    ]
    for line in table(header, rows, numeric={4, 5}).splitlines():
        typer.echo(f"  {line}")


def _normalization(normalization: dict[str, Any] | None) -> str:
    if normalization is None:
        return "none"
    return (
        f"{normalization['coefficient']:.5f} +- {_number(normalization['standard_error'], 5)}, from "
        f"{counted(normalization['n_stars'], 'star')}; measured: {' '.join(normalization['stars']) or '-'}"
    )


def _zero_point(zero_point: dict[str, Any] | None) -> str:
    if zero_point is None:
        return "none"
    return (
        f"{zero_point['value']:.4f} mag, scatter {_number(zero_point['scatter'], 4)}, from "
        f"{counted(zero_point['n_stars'], 'star')} of {zero_point['catalogue']}"
    )


def _print_shared(found: dict[str, Any]) -> None:
    from lightcurver_ops.stages.provenance import changed_from_defaults

    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    stages = ", ".join(f"{name} {version}" for name, version in found["stages"].items())
    errors = found["errors"]
    if errors and errors["errors_calibrated"]:
        controls = counted(len(errors["stars"]), "control star")
        calibration = f"multiplied by {errors['error_factor']:.3f}, from {controls}"
    else:
        calibration = "as the model gives them"
    for name, text in (
        ("code", f"lightcurver-ops {found['code_version']}; {libraries}"),
        ("stages", stages),
        ("catalogue", str(found["catalogue"])),
        ("errors", calibration),
        ("configuration", f"hash {found['configuration_hash']}; what is not the default:"),
    ):
        typer.echo(f"{name:<15} {text}")
    for key, value in changed_from_defaults(found["configuration"]).items():
        typer.echo(f"  {key}: {json.dumps(value)}")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

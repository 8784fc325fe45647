"""`lcops stars`: list, exclude, include."""

from typing import Annotated

import typer
from sqlalchemy import Connection, Row

from lightcurver_ops.bookkeeping import photometry
from lightcurver_ops.bookkeeping import stars as star_rows
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.cli.common import Config, counted, opened, table, user_name
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations import decisions
from lightcurver_ops.operations.reprocessing import stars_called
from lightcurver_ops.stages.control_stars import candidates_of_lens, controls_of_lens
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.reference_stars import PURPOSES, Purpose, number_wanted, ranked_stars

app = typer.Typer(help="List reference stars, take bad ones out, take them back in.", no_args_is_help=True)

Names = Annotated[
    list[str],
    typer.Argument(
        help="Names of reference stars; `lcops stars list` has them.", metavar="STAR", show_default=False
    ),
]


@app.command("list", short_help="List the reference stars and how they behave.")
def list_stars(config: Config) -> None:
    """List the reference stars by distance.

    With the flux of their neighbours, their ranks for the PSF and the normalization (1 is best; control stars and
    their spares have none), their scatter and weight in the normalization, whether they vary, what speaks against
    them as control stars, and who took them out.
    """
    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            selection = star_rows.current_selection(connection, lens.name)
            known = star_rows.stars_of(connection, lens.name, selection) if selection else []
            norms = photometry.star_normalizations_of(connection, lens.name, selection) if selection else []
            out = {row.star_gaia_id: row for row in star_rows.exclusions_of(connection, lens.name)}
            controls = _controls(connection, lens.config, selection)
            faults = star_rows.control_choice_of(connection, lens.name, selection) if selection else []
        ranks = {
            purpose: _ranks(lens.config, purpose, known, {*out, *controls}) | controls for purpose in PURPOSES
        }
    behaviour: dict[str, list[str]] = {}
    for row in norms:
        scatter = "-" if row.scatter is None else f"{100 * row.scatter:.2f}"
        weight = "-" if row.weight is None else f"{row.weight:.2f}"
        behaviour.setdefault(row.star_gaia_id, []).append(
            f"{row.filter}: {scatter} % (weight {weight}{', variable' if row.variable else ''})"
        )
    for row in faults:
        if row.fault:
            behaviour.setdefault(row.star_gaia_id, []).append(f"{row.filter}: {row.fault}")
    rows = [
        [
            star.name,
            star.gaia_id,
            "-" if star.gmag is None else f"{star.gmag:.2f}",
            f"{star.distance_to_roi_arcsec:.1f}",
            "-" if star.contamination is None else f"{100 * star.contamination:.1f}",
            *(ranks[purpose].get(star.gaia_id, "-") for purpose in PURPOSES),
            "; ".join(behaviour.get(star.gaia_id, ["-"])),
            f"{out[star.gaia_id].decided_by}: {out[star.gaia_id].comment}" if star.gaia_id in out else "",
        ]
        for star in known
    ]
    if rows:
        header = [
            "name",
            "gaia id",
            "G",
            "from ROI [arcsec]",
            "neighbours [%]",
            "PSF",
            "norm.",
            "scatter",
            "excluded by",
        ]
        typer.echo(table(header, rows, numeric={2, 3, 4, 5, 6}) + "\n")
        uses = [_use(lens.config, purpose) for purpose in PURPOSES]
        typer.echo(
            f"a frame uses, of the stars in it, {uses[0]} for the PSF, {uses[1]} for the normalization"
        )
    typer.echo(
        f"{counted(len(rows), 'reference star')}, {sum(star.gaia_id in out for star in known)} excluded"
    )


def _ranks(config: LensConfig, purpose: Purpose, known: list[Row], excluded: set[str]) -> dict[str, str]:
    """gaia id: the star's place in the order of choice, 1 for the best."""
    try:
        ranked = ranked_stars(config, purpose, known, excluded)
    except ConfigurationError:
        return {}  # names that no star has: who looks them up here must see the list
    named = number_wanted(config, purpose) is None
    return {star.gaia_id: "named" if named else str(rank) for rank, star in enumerate(ranked, 1)}


def _controls(connection: Connection, config: LensConfig, selection: str | None) -> dict[str, str]:
    """gaia id: ``control``, of those that are held back and not chosen ``spare``."""
    if selection is None:
        return {}
    try:
        held_back = candidates_of_lens(connection, config, selection).ids
        return dict.fromkeys(held_back, "spare") | dict.fromkeys(
            controls_of_lens(connection, config, selection).ids, "control"
        )
    except ConfigurationError:
        return {}  # as in _ranks


def _use(config: LensConfig, purpose: Purpose) -> str:
    number = number_wanted(config, purpose)
    return "those that the configuration names" if number is None else f"the best {number}"


@app.command("exclude", short_help="Take stars out of the PSF and the normalization.")
def exclude(
    config: Config,
    names: Names,
    comment: Annotated[str, typer.Option(help="Why; kept with the decision.", metavar="TEXT")],
) -> None:
    """Take stars out of the PSF, the normalization and the zero points; `lcops run` makes again what used them."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with writing(lens.engine) as connection:
            chosen = stars_called(connection, lens, names)
            decisions.exclude_stars(connection, lens.name, chosen, comment, user_name())
    typer.echo(f"{counted(len(chosen), 'star')} excluded; `lcops run {config}` updates the light curve")


@app.command("include", short_help="Take excluded stars back in.")
def include(config: Config, names: Names) -> None:
    """Take excluded stars back in, whoever excluded them."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with writing(lens.engine) as connection:
            chosen = stars_called(connection, lens, names)
            back = decisions.include_stars(connection, lens.name, chosen, user_name())
    if back:
        typer.echo(f"{counted(len(back), 'star')} included; `lcops run {config}` updates the light curve")
    else:
        typer.echo("nothing to include: no such star was excluded")

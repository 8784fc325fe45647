"""`lcops db`: upgrade, status, copy, roles."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lightcurver_ops.bookkeeping import roles as database_roles
from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.copying import copy_lens
from lightcurver_ops.bookkeeping.engine import is_absent, open_engine, parsed_url, shown
from lightcurver_ops.bookkeeping.inventory import inventory
from lightcurver_ops.cli.common import table
from lightcurver_ops.config import LensConfig, load_lens
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.publishing import forget_secrets

app = typer.Typer(
    help="Upgrade the bookkeeping's database, look at it, copy lenses between the embedded files and Postgres, share "
    "it with roles.\n\nURLs on the command line are without password, since everybody sees it there: ~/.pgpass or "
    "PGPASSWORD give it.",
    no_args_is_help=True,
)

EMBEDDED, CONFIGURED = "embedded", "configured"

_where_help = "Lens files, whose databases are meant, or URLs (postgresql://user@host/name)."
Where = Annotated[list[str], typer.Argument(help=_where_help, metavar="WHERE", show_default=False)]


@app.command(short_help="Bring databases to the schema of this version.")
def upgrade(where: Where) -> None:
    """Make the tables in an empty Postgres database, or bring those of an older version up to date.

    Each database in one transaction. `lcops run` does the same when its role may; take a backup before. Of lens files
    the snapshots of light curves are looked through, too: earlier versions kept the URL there that web pages read with.
    """
    for url in _urls(where):
        if is_absent(url):
            typer.echo(f"{shown(url)}: not there yet; the first `lcops run` makes it")
            continue
        engine = open_engine(url)
        try:
            before = schema.current_revision(engine)
            schema.upgrade(engine)
            after = schema.current_revision(engine)
        finally:
            engine.dispose()
        change = (
            f"is up to date, schema {after}" if before == after else f"schema {before or '(none)'} -> {after}"
        )
        typer.echo(f"{shown(url)}: {change}")
    for text in where:
        if "://" not in text:
            _forget_secrets(Path(text))


def _forget_secrets(config: Path) -> None:
    lens = Lens(load_lens(config))
    if is_absent(lens.config.database_url):
        return
    try:
        forgotten = forget_secrets(lens)
    finally:
        lens.close()
    if forgotten:
        typer.echo(
            f"{lens.name}: database_read_only was taken out of {forgotten} snapshots in "
            f"{lens.workdir / 'publications'}. If it held a password, change that: others may have read these files"
        )


@app.command(short_help="Show version, schema, role and lenses of databases.")
def status(where: Where) -> None:
    """Show what each database is, whether its schema is up to date, what our role may do, and its lenses."""
    for number, url in enumerate(_urls(where)):
        if number:
            typer.echo()
        typer.echo(f"database  {shown(url)}")
        if is_absent(url):
            typer.echo("          not there yet; the first `lcops run` makes it")
            continue
        engine = open_engine(url)
        try:
            found = inventory(engine)
        finally:
            engine.dispose()
        typer.echo(f"engine    {found.version}, {found.size / 1e6:.1f} MB")
        typer.echo(f"schema    {_schema_state(found.revision)}")
        if found.role is not None:
            typer.echo(f"role      {found.role}")
        if found.lenses:
            rows = [list(map(str, row)) for row in found.lenses]
            typer.echo(
                "\n" + table(["lens", "frames", "light curves", "last run (UTC)"], rows, numeric={1, 2})
            )


def _schema_state(revision: str | None) -> str:
    newest = schema.newest_revision()
    if revision == newest:
        return f"{revision}, up to date"
    return f"{revision or '(none)'}, expected {newest}: `lcops db upgrade`"


@app.command(short_help="Copy lenses from one database into another.")
def copy(
    configs: Annotated[
        list[Path], typer.Argument(help="The lenses' YAML files.", metavar="CONFIG", show_default=False)
    ],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="embedded: the file in the working directory; configured: what the lens's file "
            "says; or a URL.",
            metavar="WHERE",
        ),
    ] = EMBEDDED,
    target: Annotated[str, typer.Option("--to", help="The same.", metavar="WHERE")] = CONFIGURED,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete other rows that the target has of the lens first.")
    ] = False,
) -> None:
    """Copy all rows of each lens, compare them one by one, and only then let them count.

    One transaction per lens: if anything goes wrong, or a row differs, the target is as it was. Nothing is changed
    in the source, nor in the working directory. A target that has other rows of the lens is refused.
    """  # fmt: skip
    lenses = [load_lens(config) for config in configs]
    ways = [(_end(lens, source), _end(lens, target)) for lens in lenses]
    for config, lens, (here, there) in zip(configs, lenses, ways, strict=True):
        if here == there:
            raise ConfigurationError(
                f"{config}: --from and --to are both {shown(here)}; say where to with --to, or write `database:` "
                "into the file"
            )
        typer.echo(copy_lens(here, there, lens.name, replace=replace).summary())
        if there != lens.database_url:
            typer.echo(f"note: {config} still names {shown(lens.database_url)}", err=True)


@app.command(short_help="Make a writer and a reader of a Postgres database.")
def roles(
    where: Annotated[
        str,
        typer.Argument(
            help="A lens file or URL; connects as the owner of the tables.",
            metavar="WHERE",
            show_default=False,
        ),
    ],
    writer: Annotated[
        str, typer.Option(help="Role of the programs that reduce frames.", metavar="NAME")
    ] = database_roles.WRITER,
    reader: Annotated[
        str, typer.Option(help="Role of the web pages.", metavar="NAME")
    ] = database_roles.READER,
    ask: Annotated[
        bool, typer.Option("--ask-passwords", help="Ask for both passwords, which nobody else sees.")
    ] = False,
) -> None:
    """Make both roles where they do not exist, and give them their rights; may be repeated.

    The writer may read and change rows, the reader may read them; neither may change tables. Passwords come from the
    environment (LCOPS_WRITER_PASSWORD, LCOPS_READER_PASSWORD) or from --ask-passwords; without, they stay as they are.
    """  # fmt: skip
    (url,) = _urls([where])
    passwords = [os.environ.get(name) or None for name in ("LCOPS_WRITER_PASSWORD", "LCOPS_READER_PASSWORD")]
    if ask:
        passwords = [
            typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True)
            for name in (writer, reader)
        ]
    engine = open_engine(url)
    try:
        said = database_roles.set_up(
            engine, database_roles.Role(writer, passwords[0]), database_roles.Role(reader, passwords[1])
        )
    finally:
        engine.dispose()
    for line in said:
        typer.echo(line)


def _urls(where: list[str]) -> list[str]:
    """The databases meant, each once."""
    found = [_given(text) if "://" in text else load_lens(text).database_url for text in where]
    return list(dict.fromkeys(found))


def _end(lens: LensConfig, text: str) -> str:
    if text in (EMBEDDED, CONFIGURED):
        return lens.embedded_url if text == EMBEDDED else lens.database_url
    if "://" not in text:
        raise ConfigurationError(f"'{text}' is neither '{EMBEDDED}' nor '{CONFIGURED}' nor a URL")
    return _given(text)


def _given(url: str) -> str:
    """A URL of the command line.

    Raises:
        ConfigurationError: it has a password.
    """
    parsed = parsed_url(url)
    if parsed.password is not None or any("password" in key.lower() for key in parsed.query):
        raise ConfigurationError(
            f"{shown(url)}: a password on the command line is seen by everybody on this machine: leave it out, put it "
            "into ~/.pgpass (host:port:database:user:password) or PGPASSWORD, and change it"
        )
    return url

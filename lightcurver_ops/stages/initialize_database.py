"""Stage 0: an empty bookkeeping at the newest schema revision, with this lens in it."""

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, schema
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import lenses
from lightcurver_ops.errors import ConfigurationError, NothingToDo
from lightcurver_ops.stages.base import WHOLE_LENS, Report, Run, RunOptions, Stage


class InitializeDatabase(Stage):
    """Makes or upgrades the schema and enters the lens."""

    name = "initialize_database"
    title = "Make or upgrade the bookkeeping"
    config_keys = ("name", "workdir", "roi.ra", "roi.dec")

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        return {WHOLE_LENS: self.hash_inputs(schema.newest_revision())}

    def run(self, options: RunOptions | None = None) -> Report:
        """As every stage; the schema comes first, since the ledger lives in it."""
        engine = self.lens.engine
        self._make_workdir()
        if schema.current_revision(engine) != schema.newest_revision():
            schema.upgrade(engine)
        with reading(engine) as connection:
            known = connection.execute(sa.select(lenses).where(lenses.c.name == self.lens.name)).first()
        if known is None:
            with writing(engine) as connection:
                self._enter(connection)
        return super().run(options)

    def make(self, units: dict[str, str], run: Run) -> None:
        for unit, inputs_hash in units.items():
            run.done(unit, inputs_hash, self._enter)

    def _enter(self, connection: sa.Connection) -> None:
        roi = self.config.roi
        row = {
            "name": self.lens.name,
            "roi_ra": roi.ra,
            "roi_dec": roi.dec,
            "workdir": str(self.lens.workdir),
        }
        ledger.upsert(connection, lenses, [row])

    def _make_workdir(self) -> None:
        try:
            self.lens.workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"workdir = {self.lens.workdir}: cannot be made: {error.strerror}; choose another workdir, or give "
                "this user the right to write there"
            ) from error


def ensure_initialized(lens) -> None:
    """Run stage 0 where it is due; every entry point starts with it."""
    try:
        InitializeDatabase(lens).run()
    except NothingToDo:
        return

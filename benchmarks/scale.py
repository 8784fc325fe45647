"""An observatory of many lenses: DAG files, scheduler, pages, databases, and how long its night takes."""

import os
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from benchmarks import bookkeeping, dag_parsing, night, pages, scheduling
from benchmarks.bookkeeping import Shape
from benchmarks.report import Report
from lightcurver_ops.airflow.local import LocalAirflow
from lightcurver_ops.bookkeeping.engine import open_engine
from lightcurver_ops.config.observatory import Pools
from lightcurver_ops.demo import free_port
from lightcurver_ops.simulation.options import SeasonOptions
from lightcurver_ops.stages.pipeline import STAGE_NAMES

PURPOSE = (
    "An observatory of many lenses, with simulated bookkeeping: DAG files, scheduler, pages, databases, and the hours "
    "of a night computed from measured stages."
)
SOURCE = Path(__file__).parents[1]
SQLITE, POSTGRES = "SQLite", "Postgres"


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        lenses: numbers of lenses.
        shape: of the bookkeeping of each.
        postgres: URL of a server on which databases may be made; None: SQLite alone.
        patience: with the scheduler.
        season: whose last night is timed, stage by stage; at 50 epochs and more the model is updated.
        settings: sections of its lens's configuration.
        last: the last stage that is timed.
        machines: cores, and slots of the pools, for which the night is computed.
    """

    lenses: tuple[int, ...] = (50, 200, 1000)
    shape: Shape = field(default_factory=Shape)
    postgres: str | None = None
    patience: scheduling.Patience = field(default_factory=scheduling.Patience)
    season: SeasonOptions = field(
        default_factory=lambda: SeasonOptions(name="bench", seed=1, n_nights=14, exposures_per_night=5)
    )
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    last: str = STAGE_NAMES[-1]
    machines: tuple[tuple[int, Pools], ...] = (
        (8, Pools()),
        (32, Pools(gpu=2, frames=24, plate_solving=16, catalogues=4, joint=16)),
        (128, Pools(gpu=8, frames=96, plate_solving=64, catalogues=8, joint=64)),
    )

    @property
    def engines(self) -> tuple[str, ...]:
        return (SQLITE,) if self.postgres is None else (SQLITE, POSTGRES)


def sizes(arguments: Namespace) -> Sizes:
    """The sizes that the command line asks for."""
    chosen = Sizes(postgres=arguments.postgres)
    if arguments.quick:
        chosen = replace(
            chosen,
            lenses=(20,),
            shape=Shape(frames=100),
            patience=scheduling.Patience(60.0, 20.0),
            season=replace(chosen.season, n_nights=4),
        )
    return replace(chosen, lenses=tuple(arguments.lenses)) if arguments.lenses else chosen


def run(report: Report, size: Sizes) -> None:
    """Measure everything; each number of lenses leaves its rows before the next one begins."""
    tables = _Tables(report, size)
    seconds = night.stage_seconds(size.season, size.settings, size.last)
    for name, cost in seconds.items():
        tables.stages.add(stage=name, seconds=cost)
    report.save()
    for number in size.lenses:
        for engine_name in size.engines:
            with tempfile.TemporaryDirectory(prefix="lcops-scale-") as directory:
                task = _measure(tables, Path(directory), number, engine_name, size)
            report.save()
        for cores, slots in size.machines:
            cost = night.Cost(seconds, task)
            row = night.wall_clock(cost, number, slots, cores)
            tables.night.add(lenses=number, cores=cores, pools=_shown(slots), **row)
        report.save()


def _measure(tables: "_Tables", directory: Path, number: int, engine_name: str, size: Sizes) -> float:
    """All of one number of lenses, with both databases on one kind of engine; returns the seconds of a task that does
    nothing."""
    names = bookkeeping.lens_names(number)
    with (
        _database(size, engine_name, directory / "bookkeeping.sqlite3") as books,
        _database(size, engine_name, directory / "airflow" / "airflow.db") as metadata_url,
    ):
        engine, metadata = open_engine(books), open_engine(metadata_url)
        try:
            bookkeeping.fill(engine, number, size.shape)
            tables.add_bookkeeping(number, engine_name, bookkeeping.rows_and_bytes(engine))
            airflow = LocalAirflow(
                directory / "airflow", dag_parsing.write_lenses(directory, names, books), SOURCE, port=free_port(),
                database=metadata_url, variables=scheduling.VARIABLES,
            )  # fmt: skip
            airflow.prepare()
            common = {"lenses": number, "engine": engine_name}
            if engine_name == size.engines[-1]:  # the files know nothing of databases
                parsed = dag_parsing.measure(airflow.home / "dags", airflow.observatory, airflow.home, names)
                tables.parsing.add(lenses=number, **parsed)
            processed = scheduling.process_files(airflow)
            airflow.start("api-server")
            try:
                scheduled = scheduling.measure(airflow, metadata, number, size.patience)
                row = {
                    **common,
                    "processed_s": processed,
                    "metadata_mib": scheduling.size_mib(metadata),
                    **scheduled,
                }
                tables.scheduler.add(**row)
                airflow.end("scheduler")
                run_id = scheduling.a_run(metadata, names[1])
                for row in pages.measure(airflow, engine, names[1], run_id):
                    tables.pages.add(**common, **row)
            finally:
                airflow.stop()
        finally:
            engine.dispose()
            metadata.dispose()
    return scheduled["task_core_s"] or 0.0


@contextmanager
def _database(size: Sizes, engine_name: str, file: Path) -> Iterator[str]:
    """URL of an empty database, which is removed afterwards."""
    if engine_name == SQLITE:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield f"sqlite:///{file}"
        return
    assert size.postgres is not None
    server = sa.make_url(size.postgres).set(drivername="postgresql+psycopg")
    name = f"lcops_scale_{uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f"drop database {name} with (force)"))
        admin.dispose()


def _shown(slots: Pools) -> str:
    return ", ".join(f"{name} {number}" for name, number in slots.model_dump().items() if name != "backfill")


class _Tables:
    """The tables of the report."""

    def __init__(self, report: Report, size: Sizes) -> None:
        shape = size.shape
        self.parsing = report.table(
            "DAG files",
            {"lenses": "lenses", "files": "DAG files", "slowest_file_s": "slowest file [s]",
             "of_limit": f"of the limit of {dag_parsing.LIMIT_S:.0f} s", "all_files_s": "all files [s]",
             "peak_mib": "peak memory of a file [MiB]", "report_s": "report of broken lenses [s]",
             "task_s": "DAG at the start of a task [s]"},
        )  # fmt: skip
        self.scheduler = report.table(
            f"Scheduler at noon, when the nights of all lenses become due ({os.cpu_count()} cores)",
            {"lenses": "lenses", "engine": "metadata", "processed_s": "DAG processor, all files once [s]",
             "metadata_mib": "metadata [MiB]", "runs": "runs made", "created_s": "in [s]", "loops": "loops",
             "median_s": "a loop, median [s]", "p95_s": "95 % [s]", "tasks_per_s": "tasks per s",
             "task_core_s": "core seconds of a task that finds nothing"},
        )  # fmt: skip
        self.pages = report.table(
            "Pages: an API server, one user",
            {"lenses": "lenses", "engine": "bookkeeping", "page": "page", "first_s": "first after an entry [s]",
             "next_s": "next [s]", "aside_s": "new numbers after [s]", "kb": "kB"},
        )  # fmt: skip
        self.sizes = report.table(
            "Size of the bookkeeping",
            {
                "lenses": "lenses",
                "engine": "engine",
                "rows": "rows",
                "mib": "MiB",
                "mib_per_lens": "MiB per lens",
            },
        )
        self.rows = report.table(
            "Rows and bytes of each table",
            {
                "lenses": "lenses",
                "engine": "engine",
                "table": "table",
                "rows": "rows per lens",
                "bytes": "bytes per row",
            },
        )
        self.rows.notes.append(
            f"{shape.frames} frames in {shape.nights} nights, {shape.used} of them used, {shape.stars} stars in each; "
            f"{shape.versions} versions of a light curve of 4 images, the newest {shape.with_points} with their points."
        )
        self.stages = report.table(
            f"A night of {size.season.exposures_per_night} frames after {size.season.n_nights - 1} others",
            {"stage": "worker process of", "seconds": "core seconds"},
        )
        self.night = report.table(
            "The night of the observatory, computed from these",
            {"lenses": "lenses", "cores": "cores", "pools": "slots of the pools", "tasks": "tasks",
             "core_hours": "core hours", "hours": "hours", "limit": "what limits",
             "of_tasks": "part of starting tasks"},
        )  # fmt: skip

    def add_bookkeeping(self, lenses: int, engine: str, found: dict[str, tuple[int, int]]) -> None:
        """The size of a database."""
        total, rows = (sum(one[index] for one in found.values()) for index in (1, 0))
        mib = total / 2**20
        self.sizes.add(lenses=lenses, engine=engine, rows=rows, mib=mib, mib_per_lens=mib / lenses)
        for name, (count, size) in sorted(found.items(), key=lambda one: -one[1][1]):
            if count >= lenses:
                self.rows.add(
                    lenses=lenses, engine=engine, table=name, rows=count / lenses, bytes=size / count
                )


if __name__ == "__main__":
    import sys

    from benchmarks.__main__ import main

    main(["scale", *sys.argv[1:]])

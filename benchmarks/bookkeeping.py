"""Simulated bookkeeping of an observatory: lenses that have been reduced for many nights, made by the database itself.

Rows are entered in the order in which nights bring them, all lenses of a night before the next: on disk the frames of a
lens lie as scattered as in an observatory. All columns have values of the length and spread of a reduced season's; the
only thing that is less than real is that of the versions of a light curve but the newest two have their points.
"""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.tables import metadata, publication_summaries
from lightcurver_ops.stages.pipeline import STAGE_NAMES
from lightcurver_ops.stages.publication_summary import NIGHTS_SHOWN

_STATEMENTS = Path(__file__).with_suffix(".sql")
FIRST_NIGHT, FIRST_MJD = date(2023, 2, 25), 60000
IMAGES = ("A", "B", "C", "D")
_SELECTION = "5f1d0c3b7a9e4682d1c0b3f7"
_FRAME_STAGES = STAGE_NAMES[2], STAGE_NAMES[4], *STAGE_NAMES[5:8]
"""Those of which a frame is a unit; the unit of the import is the raw file."""
_NIGHT_STAGES, _SEASON_STAGES = (STAGE_NAMES[1], STAGE_NAMES[2], *STAGE_NAMES[4:8]), STAGE_NAMES[3:]
_FAILING = STAGE_NAMES[6]


@dataclass(frozen=True)
class Shape:
    """How much there is of each lens.

    Attributes:
        frames: imported exposures.
        per_night: of them in a night; the first of each night is not solved.
        stars: reference stars, all measured in each frame that is solved.
        versions: of its light curve, one filter.
        with_points: how many of the newest versions have their points.
    """

    frames: int = 1000
    per_night: int = 5
    stars: int = 30
    versions: int = 20
    with_points: int = 2

    @property
    def nights(self) -> int:
        return -(-self.frames // self.per_night)

    @property
    def used(self) -> int:
        """Frames in the newest light curve."""
        return sum(number % self.per_night > 0 for number in range(self.frames))


def lens_names(number: int) -> list[str]:
    """Names of so many lenses, as they are called by their coordinates."""
    return [f"J{index:04d}-{index % 90:02d}15" for index in range(number)]


def fill(engine: sa.Engine, n_lenses: int, shape: Shape) -> list[str]:
    """Make the tables in an empty database and fill them; every tenth lens has a stage that failed last.

    Returns:
        The names of the lenses.
    """
    schema.upgrade(engine)
    names = lens_names(n_lenses)
    with engine.begin() as connection:
        _unhurried_checks(connection)
        _make_numbers(connection, names, shape)
        values = {
            "n_lenses": n_lenses, "import": STAGE_NAMES[1], "solve": STAGE_NAMES[2],
             "per_night": shape.per_night, "n_frames": shape.frames, "selection": _SELECTION,
            "hash": "0f1e2d3c4b5a69788796a5b4", "made": datetime(2026, 1, 1, 9, 30, 12, 345678, tzinfo=UTC),
            "version": "0.1.0", "versions": shape.versions, "with_points": shape.with_points,
            "failing": _FAILING, "nights": shape.nights, "configuration": _configuration(),
            "control_stars": _control_record(shape),
            "common_errors": json.dumps({label: {"flux_uncertainty": 1.1016370979711143, "mmag": 3.03448037162367,
                                                 "flux_covariances": {"D": 0.26761519222576874}}
                                         for label in "ABCD"}),
            "epoch_notes": json.dumps({"frames/lens_0007.fits": {"note": "12 pixels left out", "aside": False}}),
            "covariances": json.dumps({"B": 0.20428934802785234}),
            "files": json.dumps({f"publications/lens_r/v0001_{end}": "a" * 64
                                 for end in ("light_curve.ecsv", "provenance.json.gz")}),
            "polygon": json.dumps({"type": "Polygon", "coordinates": [[[70.123456789, -21.123456789]] * 5]}),
            "description": _description(shape),
            "alert": "Stage psf_modeling failed\n" + "what to do, with the numbers of the night. " * 12,
        }  # fmt: skip
        for statement in _statements(connection.dialect.name == "postgresql"):
            used = {name: values[name] for name in sa.text(statement)._bindparams}
            connection.execute(sa.text(statement), used)
        _summarize(connection, shape)
        for name in ("sim_lenses", "sim_frames", "sim_stars", "sim_stages", "sim_images"):
            connection.execute(sa.text(f"drop table {name}"))
        _continue_numbers(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("vacuum analyze" if engine.dialect.name == "postgresql" else "analyze"))
    return names


def rows_and_bytes(engine: sa.Engine) -> dict[str, tuple[int, int]]:
    """table: number of rows, and bytes on disk with its indexes."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            size = "select pg_total_relation_size(to_regclass(:name))"
        else:
            size = (
                "select sum(pgsize) from dbstat where name in "
                "(select name from sqlite_master where tbl_name = :table)"
            )
        found = {}
        for table in metadata.sorted_tables:
            place = {"name": f'"{table.name}"'} if "to_regclass" in size else {"table": table.name}
            rows = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            found[table.name] = (rows, int(connection.execute(sa.text(size), place).scalar() or 0))
    return found


def _unhurried_checks(connection: sa.Connection) -> None:
    """What is right by construction needs no check of each row's foreign keys."""
    if connection.dialect.name == "postgresql":
        if connection.execute(sa.text("select usesuper from pg_user where usename = current_user")).scalar():
            connection.execute(sa.text("set local session_replication_role = replica"))
        connection.execute(sa.text("set local synchronous_commit = off"))
        connection.execute(sa.text("set local work_mem = '256MB'"))
    else:
        connection.execute(sa.text("pragma cache_size = -1000000"))


def _make_numbers(connection: sa.Connection, names: list[str], shape: Shape) -> None:
    """What the statements combine: lenses, frames with what was measured in them, stars, stages, images."""
    random = np.random.default_rng(1)
    number = np.arange(shape.frames)
    night = number // shape.per_night
    columns: dict[str, Any] = {
        "n": number,
        "night_number": night,
        "k": number % shape.per_night,
        "mjd": FIRST_MJD + night + 0.15 + 0.04 * (number % shape.per_night) + random.uniform(0, 0.01, number.size),
        "seeing": random.lognormal(np.log(1.1), 0.25, number.size),
        "sky": random.lognormal(np.log(8.0), 0.5, number.size),
        "airmass": 1 / np.cos(random.uniform(0, 1.0, number.size)),
        "coefficient": random.normal(1.0, 0.03, number.size),
        "u": random.uniform(0, 1, number.size),
    }  # fmt: skip
    _table(connection, "sim_frames", columns | {
        "night": [(FIRST_NIGHT + timedelta(days=int(one))).isoformat() for one in night],
    })  # fmt: skip
    _table(connection, "sim_lenses", {"l": np.arange(len(names)), "name": names})
    stars = np.arange(shape.stars)
    _table(connection, "sim_stars", {
        "s": stars, "gaia_id": [str(4_872_000_000_000_000_000 + 13_731 * int(s)) for s in stars],
        "name": [chr(97 + s % 26) * (1 + s // 26) for s in stars], "gmag": np.linspace(14.2, 19.8, stars.size),
        "flux": 10 ** (-0.4 * (np.linspace(14.2, 19.8, stars.size) - 25.0)), "distance": 12.0 + 7.0 * stars,
        "u": random.uniform(0, 1, stars.size),
    })  # fmt: skip
    _table(connection, "sim_images", {
        "source": IMAGES, "flux": [400.0, 250.0, 150.0, 80.0],
    })  # fmt: skip
    stages = [(STAGE_NAMES[0], 0, "once")]
    stages += [(stage, number, "frame") for number, stage in enumerate(_FRAME_STAGES)]
    stages += [(stage, number, "night") for number, stage in enumerate(_NIGHT_STAGES)]
    stages += [(stage, 10 + number, "season") for number, stage in enumerate(_SEASON_STAGES)]
    _table(connection, "sim_stages", {
        "stage": [one[0] for one in stages], "step": [one[1] for one in stages], "kind": [one[2] for one in stages],
    })  # fmt: skip


def _table(connection: sa.Connection, name: str, columns: dict[str, Any]) -> None:
    plain = {key: np.asarray(values).tolist() for key, values in columns.items()}
    kinds = {int: sa.Integer, float: sa.Double, str: sa.String(100)}
    table = sa.Table(
        name, sa.MetaData(), *(sa.Column(key, kinds[type(values[0])]) for key, values in plain.items())
    )
    table.create(connection)
    rows = [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]
    connection.execute(sa.insert(table), rows)
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"analyze {name}"))


def _statements(postgres: bool) -> list[str]:
    """What enters the rows of each table, in the order of the foreign keys."""
    now = "cast(:made as timestamptz)" if postgres else ":made"
    file = "l.name || '_' || f.night || '_' || f.n || '.fits'"
    names = {
        "frame_id": "((f.night_number * :n_lenses + l.l) * :per_night + f.k + 1)",
        "publication": "((v.n * :n_lenses) + l.l + 1)",
        "raw": f"'/data/raw/' || l.name || '/' || f.night || '/' || {file}",
        "image": f"'frames/' || {file}",
        "solved": "f.k > 0",
        "each_frame": "from sim_frames f cross join sim_lenses l",
        "by_night": "order by f.night_number, l.l, f.k",
        "made": f":hash, :version, {now}",
        "now": now,
    }
    text = _STATEMENTS.read_text().split("\n", 1)[1]
    return [Template(one).substitute(names) for one in text.split(";\n") if one.strip()]


def _control_record(shape: Shape) -> str:
    """What is kept of two control stars."""
    star = {
        "name": "c",
        "gaia_id": "4872000000000013731",
        "gmag": 19.250000623225457,
        "epochs": shape.used,
        "clipped": 0,
    }
    values = (
        "scatter_mmag",
        "quoted_mmag",
        "ratio",
        "ratio_uncertainty",
        "robust_ratio",
        "chi2",
        "mmag_per_100_days",
        "mmag_per_100_days_uncertainty",
        "mmag_per_arcsec_of_seeing",
        "mmag_per_arcsec_of_seeing_uncertainty",
    )
    stars = [star | dict.fromkeys(values, 0.893917520435897) | {"agrees": True}] * 2
    return json.dumps({"error_factor": 1.0211310171629078, "error_factor_uncertainty": 0.06646996754658997,
                       "errors_calibrated": False, "stars": stars})  # fmt: skip


def _description(shape: Shape) -> str:
    """What decided a selection of stars."""
    keys = {f"stars.a_key_of_the_configuration_{number}": 3.0 for number in range(13)}
    contamination = {str(4_872_000_000_000_000_000 + star): 0.2242 for star in range(shape.stars)}
    return json.dumps({"keys": keys, "control_contamination": contamination, "lens_gmag": 19.2,
                       "strategy": "ROI_disk"})  # fmt: skip


def _configuration() -> str:
    """As long as a publication's."""
    from lightcurver_ops.config import LensConfig

    place = {"ra": 1.0, "dec": 1.0, "point_sources": {label: [1.0, 1.0] for label in IMAGES}}
    lens = LensConfig(
        name="lens", workdir="/data/reduced/lens", raw={"raw_dirs": ["/data/raw/lens"]}, roi=place
    )
    return lens.model_dump_json()


def _summarize(connection: sa.Connection, shape: Shape) -> None:
    """The summaries that publishing keeps beside each newest light curve."""
    curve = [[FIRST_MJD + night + 0.2, 18.0 + 0.01 * (night % 7)]
             for night in range(max(0, shape.nights - NIGHTS_SHOWN), shape.nights)]  # fmt: skip
    image = {
        "mag": 18.4123,
        "d_mag": 0.0101,
        "sigma": 1.53,
        "change": 0.0123,
        "inverted": True,
        "course": curve,
    }
    summary = {"n_epochs": shape.used, "images": json.dumps(dict.fromkeys(IMAGES, image))}
    ids = connection.execute(
        sa.text("select id from publications where version = :newest"), {"newest": shape.versions}
    )
    rows = [{"publication_id": one, **summary} for one in ids.scalars()]
    connection.execute(sa.insert(publication_summaries), rows)


def _continue_numbers(connection: sa.Connection) -> None:
    """Whoever adds rows after this gets new numbers."""
    if connection.dialect.name == "postgresql":
        for name in ("frames", "publications"):
            connection.execute(
                sa.text(
                    f"select setval(pg_get_serial_sequence('{name}', 'id'), (select max(id) from {name}))"
                )
            )

"""Publications in the bookkeeping, on both engines: numbered, not repeated, and known when they were changed."""

import hashlib
import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, photometry, schema
from lightcurver_ops.bookkeeping.engine import open_engine, reading, writing
from lightcurver_ops.bookkeeping.photometry import same_values
from lightcurver_ops.bookkeeping.tables import frames, lenses

FRAME = {
    "sources_relpath": "s", "mjd": 60000.0, "exptime": 1.0, "gain": 1.0, "filter": "r", "width": 1, "height": 1,
    "n_sources": 1,
}  # fmt: skip


@pytest.fixture
def known(engine):
    """A lens with three frames."""
    schema.upgrade(engine)
    with writing(engine) as connection:
        connection.execute(
            sa.insert(lenses).values(name="demo", roi_ra=1.0, roi_dec=2.0, workdir="/nonexistent")
        )
        for number in (1, 2, 3):
            own = {
                "original_image_path": f"{number}",
                "image_relpath": f"frames/{number}.fits",
                "pixel_hash": f"{number}",
            }
            connection.execute(
                sa.insert(frames).values(lens="demo", **own, **FRAME, **ledger.provenance("x"))
            )
    return engine


def point(frame_id, flux=10.0, source="A", **others):
    return {
        "frame_number": frame_id, "source": source, "mjd": 60000.0 + frame_id, "flux": flux, "flux_uncertainty": 0.1,
        "flux_uncertainty_model": None, "flux_covariances": None,
        "coefficient": 1.0, "coefficient_uncertainty": 0.01, "zeropoint": 25.0,
        "reduced_chi2": 1.0, **others,
    }  # fmt: skip


def publish(engine, points, write_files=None, taken=lambda: 0, **others):
    row = {
        "configuration": json.dumps({"a": 1}), "loss": 3.0, "converged": True, "control_stars": None,
        "common_errors": None, **ledger.provenance("inputs"), **others,
    }  # fmt: skip
    with writing(engine) as connection:
        return photometry.publish(connection, "demo", "r", row, points, write_files, taken)


def newest(engine, version=None):
    with reading(engine) as connection:
        row = photometry.publication_of(connection, "demo", "r", version)
        return row, photometry.rows_are_as_published(connection, row)


def test_numbers_go_up_with_the_results_alone(known):
    written = []

    def write(version, made_at):
        written.append((version, made_at.tzinfo is not None))
        return {f"v{version}": "hash"}

    points = [point(1), point(2)]
    assert publish(known, points, write) == (1, True)
    assert publish(known, points[::-1], write, inputs_hash="other", configuration="{}") == (1, False)
    assert publish(known, [point(1, 10 * (1 + 1e-13)), point(2)], write) == (1, False)
    assert publish(known, [point(1, 10.001), point(2)], write) == (2, True)
    assert publish(known, [point(1, 10.001)], write) == (3, True)
    assert publish(known, [point(1, 10.001)], write, control_stars=json.dumps({"error_factor": 1.1})) == (
        4,
        True,
    )
    assert publish(
        known, [point(1, 10.001), point(3)], write, control_stars=json.dumps({"error_factor": 1.1})
    ) == (
        5,
        True,
    )
    assert publish(known, points, write) == (6, True)  # as the first, but not as the last
    assert written == [(n, True) for n in range(1, 7)]
    row, unchanged = newest(known, 2)
    assert (json.loads(row.files), unchanged) == ({"v2": "hash"}, True)


def test_numbers_of_files_that_the_bookkeeping_does_not_know_are_passed_over(known, caplog):
    assert publish(known, [point(1)], taken=lambda: 7) == (8, True)
    assert (
        "demo, filter r: there are snapshots up to version 7, and the bookkeeping knows them up to 0"
        in caplog.text
    )
    caplog.clear()
    assert publish(known, [point(1)], taken=lambda: 9) == (8, False)
    assert publish(known, [point(2)], taken=lambda: 8) == (9, True)
    assert publish(known, [point(3)], taken=lambda: 3) == (10, True)
    assert caplog.text == ""


def test_errors_in_two_parts_are_part_of_the_results(known):
    common = {"A": {"flux_uncertainty": 0.2, "mmag": 21.7, "flux_covariances": {"B": 0.01}}}

    def of(value):
        return [point(1, flux_covariances=json.dumps({"B": value})), point(1, source="B")]

    assert publish(known, of(0.25), common_errors=json.dumps(common)) == (1, True)
    assert publish(known, of(0.25 * (1 + 1e-13)), common_errors=json.dumps(common)) == (1, False)
    assert publish(known, of(0.26), common_errors=json.dumps(common)) == (2, True)
    common["A"]["flux_uncertainty"] = 0.21
    assert publish(known, of(0.26), common_errors=json.dumps(common)) == (3, True)
    row, unchanged = newest(known)
    assert unchanged
    assert json.loads(row.common_errors) == common
    with writing(known) as connection:
        connection.execute(sa.text("update publications set common_errors = null where version = 3"))
    assert not newest(known)[1]
    assert newest(known, 2)[1]


def test_the_hash_of_a_publication_from_before_there_were_two_parts_still_holds(known):
    """It was made from these columns alone, in this order."""
    publish(known, [point(1)])
    with reading(known) as connection:
        row = photometry.publication_of(connection, "demo", "r")
    names = ("filter", "version", "configuration", "loss", "converged", "control_stars", "files", "inputs_hash",
             "code_version")  # fmt: skip
    points = [["frames/1.fits", "A", "A", 60001.0, 10.0, 0.1, None, 1.0, 0.01, 25.0, 1.0]]
    content = {"row": {name: getattr(row, name) for name in names}, "points": points}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert row.rows_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert newest(known)[1]


def test_what_is_no_number_is_the_same_on_both_engines(known):
    points = [point(1, reduced_chi2=math.nan, zeropoint=None)]
    assert publish(known, points, loss=math.nan) == (1, True)
    assert newest(known)[1]
    assert publish(known, points, loss=math.nan) == (1, False)


@pytest.mark.parametrize(
    "statement",
    [
        "update light_curve_points set flux = 10.0000001 where frame_id = 1",
        "update light_curve_points set coefficient = 1.5 where frame_id = 2",
        "update light_curve_points set frame_id = 3 where frame_id = 2",
        "delete from light_curve_points where frame_id = 2",
        """update light_curve_points set flux_covariances = '{"B": 1.0}' where frame_id = 2""",
        "update publications set common_errors = '{}'",
        "update publications set code_version = '0.0.1'",
        "update publications set loss = null",
        "update publications set files = null",
    ],
)
def test_any_change_of_a_row_is_known(known, statement):
    publish(known, [point(1), point(2)], lambda _version, _made_at: {"a": "hash"})
    assert newest(known)[1]
    with writing(known) as connection:
        assert connection.execute(sa.text(statement)).rowcount == 1
    assert not newest(known)[1]


def test_numbers_of_frames_do_not_matter(known):
    """A copy of the bookkeeping may number its frames otherwise."""
    publish(known, [point(1), point(2)])
    with writing(known) as connection:
        connection.execute(sa.text("update frames set image_relpath = 'x' where id = 3"))
        connection.execute(sa.text("update frames set image_relpath = 'frames/3.fits' where id = 1"))
        connection.execute(sa.text("update light_curve_points set frame_id = 3 where frame_id = 1"))
        connection.execute(sa.text("update frames set image_relpath = 'frames/1.fits' where id = 3"))
    assert newest(known)[1]


def test_publications_at_the_same_time_get_numbers_of_their_own(known):
    with ThreadPoolExecutor(4) as writers:
        versions = list(writers.map(lambda n: publish(known, [point(1, 10.0 + n)]), range(8)))
    assert sorted(version for version, _ in versions) == list(range(1, 9))


def test_frames_that_a_publication_needs_cannot_be_deleted(known):
    publish(known, [point(1)])
    with pytest.raises(sa.exc.IntegrityError), writing(known) as connection:
        connection.execute(sa.text("delete from frames where id = 1"))


def test_older_publications_outlive_the_migration(database_url):
    engine = open_engine(database_url)
    schema.upgrade(engine)
    with writing(engine) as connection:
        connection.execute(sa.insert(lenses).values(name="demo", roi_ra=1.0, roi_dec=2.0, workdir="/x"))
        own = {"original_image_path": "1", "image_relpath": "frames/1.fits", "pixel_hash": "1"}
        connection.execute(sa.insert(frames).values(lens="demo", **own, **FRAME, **ledger.provenance("x")))
    publish(engine, [point(1)])
    schema.downgrade(engine, "0003")
    assert "rows_sha256" not in {column["name"] for column in sa.inspect(engine).get_columns("publications")}
    schema.upgrade(engine)
    row, unchanged = newest(engine)
    assert (row.version, row.files, row.rows_sha256, unchanged) == (1, None, None, True)
    with reading(engine) as connection:
        assert photometry.named_points_of(connection, row.id)[("frames/1.fits", "A")]["flux"] == 10.0
        assert connection.execute(sa.select(frames.c.raw_sha256)).scalars().all() == [None]
    engine.dispose()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": [1.0, None]}, {"a": [1.0 + 1e-12, math.nan]}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1.0], [1.0, 2.0], False),
        (0.0, 1e-30, False),
        ("x", "x", True),
        (None, 0.0, False),
    ],
)
def test_what_counts_as_the_same(one, other, same):
    assert same_values(one, other) is same

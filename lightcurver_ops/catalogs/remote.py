"""The catalogues behind a network: asked through pyvo, by TAP or by cone search, and never answered in part.

A service may be down, slow, or break off: that is tried again, with growing pauses. It may give fewer rows than there
are, by its own limit, with or without saying so: TAP is asked first how many there are, and a region that does not come
whole is asked for in smaller parts. Cone search cannot count, so its answers are compared with those of smaller cones.
"""

import logging
import math
import random
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from astropy.table import Table, unique, vstack

from lightcurver_ops.catalogs.base import GAIA_EPOCH, disk_to_ask
from lightcurver_ops.catalogs.regions import Disk, Region
from lightcurver_ops.catalogs.tiling import covering
from lightcurver_ops.config.sections import Catalogs
from lightcurver_ops.errors import ConfigurationError, LightcurverError, TemporaryFailure

log = logging.getLogger(__name__)
T = TypeVar("T")

SYNCHRONOUS_ROWS = 2000
"""More rows are asked for by a job: the Gaia archive's immediate answers end here."""
LONGEST_PAUSE = 120.0
"""Seconds between two requests."""
_EDGE = 1e-6
"""Degrees by which more is asked for, so that rounding at the service loses no star at the edge."""
_FEWEST_TO_SPLIT = 50
"""Of fewer stars, missing ones are no matter of a limit."""
_DEEPEST = 8
"""Halvings of a region: 5 degrees become 70 arcsec."""


@dataclass(frozen=True)
class ServiceTable:
    """A table of a service.

    Args:
        service: its name in messages.
        url: of the service.
        key: the configuration key (or keys) that says where the service is.
        table: its name there.
        columns: the names there -> ours, with source_id, ra and dec among ours.
        protocol: how it is asked.
        magnitude: ours of the column to which a faint limit applies; None: it has none.
        condition: ADQL that each row must fulfil, empty for none.
        largest_radius_deg: the widest cone that the service admits.
        epoch: Julian year of its positions.
    """

    service: str
    url: str
    key: str
    table: str
    columns: Mapping[str, str]
    protocol: Literal["tap", "cone"] = "tap"
    magnitude: str | None = None
    condition: str = ""
    largest_radius_deg: float = 180.0
    epoch: float = GAIA_EPOCH

    def name_there(self, ours: str) -> str:
        """The service's name of one of our columns."""
        return next(theirs for theirs, own in self.columns.items() if own == ours)


class RemoteCatalog:
    """What the catalogues behind a network have in common. Nothing is contacted before the first query.

    Args:
        settings: the group `catalogs` of a lens configuration.
    """

    name: str

    def __init__(self, settings: Catalogs | None = None):
        self.settings = settings or Catalogs()
        self.source = self.make_source()

    def make_source(self) -> ServiceTable:
        """The table that is asked."""
        raise NotImplementedError

    def identity(self) -> str:
        """Provider and data release; a mirror holds the same."""
        raise NotImplementedError

    def checked(self, table: Table) -> Table:
        """Rows in our names -> our columns, units and types, unknown values masked."""
        raise NotImplementedError

    def cut(self, table: Table, region: Region, epoch_mjd: float | None, max_gmag: float | None) -> Table:
        """The rows of a larger answer that answer a query."""
        raise NotImplementedError

    def refuse(self, disk: Disk, max_gmag: float | None) -> None:
        """Raise ConfigurationError for a question that the catalogue cannot answer."""

    def query(
        self, region: Region, *, epoch_mjd: float | None = None, max_gmag: float | None = None
    ) -> Table:
        """See `CatalogProvider.query`."""
        disk = disk_to_ask(region, epoch_mjd, self.source.epoch)
        return self.cut(self.fetch(disk, max_gmag), region, epoch_mjd, max_gmag)

    def fetch(self, disk: Disk, max_gmag: float | None = None) -> Table:
        """All rows of a disk, and some at its edge, by `source_id`.

        Raises:
            TemporaryFailure: network or server failed, also when asked again.
            ConfigurationError: too many rows, a service that refuses the question, a region outside the survey.
        """
        self.refuse(disk, max_gmag)
        question = _Question(self.source, self.settings, max_gmag)
        wider = Disk(disk.ra, disk.dec, min(disk.radius_deg + _EDGE, 180.0))
        answer = self.checked(question.whole(wider, 0))
        answer.sort("source_id")
        return answer

    def renamed(self, table: Table, names: Mapping[str, str] | None = None) -> Table:
        """A table with the service's column names (or already ours) -> the same with ours, others left out."""
        return renamed(table, {**self.source.columns, **(names or {})})


def renamed(table: Table, columns: Mapping[str, str]) -> Table:
    """The columns that `columns` names, under our names; upper and lower case of the service's names are the same."""
    ours = {theirs.lower(): own for theirs, own in columns.items()}
    ours |= {own.lower(): own for own in columns.values() if own.lower() not in ours}
    found: dict[str, str] = {}
    for name in table.colnames:
        own = ours.get(name.lower())
        if own is not None and own not in found.values():
            found[name] = own
    result = table[list(found)]
    result.rename_columns(list(found), list(found.values()))
    return result


class _Question:
    """One question to a service, and the parts into which its answer comes."""

    def __init__(self, source: ServiceTable, settings: Catalogs, max_gmag: float | None):
        from lightcurver_ops.catalogs.web import WholeAnswers

        self.source, self.settings, self.max_gmag = source, settings, max_gmag
        self.session = WholeAnswers(settings.timeout_seconds)

    def whole(self, disk: Disk, depth: int) -> Table:
        """All rows of a disk."""
        if disk.radius_deg > self.source.largest_radius_deg:
            return self._in_parts(disk, depth)
        if self.source.protocol == "cone":
            return self._whole_cone(disk, depth)
        count = self._count(disk)
        if count > self.settings.max_rows:
            raise self._too_many(disk, str(count))
        if count > self.settings.rows_per_answer:
            return self._in_parts(disk, depth, count)
        answer = self._rows(disk, count)
        if len(answer) < count and count >= _FEWEST_TO_SPLIT:
            log.info("%s sent %d of %d rows: asking for parts", self.source.service, len(answer), count)
            return self._in_parts(disk, depth, count)
        return self._counted(answer, count)

    def _whole_cone(self, disk: Disk, depth: int) -> Table:
        answer, cut = self._cone(disk)
        if cut and not len(answer):
            raise self._never_all(disk)
        if not cut:
            known = set(answer["source_id"].tolist())
            inside = Disk(disk.ra, disk.dec, disk.radius_deg * (1 - 1e-6))
            for part in covering(disk):
                seen, _ = self._cone(part)
                within = inside.contains(_numbers(seen, "ra"), _numbers(seen, "dec"))
                if not known.issuperset(seen["source_id"][within].tolist()):
                    break
            else:
                return answer
        return self._in_parts(disk, depth)

    def _in_parts(self, disk: Disk, depth: int, count: int | None = None) -> Table:
        if depth == _DEEPEST:
            raise self._never_all(disk)
        answers: list[Table] = []
        rows = 0
        for part in covering(disk):
            answers.append(self.whole(part, depth + 1))
            rows += len(answers[-1])
            if rows > 2.5 * self.settings.max_rows:  # parts overlap
                raise self._too_many(disk, f"more than {self.settings.max_rows}")
        answer = unique(vstack(answers, metadata_conflicts="silent"), keys="source_id")
        answer = answer[disk.contains(_numbers(answer, "ra"), _numbers(answer, "dec"))]
        if len(answer) > self.settings.max_rows:
            raise self._too_many(disk, str(len(answer)))
        return answer if count is None else self._counted(answer, count)

    def _never_all(self, disk: Disk) -> ConfigurationError:
        return ConfigurationError(
            f"{self.source.service} at {self.source.url} does not give all of its stars near ra {disk.ra:.5f}, dec "
            f"{disk.dec:.5f}, however small the region: choose another service ({self.source.key})"
        )

    def _counted(self, answer: Table, count: int) -> Table:
        if len(answer) != count:
            raise TemporaryFailure(
                f"{self.source.service} at {self.source.url} counted {count} stars but sent {len(answer)}; "
                f"try again later, or choose another service ({self.source.key})"
            )
        return answer

    def _too_many(self, disk: Disk, count: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.source.service} has {count} stars within {disk.radius_deg:.4f} degrees of ra {disk.ra:.5f}, dec "
            f"{disk.dec:.5f}; at most catalogs: max_rows = {self.settings.max_rows} are taken, and none is left out "
            "silently. Choose a smaller region (stars: ROI_disk_radius_arcseconds, plate_solving: "
            "alternate_plate_solve_gaia_radius or a narrower plate_scale_interval), a brighter stars: max_gmag, or "
            "raise max_rows."
        )

    def _count(self, disk: Disk) -> int:
        adql = f"SELECT COUNT(*) AS n FROM {_table(self.source)} WHERE {self._condition(disk)}"
        return self._ask(
            lambda: self._tap().run_sync(adql, maxrec=1), lambda table, _: int(table.columns[0][0])
        )

    def _rows(self, disk: Disk, count: int) -> Table:
        adql = f"SELECT {', '.join(self.source.columns)} FROM {_table(self.source)} WHERE {self._condition(disk)}"
        limit = self.settings.rows_per_answer
        if count <= SYNCHRONOUS_ROWS:
            answer = self._ask(lambda: self._tap().run_sync(adql, maxrec=limit), _table_of)
        else:
            answer = self._ask(lambda: self._job(adql, limit), _table_of)
        return self._named(answer)

    def _cone(self, disk: Disk) -> tuple[Table, bool]:
        from pyvo.dal import SCSService

        limit = self.settings.rows_per_answer
        cone = SCSService(f"{self.source.url.rstrip('/')}/{self.source.table}", session=self.session)
        answer, cut = self._ask(
            lambda: cone.search((disk.ra, disk.dec), disk.radius_deg, verbosity=3, maxrec=limit),
            lambda table, cut: (table, cut or len(table) >= limit),
        )
        return self._named(answer), cut

    def _named(self, answer: Table) -> Table:
        table = renamed(answer, self.source.columns)
        missing = {"source_id", "ra", "dec"} - set(table.colnames)
        if missing:
            names = ", ".join(sorted(self.source.name_there(name) for name in missing))
            raise ConfigurationError(
                f"{self.source.service} at {self.source.url} answers without the column {names} of "
                f"{self.source.table}: name another service, or another table ({self.source.key})"
            )
        return table

    def _condition(self, disk: Disk) -> str:
        ra, dec = self.source.name_there("ra"), self.source.name_there("dec")
        conditions = [
            f"1 = CONTAINS(POINT('ICRS', {ra}, {dec}), "
            f"CIRCLE('ICRS', {disk.ra:.10f}, {disk.dec:.10f}, {disk.radius_deg:.10f}))"
        ]
        if self.max_gmag is not None and self.source.magnitude:
            conditions.append(f"{self.source.name_there(self.source.magnitude)} <= {self.max_gmag:.6f}")
        if self.source.condition:
            conditions.append(self.source.condition)
        return " AND ".join(conditions)

    def _tap(self) -> Any:
        from pyvo.dal import TAPService

        return TAPService(self.source.url, session=self.session)

    def _job(self, adql: str, limit: int) -> Any:
        """The answer of an asynchronous job. pyvo's own waiting has no end where a job stays queued."""
        job = self._tap().submit_job(adql, maxrec=limit)
        deadline = time.monotonic() + self.settings.job_timeout_seconds
        pause = 0.1
        try:
            job.run()
            while (phase := job.phase) not in ("COMPLETED", "ERROR", "ABORTED"):
                if time.monotonic() > deadline:
                    raise TemporaryFailure(
                        f"the job at {self.source.service} was {phase} after catalogs: job_timeout_seconds = "
                        f"{self.settings.job_timeout_seconds:g}; it was given up. Try again later"
                    )
                time.sleep(pause)
                pause = min(pause * 1.5, 10.0)
            job.raise_if_error()
            return job.fetch_result()
        finally:
            self._forget(job)

    def _forget(self, job: Any) -> None:
        """Services keep what jobs gave, for days, unless told; that this fails matters to nobody."""
        from pyvo.dal import DALAccessError

        seen = self.session.status, self.session.retry_after_s  # which tell a failure's kind
        try:
            job.delete()
        except DALAccessError as error:
            log.debug("a job could not be deleted: %s", error)
        self.session.status, self.session.retry_after_s = seen

    def _ask(self, question: Callable[[], Any], read: Callable[[Table, bool], T]) -> T:
        """What `read` makes of the answer's table and of whether the service says that it is cut; asked again while
        that may help."""
        attempt = 0
        while True:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter(
                        "ignore"
                    )  # of pyvo, that an answer is cut; of astropy, about odd VOTables
                    result = question()
                    return read(result.to_table(), _says_cut(result))
            except LightcurverError:
                raise
            except Exception as error:
                # pyvo and the parsers of broken answers raise anything, from OSError to AttributeError.
                self._pause_or_raise(error, attempt)
            attempt += 1

    def _pause_or_raise(self, error: Exception, attempt: int) -> None:
        from lightcurver_ops.catalogs.web import PASSING, words_of

        who, status = f"{self.source.service} at {self.source.url}", self.session.status
        if 400 <= status < 500 and status not in PASSING:
            raise ConfigurationError(
                f"{who} refuses the question about {self.source.table} (HTTP {status}): {words_of(error)}. Check "
                f"catalogs: {self.source.key}"
            ) from error
        failure = f"{who} did not answer as expected: {words_of(error)}"
        if attempt >= self.settings.retries:
            raise TemporaryFailure(
                f"{failure} (after {attempt} repetitions). Trying again later can succeed. For nights without network "
                "fill the cache before (`lcops catalog fetch`, `lcops catalog import`), or use a local catalogue "
                "(stars: gaia_provider: file)"
            ) from error
        # Some of it random, so that the tasks of many lenses do not come back together.
        growing = self.settings.retry_delay_seconds * 2.0**attempt * random.uniform(0.75, 1.25)
        pause = min(max(growing, self.session.retry_after_s), LONGEST_PAUSE)
        log.warning("%s; again in %.1f s", failure, pause)
        log.debug("the failure was", exc_info=error)
        time.sleep(pause)


def _says_cut(result: Any) -> bool:
    """Whether the service says that there is more (DALI 1.1, 4.4.1); pyvo looks for it in TAP's answers only."""
    document = result.votable
    infos = [*document.infos, *(info for resource in document.resources for info in resource.infos)]
    return any(
        info.name.upper() == "QUERY_STATUS" and str(info.value).upper() == "OVERFLOW" for info in infos
    )


def _table_of(table: Table, _cut: bool) -> Table:
    """TAP answers are counted: whether the service says that it cut one does not matter."""
    return table


def _table(source: ServiceTable) -> str:
    """The table's name as ADQL wants it: quoted where it is no plain identifier."""
    plain = all(part.isidentifier() for part in source.table.split("."))
    return source.table if plain else f'"{source.table}"'


def _numbers(table: Table, name: str) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(table[name], dtype=np.float64), math.nan)

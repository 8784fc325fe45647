"""Publications of light curves: numbered, each with a snapshot of its own, and none ever changed.

A snapshot is two files in <workdir>/publications/<roi>_<filter>/: the light curve per epoch (ECSV) and where it comes
from (JSON, compressed). They are read-only, and the bookkeeping has their hashes, and that of the rows.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, photometry, withheld
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.hashing import hash_of
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.calculate_normalization_coefficient import filter_part, safe
from lightcurver_ops.stages.provenance import configuration_part

_READ_ONLY = 0o444
_CLEANED = "cleaned_"
_SECRETS = {name for name, field in LensConfig.model_fields.items() if field.exclude}
_VERSION = re.compile(r"v(\d+)_")
_LIGHT_CURVE, _PROVENANCE = "light_curve.ecsv", "provenance.json.gz"


def snapshot_writer(
    config: LensConfig, filter_name: str, publication: dict[str, Any], table: Any, document: dict[str, Any]
) -> Callable[[int, datetime], dict[str, str]]:
    """What `bookkeeping.photometry.publish` calls to write the files of a version.

    Args:
        config: of the lens.
        filter_name: which light curve.
        publication: columns of its row, as far as they are known before it has a number.
        table: (labels, columns per epoch).
        document: where it comes from, see `provenance.Origins.document`.
    """

    def write(version: int, made_at: datetime) -> dict[str, str]:
        from lightcurver_ops.stages.light_curve_export import export_of
        from lightcurver_ops.storage.exports import to_ecsv

        directory = _directory(config, filter_name)
        relpaths = {name: directory / f"v{version:04d}_{name}" for name in (_LIGHT_CURVE, _PROVENANCE)}
        for relpath in relpaths.values():
            if (config.workdir / relpath).exists():
                raise TemporaryFailure(
                    f"{config.workdir / relpath} is there already: is another bookkeeping used with this working "
                    "directory? Nothing was published; run again"
                )
        labels, columns = table
        row = {**publication, "filter": filter_name, "version": version, "made_at": made_at}
        about = {
            "lens": config.name,
            "filter": filter_name,
            "version": version,
            "made_at": made_at.isoformat(),
        }
        contents = {
            _LIGHT_CURVE: to_ecsv(export_of(config.name, row, labels, columns, "epoch", True)),
            _PROVENANCE: _compressed(about | document),
        }
        files = {}
        for name, content in contents.items():
            _write_read_only(config.workdir / relpaths[name], content)
            files[relpaths[name].as_posix()] = hashlib.sha256(content).hexdigest()
        return files

    return write


def newest_snapshot(config: LensConfig, filter_name: str) -> int:
    """The greatest version of which there are files, whether or not the bookkeeping knows it; 0: none."""
    names = (path.name for path in (config.workdir / _directory(config, filter_name)).glob("v*"))
    return max((int(match[1]) for name in names if (match := _VERSION.match(name))), default=0)


def _directory(config: LensConfig, filter_name: str) -> Path:
    return Path("publications") / f"{safe(config.roi_name)}_{filter_part(filter_name)}"


def _compressed(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, sort_keys=True, indent=1, allow_nan=False)
    return gzip.compress(text.encode(), mtime=0)


def _write_read_only(path: Path, content: bytes) -> None:
    from lightcurver_ops.storage.atomic import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        temporary.chmod(_READ_ONLY)


def check_rows(connection: sa.Connection, publication: sa.Row) -> None:
    """Check that the rows of a publication are those that were published.

    Raises:
        ConfigurationError: they were changed.
    """
    if not photometry.rows_are_as_published(connection, publication):
        raise ConfigurationError(
            f"{_called(publication)}: its rows in the bookkeeping are not those that were published (sha256 "
            f"{publication.rows_sha256[:12]}... is recorded): somebody changed or removed them since. Restore the "
            "bookkeeping from a backup; the snapshot in publications/ of the working directory has what was published"
        )


def check_files(workdir: Path, publication: sa.Row) -> list[str]:
    """Check that the files of a publication's snapshot are unchanged; returns those that are not there.

    Raises:
        ConfigurationError: one cannot be read, or was changed.
    """
    missing = []
    for relpath, expected in json.loads(publication.files or "{}").items():
        if (workdir / relpath).exists():
            _content(workdir / relpath, expected, publication)
        else:
            missing.append(relpath)
    return missing


def _content(path: Path, expected: str, publication: sa.Row) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{_called(publication)}: its snapshot {path} cannot be read: {error.strerror}; restore it from a backup "
            "of the working directory"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ConfigurationError(
            f"{_called(publication)}: its snapshot {path} is not the file that was published (sha256 {found[:12]}... "
            f"instead of {expected[:12]}...): somebody changed it since. Restore it from a backup of the working "
            "directory"
        )
    return content


def provenance_of(workdir: Path, publication: sa.Row) -> dict[str, Any] | None:
    """The document of a publication's snapshot; None where it was published before there were snapshots.

    Raises:
        ConfigurationError: as `check_files`.
    """
    for relpath, expected in json.loads(publication.files or "{}").items():
        if relpath.endswith(_PROVENANCE):
            return json.loads(gzip.decompress(_content(workdir / relpath, expected, publication)))
    return None


def forget_secrets(lens: Lens) -> int:
    """Take out of kept snapshots what earlier versions put there: the URL that web pages read with, and its password.

    A killed call leaves every publication with a snapshot that is as recorded; the next one finishes.

    Returns:
        How many snapshots had it.

    Raises:
        ConfigurationError: a snapshot cannot be read, or it or its rows were changed.
    """
    with reading(lens.engine) as connection:
        known = photometry.publications_of(connection, lens.name)
    forgotten = 0
    for publication in known:
        document = provenance_of(lens.workdir, publication)
        if document is None or not any(document["configuration"].get(key) for key in _SECRETS):
            continue
        files = json.loads(publication.files)
        (old,) = (relpath for relpath in files if relpath.endswith(_PROVENANCE))
        new = old.removesuffix(_PROVENANCE) + _CLEANED + _PROVENANCE
        values = {key: value for key, value in document["configuration"].items() if key not in _SECRETS}
        content = _compressed(document | {"configuration": values, "configuration_hash": hash_of(values)})
        _write_read_only(lens.workdir / new, content)
        del files[old]
        files[new] = hashlib.sha256(content).hexdigest()
        with writing(lens.engine) as connection:
            check_rows(connection, publication)
            photometry.set_files(connection, publication, files)
        forgotten += 1
    with reading(lens.engine) as connection:
        recorded = {
            relpath
            for publication in photometry.publications_of(connection, lens.name)
            for relpath in json.loads(publication.files or "{}")
        }
    for relpath in recorded:
        if _CLEANED in relpath:
            (lens.workdir / relpath.replace(_CLEANED, "")).unlink(missing_ok=True)
    return forgotten


def described(connection: sa.Connection, workdir: Path, publication: sa.Row) -> dict[str, Any]:
    """A publication in a line: its number, when and with what it was made, its points, and whether it is unchanged."""
    points = photometry.named_points_of(connection, publication.id)
    try:
        check_rows(connection, publication)
        missing = check_files(workdir, publication)
    except ConfigurationError as error:
        state = str(error)
    else:
        kept = "snapshot kept" if publication.files else "no snapshot: published before there were any"
        state = f"not there: {', '.join(missing)}" if missing else kept
    configuration = configuration_part(json.loads(publication.configuration))
    return {
        "filter": publication.filter,
        "version": publication.version,
        "published": ledger.as_utc(publication.made_at).isoformat(timespec="seconds"),
        "code": publication.code_version,
        "configuration": configuration["configuration_hash"],
        "epochs": len({frame for frame, _ in points}),
        "state": state,
    }


def _called(publication: sa.Row) -> str:
    return f"{publication.lens}, filter {publication.filter}, version {publication.version}"


def chosen_publication(
    connection: sa.Connection, lens: str, config: Path, filter_name: str | None, version: int | None
) -> sa.Row:
    """The publication that a user asks for, its rows checked.

    Args:
        connection: to the bookkeeping.
        lens: name.
        config: the lens's file, for messages.
        filter_name: may be left out where there is but one.
        version: default: the newest.

    Raises:
        ConfigurationError: there is none such, or its rows were changed.
    """
    filters = photometry.published_filters(connection, lens)
    if not filters:
        for row in withheld.withheld_of(connection, lens):
            raise ConfigurationError(
                f"{lens} has no light curve yet: that of filter {row.filter} is withheld: {withheld.reasons_of(row)}; "
                f"it is kept in {row.file}"
            )
        raise ConfigurationError(f"{lens} has no light curve yet: `lcops run {config}` makes it")
    if filter_name is None and len(filters) > 1:
        raise ConfigurationError(f"{lens} has light curves in {', '.join(filters)}: choose one with --filter")
    name = filter_name or filters[0]
    publication = photometry.publication_of(connection, lens, name, version)
    if publication is None:
        newest = photometry.publication_of(connection, lens, name)
        raise ConfigurationError(
            f"{lens} has no light curve in filter {name}; there are: {', '.join(filters)}"
            if newest is None
            else f"{lens} has no version {version} of filter {name}; the newest is {newest.version}"
        )
    check_rows(connection, publication)
    return publication

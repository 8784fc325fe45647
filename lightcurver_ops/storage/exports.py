"""Light curves for other programs: CSV, ECSV, Parquet, VOTable, and the rdb text of PyCS3.

Every format but CSV and PyCS3's, which have no place for them, carries units and metadata.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.storage.tables import write_csv

_VOTABLE = "1.4"
# The standard of units in the VO knows no electron; what it does not know stands in quotes.
_VOUNITS = {"electron / s": "'electron'.s**-1", "electron2 / s2": "'electron'**2.s**-2"}


@dataclass(frozen=True)
class ExportColumn:
    """A column: name, values [N], unit as astropy writes it (None: a pure number), what it is, and its UCD."""

    name: str
    values: NDArray
    unit: str | None
    description: str
    ucd: str | None = None


@dataclass(frozen=True)
class Export:
    """A light curve to be written.

    columns: of one length; meta: plain data; labels: of the images; mhjd: [N] heliocentric MJD (UTC), for PyCS3;
    magnitudes: by label magnitude and error [N].
    """

    columns: list[ExportColumn]
    meta: dict[str, Any]
    labels: list[str]
    mhjd: NDArray[np.float64]
    magnitudes: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def to_csv(export: Export) -> bytes:
    """Comma separated, one header line, numbers with all their digits, `nan` where there is none."""
    text = io.StringIO()
    write_csv(text, {column.name: column.values for column in export.columns})
    return text.getvalue().encode()


def to_ecsv(export: Export) -> bytes:
    """Enhanced CSV (astropy's APE 6): text with units, descriptions and metadata in its header."""
    text = io.StringIO()
    _astropy_table(export).write(text, format="ascii.ecsv", delimiter=",")
    return text.getvalue().encode()


def to_parquet(export: Export) -> bytes:
    """Parquet; numbers that are not there are null. Metadata: of the file (key `lcops`, JSON), of each column unit,
    description and ucd."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields, arrays = [], []
    for column in export.columns:
        array = pa.array(column.values, from_pandas=True)  # NaN: null
        about = {"unit": column.unit, "description": column.description, "ucd": column.ucd}
        metadata = {key: value for key, value in about.items() if value is not None}
        fields.append(pa.field(column.name, array.type, metadata=metadata))
        arrays.append(array)
    schema = pa.schema(fields, metadata={"lcops": json.dumps(export.meta, sort_keys=True)})
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink)
    return sink.getvalue()


def to_votable(export: Export) -> bytes:
    """VOTable 1.4: units, UCDs and descriptions of the columns, metadata as INFO elements, the times in a TIMESYS."""
    from astropy.io.votable.tree import Info, TimeSys, VOTableFile
    from astropy.table import Table
    from astropy.utils.xml.check import fix_id

    # An ID bears less than a name; readers that take IDs for names find the names where these can be IDs.
    ids = _distinct([fix_id(column.name) for column in export.columns])
    file = VOTableFile.from_table(Table([column.values for column in export.columns], names=ids))
    file.version = _VOTABLE
    config = {"version": _VOTABLE, "version_1_4_or_later": True}
    file.resources[0].time_systems.append(
        TimeSys(
            ID="utc", timescale="UTC", refposition="TOPOCENTER", timeorigin="MJD-origin", config=dict(config)
        )
    )
    table = next(file.iter_tables())
    for field, column in zip(table.fields, export.columns, strict=True):
        field.name = column.name
        field._config = dict(config)  # else its unit is checked by the rules of VOTable 1.1
        field.unit = _VOUNITS.get(column.unit, column.unit) if column.unit else None
        field.ucd = column.ucd
        field.description = column.description
        if column.ucd == "time.epoch":
            field.ref = "utc"
    for name, value in export.meta.items():
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        table.infos.append(Info(name=name, value=text))
    sink = io.BytesIO()
    file.to_xml(sink)
    return sink.getvalue()


def to_pycs3(export: Export) -> bytes:
    """What `pycs3.gen.lc_func.rdbimport` reads: mhjd, then mag_<label> and magerr_<label> of each image.

    PyCS3 knows no missing value, so that an epoch in which an image has no magnitude is left out (see `left_out`);
    blanks in a label become underscores, for blanks part its columns.

    Raises:
        ConfigurationError: fewer than two epochs are left: PyCS3 refuses such a curve.
    """
    good = _complete(export)
    if good.sum() < 2:
        raise ConfigurationError(
            f"PyCS3 needs two epochs or more in which every image has a magnitude, and there are {good.sum()}; "
            "choose --per epoch, or look whether the light curve has a zero point (`lcops check`)"
        )
    order = np.flatnonzero(good)[np.argsort(export.mhjd[good], kind="stable")]
    header, columns = ["mhjd"], [export.mhjd[order]]
    names = _distinct(["_".join(label.split()) or "_" for label in export.labels])
    for label, name in zip(export.labels, names, strict=True):
        mag, error = export.magnitudes[label]
        header += [f"mag_{name}", f"magerr_{name}"]
        columns += [mag[order], error[order]]
    lines = ["\t".join(header), "\t".join("=" * len(word) for word in header)]
    lines += ["\t".join(map(repr, row)) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return ("\n".join(lines) + "\n").encode()


def left_out(export: Export) -> int:
    """How many epochs `to_pycs3` leaves out."""
    return int((~_complete(export)).sum())


FORMATS: dict[str, Callable[[Export], bytes]] = {
    "csv": to_csv,
    "ecsv": to_ecsv,
    "parquet": to_parquet,
    "votable": to_votable,
    "pycs3": to_pycs3,
}


def _complete(export: Export) -> NDArray[np.bool_]:
    good = np.isfinite(export.mhjd)
    for mag, error in export.magnitudes.values():
        good = good & np.isfinite(mag) & np.isfinite(error) & (error > 0)
    return good


def _distinct(words: list[str]) -> list[str]:
    """The same words, numbered where they repeat."""
    distinct: list[str] = []
    for base in words:
        word, number = base, 2
        while word in distinct:
            word, number = f"{base}_{number}", number + 1
        distinct.append(word)
    return distinct


def _astropy_table(export: Export) -> Any:
    from astropy.table import Column, Table

    columns = [
        Column(column.values, name=column.name, unit=column.unit, description=column.description)
        for column in export.columns
    ]
    return Table(columns, meta=dict(export.meta))

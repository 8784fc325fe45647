"""A star catalogue in a file: ECSV, FITS, CSV, VOTable or Parquet, with Gaia DR3's column names.

The bulk download of the Gaia archive is CSV under an ECSV header, with `null` for what is missing.
"""

import gzip
import hashlib
from pathlib import Path

from astropy.table import Table

from lightcurver_ops.catalogs.base import cut_to_region, gaia_table
from lightcurver_ops.catalogs.regions import Region
from lightcurver_ops.errors import ConfigurationError

FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".csv": "ascii.csv",
    ".fits": "fits",
    ".fit": "fits",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
}
_MISSING = [("", "0"), ("null", "0"), ("NULL", "0")]
_ECSV = b"# %ECSV"


class LocalFile:
    """A catalogue file. It is read at the first query and kept.

    Args:
        path: the file; its suffix tells the format (`FORMATS`, the text formats also with .gz added).
    """

    name = "file"

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._table: Table | None = None
        self._identity: str | None = None

    def identity(self) -> str:
        """The hash of the file's content: moving or renaming the file changes nothing."""
        if self._identity is None:
            try:
                self._identity = f"file:sha256:{hashlib.sha256(self.path.read_bytes()).hexdigest()}"
            except OSError as error:
                raise self._unusable(error) from error
        return self._identity

    def query(
        self, region: Region, *, epoch_mjd: float | None = None, max_gmag: float | None = None
    ) -> Table:
        """See `CatalogProvider.query`."""
        if self._table is None:
            self._table = gaia_table(self.rows(), f"the catalogue {self.path}")
        return cut_to_region(self._table, region, epoch_mjd=epoch_mjd, max_gmag=max_gmag)

    def rows(self) -> Table:
        """The file's content as it is.

        Raises:
            ConfigurationError: it cannot be read.
        """
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        suffix = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]
        if suffix not in FORMATS:
            raise ConfigurationError(
                f"the catalogue {self.path} has no suffix that tells its format: name it "
                f"*{', *'.join(FORMATS)} (stars: gaia_catalog_file)."
            )
        try:
            return self._read(FORMATS[suffix])
        except Exception as error:
            # Readers of broken files raise anything from IndexError to pyarrow's own; all mean the same here.
            raise self._unusable(error) from error

    def _read(self, format_name: str) -> Table:
        if not format_name.startswith("ascii"):
            return Table.read(self.path, format=format_name)
        with (gzip.open if self.path.suffix.lower() == ".gz" else open)(self.path, "rb") as file:
            if file.read(len(_ECSV)) == _ECSV:
                format_name = "ascii.ecsv"
        return Table.read(self.path, format=format_name, fill_values=_MISSING)

    def has_hours_for(self, region: Region) -> bool:
        """Whether no star of the region is found because right ascensions are hours, without a unit that says so."""
        table = gaia_table(self.rows(), f"the catalogue {self.path}")
        ra = table["ra"].data.data
        return bool(len(ra) and ra.max() <= 24 and region.contains(15 * ra, table["dec"].data.data).any())

    def _unusable(self, error: Exception) -> ConfigurationError:
        if isinstance(error, FileNotFoundError) or not self.path.exists():
            what = "does not exist"
        else:
            what = f"cannot be read as {self.path.suffix or 'a catalogue'}: {error or type(error).__name__}"
        return ConfigurationError(
            f"the catalogue {self.path} {what}. Give a readable file with Gaia DR3's column names as "
            "stars: gaia_catalog_file, or choose the provider gaia or vizier."
        )

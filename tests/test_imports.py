"""What must stay light stays light: a help text, a parsed DAG and a web page must not load the numerical libraries."""

import subprocess
import sys

import pytest

HEAVY = {
    "jax", "starred", "astropy", "sep", "h5py", "matplotlib", "scipy", "shapely", "astroquery", "pyvo", "photutils",
    "astroscrappy", "airflow",
}  # fmt: skip


@pytest.mark.parametrize(
    "module",
    ["lightcurver_ops.cli", "lightcurver_ops.config", "lightcurver_ops.bookkeeping.tables",
     "lightcurver_ops.bookkeeping.ledger", "lightcurver_ops.errors"],
)  # fmt: skip
def test_nothing_heavy_is_imported(module):
    code = f"import sys, {module}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert HEAVY & set(loaded) == set()


def test_no_catalogue_service_is_imported_by_a_local_catalogue():
    code = (
        "import sys\n"
        "from lightcurver_ops.catalogs.providers import open_catalog\n"
        "open_catalog('file', catalog_file='x.ecsv', cache_dir='.')\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('astroquery', 'pyvo')])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

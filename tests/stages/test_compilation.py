"""What jax compiles for the stages of the GPU is kept; without a GPU nothing is."""

import jax
import pytest

from lightcurver_ops.numerics.device import CHOICE
from lightcurver_ops.stages.compilation import compilation_cache, keep_compiled_code

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def _settings_of_jax_stay():
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("choice", ["numpy", "jax"])
def test_code_is_kept_where_jax_compiles(tmp_path, monkeypatch, choice):
    monkeypatch.setenv("LCOPS_CACHE", str(tmp_path))
    monkeypatch.setenv(CHOICE, choice)
    keep_compiled_code()
    assert compilation_cache() == tmp_path / "jax"
    assert compilation_cache().exists() == (choice == "jax")
    if choice == "jax":
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jax")

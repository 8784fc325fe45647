"""The compilation cache of jax: one compilation per shape and machine instead of one per process."""

from pathlib import Path

import jax


def enable_compilation_cache(directory: str | Path) -> None:
    """Keep compiled functions in `directory`, created if absent. Call it once, before the first fit."""
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

"""Where code that jax has compiled is kept between runs."""

import os
from pathlib import Path


def compilation_cache() -> Path:
    """$LCOPS_CACHE, else the user's cache directory."""
    base = (
        os.environ.get("LCOPS_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lcops"
    )
    return Path(base) / "jax"


def keep_compiled_code() -> None:
    """Keep what this process compiles from now on, where its heavy array work is done by jax (`numerics.device`)."""
    from lightcurver_ops.numerics.device import device

    if device().fixed:
        from lightcurver_ops.numerics.psf.compilation import enable_compilation_cache

        enable_compilation_cache(compilation_cache())

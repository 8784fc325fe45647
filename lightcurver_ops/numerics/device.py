"""Where heavy array work is done: by numpy, or by jax on a GPU where jax finds one.

Formulas are functions of arrays that take the array module as `xp`; `device().call` runs them. With numpy that is a
plain call. With jax they are compiled once per shape, in double precision with full-precision products whatever the
rest of the process has set, and the arrays that they return stay on the GPU until `host` fetches them. Callers work in
batches of a fixed size: this is what bounds the GPU's memory, and the number of compilations.

numpy is the default without a GPU, and jax is then not even imported.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lightcurver_ops.errors import ConfigurationError

CHOICE = "LCOPS_ARRAYS"
"""Environment variable: "numpy" or "jax" decide, "auto" (the default) takes jax where it finds a GPU."""

BATCH_BYTES = 2**30  # what the temporary arrays of one call may need on a GPU
COUNTS = (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 32)


def padded_count(count: int) -> int:
    """The size that a varying number, of stars, say, is padded to: few sizes, few compilations."""
    return next((size for size in COUNTS if size >= count), -(-count // 16) * 16)


class Device:
    """numpy on the CPU: calls as they are.

    Attributes:
        xp: the array module.
        fixed: whether batches must be padded to one size, since every new shape costs a compilation.
    """

    xp: ModuleType = np
    fixed = False

    def batch(self, bytes_each: int, usual: int) -> int:
        """How many elements a batch has: the usual number on a CPU, on a GPU what `BATCH_BYTES` hold.

        Args:
            bytes_each: of the temporary arrays of one element.
            usual: what is best on a CPU.
        """
        return usual

    def call(self, function: Callable[..., Any], *arrays: Any, **static: Any) -> Any:
        """`function(*arrays, **static, xp=the array module)`; the static arguments must be hashable."""
        return function(*arrays, **static, xp=self.xp)

    def put(self, array: Any) -> Any:
        """An array [...] on the device, for several calls."""
        return array

    def host(self, array: Any) -> NDArray:
        """An array of the device as one of numpy."""
        return np.asarray(array)

    def add_gram(self, total: Any, rows: Any, sign: int) -> Any:
        """`total + sign rows^T rows` of [G, G] and [..., G], of which the lower triangle counts; `total` is used up."""
        # To BLAS, which counts columns first, our lower triangle is the upper one of the transpose.
        result = linalg.blas.ssyrk(
            float(sign), rows.reshape(-1, rows.shape[-1]).T, beta=1.0, c=total.T, overwrite_c=1, lower=0
        )
        assert np.shares_memory(result, total)
        return total


class JaxDevice(Device):
    """jax on whatever it finds."""

    fixed = True

    def __init__(self) -> None:
        import jax.numpy as jnp

        self.xp = jnp

    def batch(self, bytes_each: int, usual: int) -> int:
        return max(1, BATCH_BYTES // bytes_each)

    def call(self, function: Callable[..., Any], *arrays: Any, **static: Any) -> Any:
        with _precise():
            return _compiled(function, tuple(sorted(static)))(*arrays, **static)

    def put(self, array: Any) -> Any:
        with _precise():
            return self.xp.asarray(array)

    def add_gram(self, total: Any, rows: Any, sign: int) -> Any:
        with _precise():
            return _jax_gram()(total, rows, np.float32(sign))


def device() -> Device:
    """Where the arrays of this process are worked on; `CHOICE` decides, else whether there is a GPU.

    Raises:
        ConfigurationError: the variable has another value.
    """
    choice = os.environ.get(CHOICE, "auto")
    if choice not in ("auto", "numpy", "jax"):
        raise ConfigurationError(f"${CHOICE} is {choice!r}: expected 'auto', 'numpy' or 'jax'.")
    return _jax_device() if choice == "jax" or (choice == "auto" and has_gpu()) else _NUMPY


@lru_cache(maxsize=1)
def has_gpu() -> bool:
    """Whether jax works on a GPU. jax is asked, and imported, only where one of its plugins is installed."""
    # The two ways in which jax finds its plugins.
    package = find_spec("jax_plugins")
    if package is None and not entry_points(group="jax_plugins"):
        return False
    import jax

    # Not every accelerator has double precision: CUDA's and ROCm's have.
    return bool(jax.default_backend() == "gpu")


_NUMPY = Device()


@lru_cache(maxsize=1)
def _jax_device() -> JaxDevice:
    return JaxDevice()


def one_thread() -> AbstractContextManager[Any]:
    """BLAS and OpenMP work in one thread meanwhile.

    Their threads wait for each other by turning in circles: where other processes need the cores, too, as the tasks of
    an Airflow worker do, products of a few hundred rows become ten times slower, where alone they hardly gain.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def _precise() -> Any:
    from contextlib import ExitStack

    import jax

    stack = ExitStack()
    stack.enter_context(jax.enable_x64(True))
    stack.enter_context(jax.default_matmul_precision("highest"))
    return stack


@lru_cache(maxsize=128)
def _compiled(function: Callable[..., Any], static: tuple[str, ...]) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    return jax.jit(partial(function, xp=jnp), static_argnames=static)


@lru_cache(maxsize=1)
def _jax_gram() -> Callable[..., Any]:
    import jax

    def add(total: Any, rows: Any, sign: Any) -> Any:
        flat = rows.reshape(-1, rows.shape[-1])
        return total + sign * (flat.T @ flat)

    return jax.jit(add, donate_argnums=0)

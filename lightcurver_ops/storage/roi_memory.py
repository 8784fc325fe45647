"""What the joint model of the ROI keeps between nights, in one HDF5 file that may be deleted at any time."""

import json
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.psf.operators import blur_matrix
from lightcurver_ops.numerics.roi.epoch import Epochs, Layout, Local
from lightcurver_ops.numerics.roi.galaxy import Frame
from lightcurver_ops.numerics.roi.lights import Lights
from lightcurver_ops.numerics.roi.modes import Modes
from lightcurver_ops.numerics.roi.normal import NormalMatrix, mirror_lower
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.numerics.roi.scene import Prior, Scene
from lightcurver_ops.numerics.roi.state import Problem, State
from lightcurver_ops.numerics.roi.trust import Trust
from lightcurver_ops.numerics.roi.update import Memory
from lightcurver_ops.storage.hdf5 import opened_hdf5, write_hdf5

_MODES = ("curvature", "seen")
_LIGHTS = ("templates", "amplitude", "precision")
_SUMS = ("rhs", "flux_response", "flux_weight", "starlet_variance")


def write_roi_memory(path: str | Path, memory: Memory) -> None:
    """Write the memory.

    Raises:
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    problem, state, scene = memory.problem, memory.state, memory.state.scene
    asked = {
        "layout": asdict(problem.layout),
        "options": asdict(problem.options),
        "margin": problem.margin,
        "with_galaxy": problem.with_galaxy,
        "blurred": problem.resolution is not None,
        "precision": problem.prior.precision,
        "since": memory.since,
        "scratch": memory.scratch,
        "epochs": memory.normal.epochs,
        "weight": memory.normal.weight,
    }

    def fill(file: h5py.File) -> None:
        file.attrs["asked"] = json.dumps(asked)
        file["keys"] = list(memory.keys)
        for name in Epochs._fields:
            file[f"epochs/{name}"] = getattr(problem.epochs, name).astype(np.float32)
        for name in Local._fields:
            file[f"locals/{name}"] = getattr(state.locals, name)
        file["trust/scale"], file["trust/aside"] = problem.trust.scale, problem.trust.aside
        file["prior/positions"], file["prior/theta"] = problem.prior.positions, problem.prior.theta
        for name in ("positions", "mean", "structure"):
            file[f"scene/{name}"] = getattr(scene, name)
        if scene.theta is not None:
            file["scene/theta"] = scene.theta
        if scene.lights is not None:
            for name in _LIGHTS:
                file[f"scene/lights/{name}"] = getattr(scene.lights, name)
        file["covariances"] = memory.covariances
        file["normal/matrix"] = _packed(memory.normal.matrix)
        for name in _MODES:
            file[f"normal/modes/{name}"] = getattr(memory.normal.modes, name)
        for name in _SUMS:
            file[f"normal/{name}"] = getattr(memory.normal, name)

    write_hdf5(path, fill)


def read_roi_memory(path: str | Path) -> Memory | None:
    """The memory; None where there is none, or none that can be read: a fit from scratch then makes a new one."""
    if not Path(path).exists():
        return None
    try:
        with opened_hdf5(path, "model_calibrated_cutouts") as file:
            return _memory(file)
    except (BadFrame, ValueError, TypeError):
        return None


def _memory(file: h5py.File) -> Memory:
    asked = json.loads(file.attrs["asked"])
    layout = Layout(**asked["layout"])
    resolution = blur_matrix if asked["blurred"] else None
    epochs = Epochs(*(file[f"epochs/{name}"][()].astype(np.float64) for name in Epochs._fields))
    local = Local(*(file[f"locals/{name}"][()] for name in Local._fields))
    scale = file["trust/scale"][()]
    frame = Frame.of(layout.fine, None if resolution is None else resolution(layout.fine))
    theta = file["scene/theta"][()] if "scene/theta" in file else None
    positions, mean, structure = (file[f"scene/{name}"][()] for name in ("positions", "mean", "structure"))
    lights = None
    if "scene/lights" in file:
        lights = Lights(*(file[f"scene/lights/{name}"][()] for name in _LIGHTS))
    modes = Modes(*(file[f"normal/modes/{name}"][()] for name in _MODES))
    normal = NormalMatrix(
        matrix=_unpacked(file["normal/matrix"][()]),
        modes=modes,
        weight=asked["weight"],
        epochs=asked["epochs"],
        **{name: file[f"normal/{name}"][()] for name in _SUMS},
    )
    return Memory(
        keys=tuple(file["keys"].asstr()[()]),
        problem=Problem(
            epochs=epochs,
            layout=layout,
            prior=Prior(file["prior/positions"][()], asked["precision"], file["prior/theta"][()]),
            options=RoiOptions(**asked["options"]),
            margin=asked["margin"],
            resolution=resolution,
            with_galaxy=asked["with_galaxy"],
            trust=Trust(epochs.weight * scale[:, None, None] ** 2, scale, file["trust/aside"][()]),
            modes=modes,
        ),
        state=State(Scene(positions, mean, theta, structure, frame, lights), local),
        normal=normal,
        covariances=file["covariances"][()],
        since=asked["since"],
        scratch=asked["scratch"],
    )


def _packed(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lower triangle by rows."""
    return np.concatenate([matrix[row, : row + 1] for row in range(len(matrix))])


def _unpacked(triangle: NDArray[np.float32]) -> NDArray[np.float32]:
    """The symmetric matrix of a lower triangle."""
    side = (int(np.sqrt(8 * triangle.size + 1)) - 1) // 2
    matrix = np.zeros((side, side), dtype=np.float32)
    start = 0
    for row in range(side):
        matrix[row, : row + 1] = triangle[start : start + row + 1]
        start += row + 1
    mirror_lower(matrix)
    return matrix

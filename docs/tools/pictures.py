"""`make pictures`: reduce the demonstration's first lens and keep each kind of figure, small, for the tutorial."""

import sys
import tempfile
from pathlib import Path

import yaml
from PIL import Image

from lightcurver_ops.config import load_lens
from lightcurver_ops.simulation.observatory import simulate_observatory
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.injection import InjectionOptions, inject_variations
from lightcurver_ops.stages.pipeline import run_pipeline

PICTURES = Path(__file__).parents[1] / "pictures"
WIDTH = 1100
"""px; wider figures are reduced to it."""

FIGURES = {
    "sources": "diagnostics/sources/demo_r_60281_001.png",
    "footprints": "diagnostics/footprints.png",
    "footprints_with_stars": "diagnostics/footprints_with_stars.png",
    "psf": "diagnostics/psf/demo_r_60281_001.png",
    "star": "diagnostics/stars/*.png",
    "normalization": "diagnostics/normalization_r.png",
    "residuals": "prepared_roi_cutouts/demo_r_residuals.png",
    "light_curves": "prepared_roi_cutouts/demo_r_light_curves.png",
    "injection": "injection/demo_r_1.png",
}
"""name of the picture: figure in the working directory of the demonstration's first lens, the first that fits."""


def make_pictures(directory: Path) -> None:
    """Simulate, reduce and inject in ``directory``, then write docs/pictures/*.webp."""
    simulate_observatory(directory)
    path = directory / "lenses" / "demo.yaml"
    content = yaml.safe_load(path.read_text())
    content["detection"] = {**content.get("detection", {}), "do_plots": True}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    lens = Lens(load_lens(path))
    run_pipeline(lens, announce=lambda result: print(result.name, flush=True))
    inject_variations(lens, InjectionOptions())
    lens.close()
    PICTURES.mkdir(exist_ok=True)
    for name, figure in FIGURES.items():
        keep(min(lens.workdir.glob(figure)), PICTURES / f"{name}.webp")


def keep(figure: Path, picture: Path) -> None:
    """A figure as WebP, at most `WIDTH` wide."""
    with Image.open(figure) as image:
        colours = image.convert("RGB")
    if colours.width > WIDTH:
        colours = colours.resize(
            (WIDTH, round(colours.height * WIDTH / colours.width)), Image.Resampling.LANCZOS
        )
    colours.save(picture, "WEBP", quality=82, method=6)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make_pictures(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            make_pictures(Path(temporary))

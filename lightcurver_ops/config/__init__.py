"""What a lens and an observatory are: frozen models, YAML files, and messages that say what to write instead."""

from lightcurver_ops.config.loading import load_lens, load_observatory
from lightcurver_ops.config.models import LensConfig
from lightcurver_ops.config.observatory import ObservatoryConfig

__all__ = ["LensConfig", "ObservatoryConfig", "load_lens", "load_observatory"]

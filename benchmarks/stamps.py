"""Simulated stamps of stars, and the cases of a growth: one quantity changed at a time."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stamps:
    """What is simulated."""

    frames: int = 32
    stars: int = 10
    size: int = 24
    subsampling: int = 2


@dataclass(frozen=True)
class Growth:
    """Values that each quantity takes."""

    frames: tuple[int, ...] = (16, 64, 256, 1024)
    sizes: tuple[int, ...] = (24, 32, 48, 64)
    subsamplings: tuple[int, ...] = (1, 2, 3)
    stars: tuple[int, ...] = (4, 8, 16, 32)

    def cases(self, base: Stamps) -> list[Stamps]:
        """What is measured, each once: all others have the values of `base`."""
        cases = [replace(base, frames=frames) for frames in self.frames]
        cases += [replace(base, size=size) for size in self.sizes]
        cases += [replace(base, subsampling=subsampling) for subsampling in self.subsamplings]
        cases += [replace(base, stars=stars) for stars in self.stars]
        return list(dict.fromkeys(cases))


COLUMNS = {"frames": "frames", "stars": "stars", "size": "stamp [px]", "subsampling": "k"}

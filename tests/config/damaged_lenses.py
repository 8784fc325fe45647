"""Damages thousands of lens files and loads them: `python -m tests.config.damaged_lenses FIRST COUNT`.

In a process of its own, whose memory and processor time are bounded: prints the outcomes, and what no file may cause.
"""

import json
import logging
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from lightcurver_ops.config import load_lens
from lightcurver_ops.config.template import lens_template
from lightcurver_ops.operations.observatory import load_lenses

ROOT = Path(__file__).parents[2]
MEMORY = 3 * 2**29  # bytes above what the libraries take
SECONDS = 20  # of the processor, for one file: it takes milliseconds
MOST_OFTEN = 50  # files after which the good one is loaded beside them

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    2**63,
    10**40,
    0.5,
    "",
    " ",
    "x",
    "\0",
    "~",
    "~nobody_of_this_name/x",
    "/dev/null",
    "/dev/zero",
    "/",
    "{{ home }}",
    "FILL_IN",
    "é" * 50,
    "a" * 6000,
    "\uffff",
    "..",
    [],
    {},
    [[]],
    [{}],
    {"": ""},
    {1: 2},
    ["x"] * 300,
    list(range(300)),
    "s3://",
    "s3://user:word@host/x",
    "postgresql://",
    "*/0 * * * *",
    "Europe/Nowhere",
    "../../etc/passwd",
    b"\xff\x00",
    {"a": {"b": {"c": [1, {"d": None}]}}},
]
TEXTS = [
    "&a [*a]",
    "*nothing",
    "<<: *a",
    "&a {<<: *a}",
    "!!python/object/apply:os.system ['true']",
    "!!python/name:os.system",
    "!!binary 'x'",
    "!!set {a, b}",
    "!!timestamp 2024-02-30",
    "!!int x",
    "!!float many",
    "!unknown {}",
    "2024-02-30",
    "2024-01-01",
    "2024-01-01T25:61:61Z",
    "12:61:61",
    "0x" + "f" * 9000,
    "9" * 9000,
    "1" + ":59" * 4000,
    "1e999",
    "0o9",
    "!!timestamp x",
    "!!bool x",
    ".inf",
    ".nan",
    "[" * 3000,
    "{a: " * 3000,
    "- " * 2000,
    "? " * 2000,
    "[" * 200 + "]" * 200,
    "{{ x }}",
    "'",
    '"',
    "|",
    ">",
    "\t",
    "\r",
    "\0",
    "\x1b",
    "\x85",
    "\u2028",
    "%YAML 9.9\n---\n",
    "---\n",
    "...\n",
    "#",
    ": ",
    ", ",
    "\n",
    "x" * 20000,
    "{" + ", ".join(f"k{i}: {i}" for i in range(400)) + "}",
    "[" + "1, " * 900 + "]",
    "a0: &a0 [x, x, x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)),
    "".join(f"{'  ' * i}k:\n" for i in range(70)),
    "".join(f"key{i}: 1\n" for i in range(300)),
]


def sound_files() -> list[str]:
    """Lens files of each kind that there is: the example, the template's, a short one, one of every key, a flat one."""
    from tests.config.test_hostile import LENS
    from tests.config.test_legacy import FLAT

    example = (ROOT / "examples" / "hatp32.yaml").read_text()
    positions = {"A": [70.5, -21.0], "B": [70.5001, -21.0001]}
    demo = {"name": "demo", "workdir": "./work", "raw": {"raw_dirs": ["./raw"]}}
    demo["roi"] = {"ra": 70.5, "dec": -21.0, "point_sources": positions}
    template = lens_template(demo)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "lens.yaml")
        path.write_text(template)
        every_key = yaml.safe_dump(json.loads(load_lens(path).model_dump_json()))
    return [LENS, example, template, every_key, FLAT, f"observatory: observatory.yaml\n{LENS}"]


def damaged(text: str, rng: random.Random) -> bytes:
    """The file with one to three faults in its bytes, its words, or its structure."""
    kind = rng.randrange(4)
    if kind == 0:
        return _other_structure(text, rng)
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) or 1)
        if kind == 1:
            _other_bytes(data, at, rng)
        elif kind == 2:
            data[at:at] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
        else:
            # In place of a value, or of a key.
            lines = data.decode("utf-8", "replace").splitlines(keepends=True) or ["\n"]
            number = rng.randrange(len(lines))
            head, colon, tail = lines[number].partition(":")
            new = rng.choice(TEXTS)
            lines[number] = f"{head}: {new}\n" if rng.randrange(4) else f"{new}{colon}{tail}"
            if not rng.randrange(4):
                lines.insert(number, lines[number])
            data = bytearray("".join(lines).encode("utf-8", "surrogatepass"))
    return bytes(data)


def _other_bytes(data: bytearray, at: int, rng: random.Random) -> None:
    kind = rng.randrange(5)
    if kind == 0 and data:
        data[at] = rng.randrange(256)
    elif kind == 1:
        del data[at : at + rng.randint(1, 30)]
    elif kind == 2:
        data[at:at] = rng.randbytes(3)
    elif kind == 3:
        data[at:at] = data[:at]
    else:
        del data[at:]


def _other_structure(text: str, rng: random.Random) -> bytes:
    content = yaml.load(text, yaml.CSafeLoader)
    for _ in range(rng.randint(1, 3)):
        target, key = content, rng.choice(list(content))
        while isinstance(target[key], (dict, list)) and target[key] and rng.randrange(3):
            target = target[key]
            key = rng.choice(list(target)) if isinstance(target, dict) else rng.randrange(len(target))
        kind = rng.randrange(6)
        if kind < 3:
            target[key] = rng.choice(VALUES)
        elif kind == 3:
            for _ in range(rng.choice([1, 3, 45, 60])):
                target[key] = rng.choice([[target[key]], {"x": target[key]}])
        elif kind == 4 and isinstance(target, dict):
            del target[key]
            if not content:
                content["name"] = "x"
        elif isinstance(target, dict):
            target[rng.choice(["x", "database", str(key)[:-1], 7, None])] = rng.choice(VALUES)
    return yaml.dump(content, Dumper=yaml.CSafeDumper, allow_unicode=bool(rng.randrange(2))).encode(
        "utf-8", "surrogatepass"
    )


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"{SECONDS} s of the processor for one file")


def main(first: int, count: int) -> int:
    logging.disable(logging.CRITICAL)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS * 20, SECONDS * 20))  # what no handler interrupts
    signal.signal(signal.SIGPROF, _too_slow)
    sound, outcomes, faults = sound_files(), Counter(), []
    with tempfile.TemporaryDirectory() as directory:
        path, good = Path(directory, "broken.yaml"), Path(directory, "good.yaml")
        good.write_text(sound[0].replace("name: demo", "name: good"))
        Path(directory, "observatory.yaml").write_text(
            "name: here\nlenses: ['*.yaml']\ntimezone: Europe/Berlin\n"
        )
        for number in range(first, first + count):
            rng = random.Random(number)
            path.write_bytes(damaged(sound[number % len(sound)], rng))
            beside = [good] if number % MOST_OFTEN == 0 else []
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                loaded = load_lenses([path, *beside])
            except BaseException:
                faults.append(f"{number}: {traceback.format_exc(limit=-3)}")
                continue
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            said = loaded.broken.pop(path, None)
            outcomes["loaded" if said is None else "refused"] += 1
            if said is not None and str(path) not in said:
                faults.append(f"{number}: does not name its file: {said}")
            if said is not None and "this configuration file cannot be used" in said:
                faults.append(f"{number}: not foreseen: {said}")
            if beside and (loaded.broken or good not in [one.path for one in loaded.lenses]):
                faults.append(f"{number}: the lens beside it is not loaded")
    print(dict(outcomes))
    print("\n".join(faults[:10]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))

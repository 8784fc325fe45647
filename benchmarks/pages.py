"""How fast the operator's pages answer: a real API server, asked over HTTP by a user who has logged in."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import sqlalchemy as sa

from lightcurver_ops.airflow.local import LocalAirflow
from lightcurver_ops.bookkeeping import frames, ledger
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.stages.pipeline import STAGE_NAMES


def measure(
    airflow: LocalAirflow, engine: sa.Engine, lens: str, run_id: str | None = None
) -> Iterator[dict[str, Any]]:
    """Per page: seconds of the first request after an entry into the bookkeeping of the lens, of the next one, and kB.

    The list of all lenses is asked for again until it knows of the entry: how old it may be is `aside_s`.

    Args:
        airflow: its API server runs, and knows the DAGs of the lens.
        engine: of the bookkeeping that the lenses' files name.
        lens: whose pages are asked for.
        run_id: of a run of its nights, for that page.
    """
    with reading(engine) as connection:
        frame = frames.all_frames(connection, lens)[-1].number
    place = f"lens/{lens}__season"
    paths = {
        "observatory": "observatory/",
        "light curve": f"{place}/",
        "its data": f"{place}/curve.json?filter=r",
        "frames": f"{place}/frames/",
        "a frame": f"{place}/frames/{frame}/",
        "stars": f"{place}/stars/",
        "their data": f"{place}/stars.json?filter=r",
        "stages": f"{place}/state/",
    } | ({"night": f"run/{lens}__nightly/{run_id}/"} if run_id else {})
    with _client(airflow) as client:
        ask = _asker(client)
        start = ask("observatory/")[0]
        yield {
            "page": "observatory, first of all",
            "first_s": start,
            "next_s": None,
            "aside_s": None,
            "kb": None,
        }
        for name, path in paths.items():
            _enter(engine, lens)
            begin = time.perf_counter()
            (first, _, old), (following, size, _) = ask(path), ask(path)
            aside = 0.0 if name == "observatory" else None
            while old:
                time.sleep(0.1)
                old, aside = ask(path)[2], time.perf_counter() - begin
            yield {"page": name, "first_s": first, "next_s": following, "aside_s": aside, "kb": size / 1024}


def _client(airflow: LocalAirflow) -> httpx.Client:
    return httpx.Client(base_url=f"{airflow.url}/lcops/", cookies={"_token": airflow.token()}, timeout=600)


def _asker(client: httpx.Client) -> Callable[[str], tuple[float, int, bool]]:
    def ask(path: str) -> tuple[float, int, bool]:
        """Seconds, bytes, and whether the page is out of date."""
        begin = time.perf_counter()
        answer = client.get(path)
        seconds = time.perf_counter() - begin
        assert answer.status_code == 200, (path, answer.status_code, answer.text[-2000:])
        return seconds, len(answer.content), "s ago</span>" in answer.text

    return ask


def _enter(engine: sa.Engine, lens: str) -> None:
    """A stage has run."""
    with writing(engine) as connection:
        run = ledger.begin_run(connection, lens, STAGE_NAMES[1], 1)
        ledger.end_run(connection, run, "done", n_done=1, n_failed=0, message="1 of 1 done")

"""Passwords that a test plants where passwords belong are looked for in all that a run leaves, and shows."""

import base64
import bz2
import gzip
import html
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx

_LINK = re.compile(r"""(?:href|src|data-[a-z]+)=["']([^"'<>]+)["']""")
_MOST_PAGES = 300
# Of Airflow's REST API, what shows something of ours.
_OF_AIRFLOW = (
    "dags",
    "connections",
    "variables",
    "pools",
    "importErrors",
    "eventLogs?limit=1000",
    "dagWarnings",
)


def said_in(content: bytes, secrets: Mapping[str, str]) -> list[str]:
    """Names of the secrets that some bytes have, as they are or in base64."""
    return [
        name for name, secret in secrets.items() if any(form in content for form in _forms(secret.encode()))
    ]


def said_in_files(
    secrets: Mapping[str, str], directories: Iterable[Path], *, but: Collection[Path]
) -> list[str]:
    """`path: name` of secrets in files below some directories, also in packed ones.

    Args:
        secrets: name: value.
        directories: where to look.
        but: files, or directories with all that is in them, where secrets belong.
    """
    apart = {path.resolve() for path in but}
    found = []
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            if path.is_symlink() or not path.is_file() or apart & {path.resolve(), *path.resolve().parents}:
                continue
            names = {name for content in _contents(path) for name in said_in(content, secrets)}
            found += [f"{path}: {name}" for name in sorted(names)]
    return found


def said_by_server(
    secrets: Mapping[str, str], client: httpx.Client, pages: Iterable[str], runs: Callable[[], list[dict]]
) -> tuple[list[str], set[str]]:
    """What the pages say, and all that links lead to from them; what Airflow's REST API says, logs of tasks included.

    Args:
        secrets: name: value.
        client: of the REST API, logged in, with the base URL .../api/v2.
        pages: URLs to begin with; below their directory all links are followed.
        runs: the DAG runs, as the REST API has them.

    Returns:
        `address: name` of secrets, and the addresses that were read.
    """
    answers = dict(_crawled(client, list(pages)))
    for path in (*_OF_AIRFLOW, *(_of_run(client, runs()))):
        answers[path] = client.get(f"/{path}")
    found = [
        f"{address}: {name}"
        for address, answer in answers.items()
        for name in said_in(answer.content + str(answer.headers).encode(), secrets)
    ]
    return found, set(answers)


def _of_run(client: httpx.Client, runs: list[dict]) -> Iterator[str]:
    for run in runs:
        of_run = f"dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"
        yield of_run
        yield f"dags/{run['dag_id']}/details"
        tasks = client.get(f"/{of_run}/taskInstances", params={"limit": 1000})
        yield f"{of_run}/taskInstances?limit=1000"
        for task in tasks.json()["task_instances"]:
            if task["try_number"]:
                of_task = f"{of_run}/taskInstances/{task['task_id']}"
                yield f"{of_task}/logs/{task['try_number']}?full_content=true&map_index={task['map_index']}"
                yield f"{of_task}/xcomEntries?map_index={task['map_index']}"


def _crawled(client: httpx.Client, waiting: list[str]) -> Iterator[tuple[str, httpx.Response]]:
    """Address and answer, of pages and of all that they lead to beside or below them."""
    root = waiting[0].rsplit("/lcops/", 1)[0] + "/lcops/"
    seen = set(waiting)
    for address in waiting:  # grows
        answer = client.get(address, follow_redirects=True)
        yield address, answer
        if answer.headers.get("content-type", "").startswith("text/html"):
            for link in _LINK.findall(answer.text):
                target = urldefrag(urljoin(str(answer.url), html.unescape(link)))[0]
                if target.startswith(root) and target not in seen and len(seen) < _MOST_PAGES:
                    assert urlsplit(target).scheme == "http"
                    seen.add(target)
                    waiting.append(target)


def _forms(secret: bytes) -> Iterator[bytes]:
    yield secret
    for shift in range(
        3
    ):  # of what else is encoded with it, before and after, some letters hang together with it
        coded = base64.b64encode(b"\0" * shift + secret)
        yield coded[4 if shift else 0 : len(coded) // 4 * 4 - 4]


def _contents(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield content
    unpack = {b"\x1f\x8b": gzip.decompress, b"BZ": bz2.decompress}.get(content[:2])
    if unpack is not None:
        try:
            yield unpack(content)
        except (OSError, EOFError, zlib.error, ValueError):
            return  # damaged on purpose
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield archive.read(name)

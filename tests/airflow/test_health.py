"""What a container's health check says of an Airflow that answers, answers nonsense, or does not."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lightcurver_ops.airflow.health import COMPONENTS, problem

WELL = {"metadatabase": {"status": "healthy"}, "triggerer": {"status": "healthy"}}
ILL = {"scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": "2026-01-01T00:00:00"}}


@pytest.fixture
def airflow():
    """An API server below a prefix: `airflow.body` is what it says of its health."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/astro/api/v2/monitor/health" else 404)
            self.end_headers()
            self.wfile.write(server.body)

        def log_message(self, *_arguments):
            return

    server = HTTPServer(("127.0.0.1", 0), Answer)
    server.body = json.dumps({**WELL, **ILL}).encode()
    server.url = f"http://127.0.0.1:{server.server_port}/astro/execution/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_component_that_is_well(airflow):
    assert problem("triggerer", airflow.url) is None
    assert problem("api-server", airflow.url) is None


def test_one_that_is_not_and_one_that_nobody_heard_of(airflow):
    assert problem("scheduler", airflow.url) == "scheduler is unhealthy; last heard of: 2026-01-01T00:00:00"
    assert problem("dag_processor", airflow.url) == "dag_processor is None; last heard of: None"


def test_an_api_server_that_does_not_answer_or_is_something_else(airflow):
    airflow.body = b"<html>"
    assert problem("api-server", airflow.url).startswith("the API server does not answer: ")
    elsewhere = airflow.url.replace("/astro", "")
    assert problem("api-server", elsewhere) == "the API server does not answer: HTTP Error 404: Not Found"
    assert "the API server does not answer" in problem("scheduler", "http://127.0.0.1:9/execution/")


@pytest.mark.parametrize(
    ("arguments", "url", "said"),
    [
        ([], "http://127.0.0.1:9/", f"health: give one of {', '.join(COMPONENTS)}"),
        (["worker"], "http://127.0.0.1:9/", "health: there is no component 'worker'; there are api-server, "),
        (["scheduler"], "", "health: AIRFLOW__CORE__EXECUTION_API_SERVER_URL is not set"),
    ],
)
def test_called_wrongly(arguments, url, said):
    result = subprocess.run(
        [sys.executable, "-m", "lightcurver_ops.airflow.health", *arguments],
        env={**os.environ, "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(said)


def test_it_needs_no_airflow():
    code = "import sys, lightcurver_ops.airflow.health; sys.exit(any(name in sys.modules for name in sys.argv[1:]))"
    assert subprocess.run([sys.executable, "-c", code, "airflow", "pydantic"], check=False).returncode == 0

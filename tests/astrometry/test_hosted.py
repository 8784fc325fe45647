"""The hosted solver against a small server that speaks the service's protocol."""

import json
import logging
import threading
import urllib.parse
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lightcurver_ops.astrometry.hosted import HostedSolver
from lightcurver_ops.errors import BadFrame, ConfigurationError, TemporaryFailure

KEY = "secretsecretkey"


class Service(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = json.loads(urllib.parse.parse_qs(body)["request-json"][0])
        self.server.asked.append(asked)
        if self.server.broken:
            self._send("<html>Bad gateway</html>")
        elif self.path == "/api/login":
            good = asked["apikey"] == KEY
            self._send(json.dumps({"status": "success", "session": "s"} if good else {"status": "error"}))
        else:
            self._send(json.dumps({"status": "success", "subid": 7}))

    def do_GET(self):
        if self.path == "/api/submissions/7":
            self._send(json.dumps({"jobs": [8]}))
        elif self.path == "/api/jobs/8/info":
            self._send(json.dumps({"status": "success" if self.server.header else "failure"}))
        else:
            self._send(self.server.header)

    def _send(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def service():
    server = HTTPServer(("127.0.0.1", 0), Service)
    server.asked, server.header, server.broken = [], "", False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def solver_for(service, key=KEY):
    return HostedSolver(key, timeout_s=20, server=f"http://127.0.0.1:{service.server_port}")


def test_solved_and_refined_and_the_key_stays_secret(sim, service, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("astropy").setLevel(logging.DEBUG)
    model, request = sim.frame(1)
    rough = type(model)(model.crpix, model.crval, model.cd * 1.003)
    service.header = rough.to_header().tostring()
    solver = solver_for(service)
    solution = solver.solve(request)
    assert sim.corner_errors_px(solution.wcs, model).max() < 0.5
    job = service.asked[1]
    assert job["x"][0] == pytest.approx(request.x[0] + 1)  # the service counts from 1
    assert (job["image_width"], job["image_height"]) == (650, 500)
    assert (job["scale_lower"], job["scale_upper"], job["publicly_visible"]) == (0.6, 0.8, "n")
    assert KEY not in caplog.text + repr(solver) + str(solution)


def test_not_solved_and_not_believed(sim, service):
    model, request = sim.frame(1)
    with pytest.raises(BadFrame, match="found no solution"):
        solver_for(service).solve(request)
    elsewhere = type(model)(model.crpix, model.crval + 5.0, model.cd)
    service.header = elsewhere.to_header().tostring()
    with pytest.raises(BadFrame, match="was asked for"):
        solver_for(service).solve(replace(request, catalogue=None))


def test_wrong_key_broken_and_absent_service(sim, service):
    _, request = sim.frame(1)
    with pytest.raises(ConfigurationError, match="refused the API key") as refused:
        solver_for(service, "otherkey").solve(request)
    assert "otherkey" not in str(refused.value)
    service.broken = True
    with pytest.raises(TemporaryFailure, match="no answer"):
        solver_for(service).solve(request)
    with pytest.raises(TemporaryFailure, match="no answer"):
        HostedSolver(KEY, server="http://127.0.0.1:9").solve(request)
    with pytest.raises(ConfigurationError, match="API key"):
        solver_for(service, "").solve(request)

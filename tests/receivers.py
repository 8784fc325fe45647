"""Where alerts arrive in tests: a mail server and a web server on loopback."""

import http.server
import json
import socket
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


@dataclass
class Mailbox:
    """What a mail server received."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    passwords: set[str] = field(default_factory=set)
    """Of those who logged in, which takes no password in particular, or none."""

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 OK"

    def authenticate(
        self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, login: Any
    ) -> AuthResult:
        self.passwords.add(login.password.decode())
        return AuthResult(success=True)

    @property
    def subjects(self) -> list[str]:
        return [str(message["Subject"]).replace("\n", "") for message in self.messages]


@dataclass
class Posts:
    """What a web server received."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    answer: int = 200

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [body for body in self.bodies if body.get("kind") == kind]


@pytest.fixture(scope="module")
def mailbox():
    """A mail server on loopback."""
    box = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        box.port = probe.getsockname()[1]
    controller = Controller(
        box, hostname="127.0.0.1", port=box.port, authenticator=box.authenticate, auth_require_tls=False
    )
    controller.start()
    yield box
    controller.stop()


@pytest.fixture(scope="module")
def posts():
    """A web server on loopback that takes what is posted to it."""
    received = Posts()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(received.answer)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield received
    server.shutdown()
    server.server_close()

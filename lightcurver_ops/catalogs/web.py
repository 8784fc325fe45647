"""HTTP sessions for catalogue services: whole answers in time, or an error. Imported when one is asked."""

import gzip
import http.client
import io
import time
from email.utils import parsedate_to_datetime
from typing import Any

import requests
import urllib3

from lightcurver_ops import __version__

PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that a later request may not meet."""


class WholeAnswers(requests.Session):
    """A session for pyvo, which itself sets no time limit and reads answers as they come.

    Args:
        timeout_s: from the request to the last byte of its answer.
    """

    def __init__(self, timeout_s: float):
        super().__init__()
        self.timeout_s = timeout_s
        self.headers["User-Agent"] = f"lightcurver-ops/{__version__}"
        self.status = 0
        """Of the latest answer; 0: there was none."""
        self.retry_after_s = 0.0
        """What the latest answer asked to wait."""

    def request(self, method: Any, url: Any, *arguments: Any, **keywords: Any) -> requests.Response:
        """As `requests.Session.request`, with the body read and unpacked.

        Raises:
            requests.RequestException: no connection, no answer in time, an answer that ends early, or a status that
                may pass.
        """
        self.status, self.retry_after_s = 0, 0.0
        keywords["timeout"] = self.timeout_s
        keywords["stream"] = True
        start = time.monotonic()
        response = super().request(method, url, *arguments, **keywords)
        body = _body(response, start + self.timeout_s)
        if body.startswith(b"\x1f\x8b"):  # packed, whatever the headers say
            body = gzip.decompress(body)
        self.status = response.status_code
        self.retry_after_s = _seconds(response.headers.get("Retry-After"))
        if self.status in PASSING:
            words = " ".join(body[:300].decode("utf-8", "replace").split())
            raise requests.HTTPError(f"{self.status} {response.reason}: {words}", response=response)
        response.headers.pop("Content-Encoding", None)
        response.raw = urllib3.HTTPResponse(
            io.BytesIO(body), dict(response.headers), self.status, preload_content=False
        )
        return response


def _body(response: requests.Response, deadline: float) -> bytes:
    parts = []
    try:
        while part := response.raw.read1(1 << 16, decode_content=True):
            parts.append(part)
            if time.monotonic() > deadline:
                raise requests.Timeout(
                    f"the answer of {response.url} was still coming at the end of its time"
                )
    except (urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
        raise requests.ConnectionError(f"the answer broke off: {error}", response=response) from error
    finally:
        response.close()
    return b"".join(parts)


def _seconds(retry_after: str | None) -> float:
    """The header Retry-After: seconds, or a date."""
    if not retry_after:
        return 0.0
    try:
        return max(float(retry_after), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def words_of(error: BaseException) -> str:
    """What an error says, in one line of bearable length."""
    text = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {text if len(text) <= 500 else text[:500] + '...'}"

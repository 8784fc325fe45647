"""Strategy `plate_solve` without a local program: astrometry.net's service, with an API key."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from astropy.wcs import WCS

from lightcurver_ops.astrometry.acceptance import accept
from lightcurver_ops.astrometry.base import Solution, SolveRequest
from lightcurver_ops.errors import BadFrame, ConfigurationError, TemporaryFailure

MAX_SOURCES = 300
SERVER = "https://nova.astrometry.net"


@dataclass(frozen=True)
class HostedSolver:
    """Sends the list of sources (not the image) to the service, marked as not public.

    Args:
        api_key: of the user's account; never shown, logged or part of a message.
        timeout_s: how long to wait for the answer.
        sip_order: order of the distortion polynomial; 0 or 1: none.
        server: address of the service.
    """

    api_key: str = field(repr=False)
    timeout_s: float = 300.0
    sip_order: int = 0
    server: str = SERVER

    method = "plate_solve (hosted)"

    def solve(self, request: SolveRequest) -> Solution:
        """Solve one frame. Raises BadFrame (unsolved), TemporaryFailure (network), ConfigurationError (key)."""
        if not self.api_key:
            raise ConfigurationError(
                "the hosted plate solver needs an API key of an account at " + self.server
            )
        low, high = request.scale_interval
        header = self._ask(
            request,
            scale_units="arcsecperpix",
            scale_type="ul",
            scale_lower=float(low),
            scale_upper=float(high),
            center_ra=float(request.hint_ra % 360.0),
            center_dec=float(request.hint_dec),
            radius=float(request.radius_deg),
            tweak_order=max(1, self.sip_order),
            crpix_center=True,
            publicly_visible="n",
        )
        if not header:
            raise BadFrame(
                f"{request.name}: {self.server} found no solution for {len(request.x)} sources within "
                f"{request.radius_deg:g} deg of ({request.hint_ra:.4f}, {request.hint_dec:.4f}) at {low:g} to {high:g} "
                "arcsec/px; check hint, radius and plate_scale_interval"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty SIP polynomial
            wcs = WCS(header)
        if self.sip_order < 2:
            wcs.sip = None
        return accept(request, wcs, self.method, f"solved by {self.server}")

    def _ask(self, request: SolveRequest, **settings: object):
        import requests
        from astroquery.astrometry_net import AstrometryNetClass, conf
        from astroquery.exceptions import TimeoutError as QueryTimeout

        client = AstrometryNetClass()
        client.URL, client.API_URL = self.server, self.server.rstrip("/") + "/api"
        ny, nx = request.shape
        x, y = (np.asarray(v[:MAX_SOURCES]) + 1.0 for v in (request.x, request.y))
        try:
            # conf is global: set_temp puts the former key back.
            with conf.set_temp("api_key", self.api_key), _quiet():
                return client.solve_from_source_list(
                    x, y, nx, ny, solve_timeout=self.timeout_s, verbose=False, **settings
                )
        except (
            requests.RequestException,
            QueryTimeout,
            TimeoutError,
            OSError,
            KeyError,
            ValueError,
        ) as error:
            # ValueError, KeyError: an error page instead of an answer. Not chained: the request holds the key.
            raise TemporaryFailure(
                f"{request.name}: no answer from {self.server} ({type(error).__name__}); "
                "check the network, try again later"
            ) from None
        except RuntimeError as error:
            if "log in" in str(error):
                raise ConfigurationError(
                    f"{self.server} refused the API key; check it in the account's profile"
                ) from None
            raise TemporaryFailure(
                f"{request.name}: {self.server} did not take the job; try again later"
            ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """astroquery writes whole requests, key included, to astropy's logger at debug level: not while we ask."""
    logger = logging.getLogger("astropy")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)

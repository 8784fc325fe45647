"""The WCS of the cards of a header, and in our words why there is none: those of the library name its source lines."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.errors import BadFrame

NEEDED = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
_TEXT = re.compile(r"(CTYPE|CUNIT)[12]$")
_NUMERIC = re.compile(
    r"(CRVAL|CRPIX|CDELT|CROTA)[12]$|(CD|PC)[12]_[12]$|(PV|PS)[12]_\d+$|[AB]P?_(ORDER|\d_\d)$|L(ON|AT)POLE$"
)
_CD, _PC = (tuple(f"{kind}{i}_{j}" for i in (1, 2) for j in (1, 2)) for kind in ("CD", "PC"))
_SIP = re.compile(r"([AB]P?)_(ORDER|\d_\d)$")
_HIGHEST_ORDER = 9  # of a polynomial, whose cards have one digit for each power
_SINGULAR = 1e-20  # determinant, square degrees per pixel
_PLACE_IN_WCSLIB = re.compile(r"ERROR \d+ in \w+\(\) at line \d+ of file \S+:?|\S*verify\('fix'\)\S*")


def wcs_of_cards(header: fits.Header) -> WCS:
    """The WCS of a header that has all cards `NEEDED`, if they say one thing and say it all.

    As the FITS standard has it (Greisen & Calabretta 2002), a CDi_j that is not there is 0, a PCi_j that of the unit
    matrix, and next to PCi_j a CDELTi is 1. SIP polynomials count where CTYPEi does not announce them, too.

    Returns:
        A WCS of all axes of the header.

    Raises:
        BadFrame: cards that are doubled, no numbers, or contradict each other; a singular matrix; what the library
            does not read.
    """
    _check_values(header)
    _check_matrix(header)
    header = _with_distortion_announced(header)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes on old-style cards; what matters is checked here
            wcs = WCS(header)
            _ = wcs.celestial  # which fails where three axes are of the sky
            return wcs
    except Exception as error:  # wcslib and astropy raise many kinds for malformed cards
        raise _broken(_in_our_words(error, header)) from error


def _check_values(header: fits.Header) -> None:
    """Each card once, each number a number, each text a text, a declination that there is."""
    found: dict[str, list[Any]] = {}
    for one in header.cards:
        if _NUMERIC.match(one.keyword) or _TEXT.match(one.keyword):
            try:
                found.setdefault(one.keyword, []).append(one.value)
            except fits.VerifyError as error:
                raise _broken(f"the card {one.keyword} cannot be read") from error
    for card, values in found.items():
        value = values[0]
        if len({str(one) for one in values}) > 1:
            raise _broken(f"{card} is there {len(values)} times with different values: {values}")
        if isinstance(value, fits.card.Undefined):
            raise _broken(f"{card} has no value")
        if _TEXT.match(card):
            if not isinstance(value, str):
                raise _broken(f"{card} is {value!r}, expected a text")
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _broken(f"{card} is {value!r}, expected a number")
    for axis in (1, 2):
        name, value = header[f"CTYPE{axis}"], header[f"CRVAL{axis}"]
        if re.match(r"DEC-|.LAT-", name) and abs(value) > 90:
            raise _broken(f"CRVAL{axis} is {value}, a declination or latitude, expected -90 to 90")


def _check_matrix(header: fits.Header) -> None:
    """One description of the matrix, that makes of two axes two."""
    has_cd, has_pc = (any(card in header for card in cards) for cards in (_CD, _PC))
    if has_cd and has_pc:
        raise _broken("it has both CDi_j and PCi_j cards, which contradict each other")
    if has_pc and any(header.get(card, 0) != 0 for card in ("CROTA1", "CROTA2")):
        raise _broken("it has both PCi_j and CROTA cards, which contradict each other")
    if not (has_cd or has_pc) and not ("CDELT1" in header and "CDELT2" in header):
        raise _broken("it has neither CDi_j nor PCi_j nor CDELT1 and CDELT2 cards: no plate scale")
    # wcslib would put 1 in place of a row of zeros.
    if has_cd:
        matrix = np.array([header.get(card, 0.0) for card in _CD]).reshape(2, 2)
    else:
        pc = [header.get(card, float(card in ("PC1_1", "PC2_2"))) for card in _PC]
        matrix = np.diag([header.get("CDELT1", 1.0), header.get("CDELT2", 1.0)]) @ np.reshape(pc, (2, 2))
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < _SINGULAR:
        kind = "CDi_j" if has_cd else "CDELTi and PCi_j"
        raise _broken(f"its matrix is singular ({kind}: {matrix.tolist()})")


def _with_distortion_announced(header: fits.Header) -> fits.Header:
    kinds = {match[1] for card in header if (match := _SIP.match(card))}
    lookup = [card for card in header if re.match(r"C[PQ]DIS[12]$", card)]
    if lookup or any(header[f"CTYPE{axis}"].endswith("-TAB") for axis in (1, 2)):
        raise _broken(
            f"it refers to a table ({lookup[0] if lookup else 'CTYPEi = …-TAB'}), which is not read"
        )
    without = sorted(kind for kind in kinds if f"{kind}_ORDER" not in header)
    without += [b for a, b in ("AB", "BA", ("AP", "BP"), ("BP", "AP")) if a in kinds and b not in kinds]
    if without:
        raise _broken(f"its distortion polynomial lacks {', '.join(f'{kind}_ORDER' for kind in without)}")
    for kind in sorted(kinds):
        order = header[f"{kind}_ORDER"]
        if order != int(order) or not 0 <= order <= _HIGHEST_ORDER:
            raise _broken(f"{kind}_ORDER is {order}, expected a whole number up to {_HIGHEST_ORDER}")
    types = [header[f"CTYPE{axis}"] for axis in (1, 2)]
    if not kinds or all(one.endswith("-SIP") for one in types):
        return header
    if not all(one[5:] in ("TAN", "TAN-SIP") for one in types):
        raise _broken(f"it has SIP polynomials (A_ORDER, …), which {', '.join(types)} do not go with")
    announced = header.copy()
    for axis, one in enumerate(types, 1):
        announced[f"CTYPE{axis}"] = f"{one.removesuffix('-SIP')}-SIP"
    return announced


def _in_our_words(error: Exception, header: fits.Header) -> str:
    """What the library says, without its source lines, and the cards that it is about: those it names, else all."""
    said = " ".join(_PLACE_IN_WCSLIB.sub(" ", str(error)).split()).strip(" .:")
    cards = [card for card in header if _NUMERIC.match(card) or _TEXT.match(card)]
    named = [card for card in cards if re.search(rf"\b{card}\b", said)]
    about = named or [card for card in cards if re.match("CTYPE|CRVAL|CUNIT|PV|L", card)]
    values = ", ".join(f"{card} = {header[card]!r}" for card in about[:8])
    return f"the library for it does not take these cards: {values} ({said or type(error).__name__})"


def _broken(why: str) -> BadFrame:
    return BadFrame(why)

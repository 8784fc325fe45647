"""The documentation's site, built as `make docs` does: no warning, and nothing in it from another host."""

import html.parser
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT

# What a browser fetches by itself; a link is followed by people.
_FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


def tools_are_there() -> bool:
    return all(importlib.util.find_spec(name) for name in ("sphinx", "myst_parser", "furo", "latex2mathml"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    if not tools_are_there():
        pytest.skip(
            "Sphinx and its parts are not installed (requirements-dev.txt has them): the site is not built"
        )
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", target / "trees", "docs",
         target / "html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return target / "html"


class Fetched(html.parser.HTMLParser):
    """Addresses of what a page needs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag == "link" and named.get("rel") in ("canonical", "next", "prev", "index", "search"):
            return
        if address := named.get(_FETCHED.get(tag, "")):
            self.found.append(address)


def test_nothing_comes_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text())
        assert parser.found
        for address in parser.found:
            assert not address.startswith(("http:", "https:", "//")), f"{page.name} fetches {address}"
            if not address.startswith("data:"):
                assert (page.parent / address.split("?")[0]).exists(), f"{page.name}: {address} is not there"
    for style in site.rglob("*.css"):
        text = style.read_text()
        assert "url(http" not in text.replace('"', "").replace("'", "")
        assert "@import" not in text


def test_every_page_is_in_the_site_and_the_pictures_too(site):
    for path in (ROOT / "docs").rglob("*.md"):
        assert (site / path.relative_to(ROOT / "docs").with_suffix(".html")).exists()
    assert "_images/psf.webp" in (site / "monitor-your-lens.html").read_text()


def test_formulas_are_set_without_a_script(site):
    page = (site / "numerics.html").read_text()
    assert page.count("<math") > 50
    assert "<msub>" in page
    assert "\\frac" not in page
    assert "mathjax.js" not in page.lower()


def test_generated_parts_are_there(site):
    assert "psf.subsampling_factor" in (site / "configuration.html").read_text()
    assert "<strong>What happens:</strong>" in (site / "handbook" / "raw-frames.html").read_text()
    numerics = (site / "api" / "numerics.html").read_text()
    assert "fit_star_fluxes" in numerics
    assert "Gauss-Newton" in numerics

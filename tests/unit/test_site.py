"""The site of the documents, as `make docs` adapts them."""

from __future__ import annotations

import logging

import pytest
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from deploy.docs import hooks


@pytest.fixture
def config() -> MkDocsConfig:
    config = MkDocsConfig()
    config.load_dict({"site_name": "Clamor", "site_dir": "/nowhere", "use_directory_urls": False})
    return config


def adapted(config: MkDocsConfig, name: str, text: str) -> str:
    """Return the text of a document of docs/ as the site has it."""
    file = File(name, str(hooks.ROOT / "docs"), config.site_dir, config.use_directory_urls)
    return hooks.on_page_markdown(text, Page(None, file, config), config, Files([file]))


@pytest.mark.parametrize(
    ("name", "written", "shown"),
    [
        ("tutorial.md", "[a](api.md#numbers)", "[a](api.md#numbers)"),
        ("tutorial.md", "[a](../ARCHITECTURE.md#the-rules)", "[a](architecture.md#the-rules)"),
        ("decisions/01-nudges.md", "[a](../limits.md)", "[a](../limits.md)"),
        ("decisions/01-nudges.md", "[a](../../CONTRIBUTING.md)", "[a](../contributing.md)"),
        ("tutorial.md", "[the image](../deploy/Dockerfile)", "the image (`deploy/Dockerfile`)"),
        ("tutorial.md", "[a](https://example.org/x)", "[a](https://example.org/x)"),
        ("tutorial.md", "[a](#below)", "[a](#below)"),
        ("tutorial.md", "```sh not-run: why\nx\n```", "```sh\nx\n```"),
    ],
)
def test_links_lead_to_pages_of_the_site(
    config: MkDocsConfig, name: str, written: str, shown: str
) -> None:
    assert adapted(config, name, written) == shown


@pytest.mark.parametrize("text", ["[a](../nothing.md)", "`actors/nothing.py`", "`services/no/`"])
def test_what_does_not_exist_fails_the_build(
    config: MkDocsConfig, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        adapted(config, "tutorial.md", text)
    assert "does not exist" in caplog.text


@pytest.mark.parametrize(
    ("loads", "text"),
    [
        (True, '<script src="https://example.org/x.js">'),
        (True, "<link rel=stylesheet href=//example.org/x.css>"),
        (True, '<img alt="" src="http://example.org/x.png">'),
        (True, "body { background: url('https://example.org/x.png') }"),
        (True, '@import "https://example.org/x.css";'),
        (False, '<script src="assets/x.js"></script><a href="https://example.org">'),
        (False, "body { background: url(assets/x.png) }"),
    ],
)
def test_pages_load_nothing_from_another_host(loads: bool, text: str) -> None:
    assert bool(hooks.OUTSIDE.search(text)) is loads

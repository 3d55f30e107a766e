"""``python -m page``: documents in, a page out, whatever is wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from page.__main__ import main
from tests.page import worlds


def draw(folder: Path, *environments: str) -> int:
    return main([*environments, "--documents", str(folder), "--out", str(folder / "public/index.html")])


def write(folder: Path, env: str) -> None:
    (folder / f"{env}.json").write_text(json.dumps(worlds.as_document(replace(worlds.healthy(), env=env))))


def test_a_page_of_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "staging")
    assert draw(tmp_path, "staging", "production") == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "staging: v2 runs on 6 of 6 devices"
    assert printed.err == ("production: production.json: No such file or directory; expected what `make page` writes\n")
    page = (tmp_path / "public/index.html").read_text()
    assert "The status of production could not be read" in page
    assert [path.name for path in (tmp_path / "public").iterdir()] == ["index.html"]


def test_where_nothing_could_be_read_the_page_says_so_and_the_command_fails(tmp_path: Path) -> None:
    assert draw(tmp_path, "staging") == 1
    assert "The status of staging could not be read" in (tmp_path / "public/index.html").read_text()


def test_why_reading_failed_is_on_the_page_even_beside_an_older_document(tmp_path: Path) -> None:
    write(tmp_path, "staging")
    (tmp_path / "staging.problem").write_text("staging: no credentials <b>\n")
    assert draw(tmp_path, "staging") == 1
    page = (tmp_path / "public/index.html").read_text()
    assert "staging: no credentials &lt;b&gt;" in page
    assert "v2 runs on" not in page


BROKEN = [
    ("{", "staging.json: expected JSON"),
    ("[]", "staging.json: schema: expected 1, got &#39;list&#39;"),
    ('{"schema": 2}', "staging.json: schema: expected 1, got 2"),
    ('{"schema": 1, "env": "production"}', "staging.json: env: expected staging, got &#39;production&#39;"),
]


@pytest.mark.parametrize(("content", "told"), BROKEN, ids=["no JSON", "no object", "newer", "of another"])
def test_a_document_that_is_none(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "staging.json").write_text(content)
    draw(tmp_path, "staging")
    assert told in (tmp_path / "public/index.html").read_text()

"""The committed pages are what ``make results`` writes from the committed lines and findings."""

import pathlib

import pytest

from experiments import results
from textfuse_jax.evaluation import figures


@pytest.mark.slow
def test_pages_are_what_the_lines_and_findings_say(monkeypatch):
    saved = []
    monkeypatch.setattr(figures, "save", lambda figure, path: saved.append(pathlib.Path(path)) or saved[-1])
    page, block = results.build()
    written = (results.ROOT / "docs" / "results.md").read_text()
    for made, there in zip(page.splitlines(), written.splitlines()):
        assert made == there, "docs/results.md is older than the lines or findings: run make results and commit what it writes"
    assert page == written and block in (results.ROOT / "README.md").read_text()
    assert len({path.name for path in saved}) == len(saved) > 20
    assert all(path.exists() and f"({path.parent.name}/{path.name})" in page for path in saved)

"""The example of docs/llm.md runs as written, with the address of a server on loopback."""

import re

from tests.launching import ROOT
from tests.llm.server import Server, completion

PAGE = (ROOT / "docs" / "llm.md").read_text()


def reply(body: dict) -> dict:
    asked = body["messages"][-1]["content"]
    return completion("Sports" if "goal" in asked else "World" if "talks" in asked else "Oh my God, he did it.", body)


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)[1]
    names: dict = {}
    with Server(reply) as server:
        exec(code.replace("http://localhost:8000/v1", server.url), names)
    assert names["scores"].scores.argmax(1).tolist() == [0, 1] and names["scores"].present.all()
    assert names["rewritten"][0].text == "Oh my God, he did it."
    assert "2 requests: 0 from the cache, 2 calls" in capsys.readouterr().out

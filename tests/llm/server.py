"""A server on loopback that speaks the chat-completions protocol and misbehaves as real ones do; it counts what it was paid for.

An answer is paid for when it was written in full. Time-outs, bodies that break off and bodies that are no answer are not.
Runs in a thread of its own; ``python -m tests.llm.server`` runs one as a process (``ServerProcess``).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Faults:
    """Shares of calls that go wrong, drawn by the seed in the order of arrival."""

    rate_limited: float = 0.0
    server_error: float = 0.0
    hang: float = 0.0
    cut: float = 0.0
    malformed: float = 0.0
    retry_after: float = 0.1  # seconds asked for with 429
    delay: tuple[float, float] = (0.0, 0.0)  # seconds from call to answer, least and most
    seed: int = 0


KINDS = ("rate_limited", "server_error", "hang", "cut", "malformed")
Reply = Callable[[dict], str | dict]


def echo_label(body: dict) -> str:
    """The first label of the schema or, for free text, the last message's words reversed."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema:
        return json.dumps({"label": schema["properties"]["label"]["enum"][0], "confidence": 0.9})
    return " ".join(reversed(body["messages"][-1]["content"].split()))


def completion(content: Any, body: dict, **message: Any) -> dict:
    """A whole chat completion around ``content``."""
    words = sum(len(m["content"].split()) for m in body["messages"])
    written = len(str(content).split())
    usage = {"prompt_tokens": words, "completion_tokens": written, "total_tokens": words + written}
    choice = {"index": 0, "message": {"role": "assistant", "content": content} | message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice], "usage": usage}


class Server:
    """While entered, answers at ``url``.

    Args:
      reply: body of a call -> content of the answer, or a whole body (a dictionary with "choices", or with "status" and "body").
      faults: what goes wrong.
      port: 0 = any free one.

    Attributes:
      paid: last message's content -> answers sent in full. calls, kinds: what arrived and what became of it.
      arrivals: seconds (monotonic) of each call; most_at_once: calls in flight together; keys: Authorization headers seen.
    """

    def __init__(self, reply: Reply = echo_label, faults: Faults | None = None, port: int = 0):
        self.reply, self.faults, self.port = reply, faults or Faults(), port
        self.paid: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.arrivals: list[float] = []
        self.keys: set[str] = set()
        self.bodies: list[dict] = []
        self.most_at_once = self._now = 0
        self._rng = random.Random(self.faults.seed)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._started, self._stop = threading.Event(), None

    @property
    def calls(self) -> int:
        return len(self.arrivals)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Server:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def busiest(self, seconds: float) -> int:
        """Most calls that arrived in any window of so many seconds."""
        most = first = 0
        for last, arrived in enumerate(self.arrivals):
            while self.arrivals[first] <= arrived - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    async def _serve(self) -> None:
        self._loop, self._stop, self._open = asyncio.get_running_loop(), asyncio.Event(), set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, limit=1 << 24, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._call(reader, writer):
                    pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One call; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:])}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if head.startswith("GET"):
            return await self._send(writer, 200, json.dumps(self.told()))
        self.arrivals.append(time.monotonic())
        self.keys.add(headers.get("authorization", ""))
        body = json.loads(raw)
        self.bodies.append(body)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._answer(reader, writer, body)
        finally:
            self._now -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> bool:
        kind = self._draw()
        self.kinds[kind] += 1
        delay = self._rng.uniform(*self.faults.delay)
        if delay:
            await asyncio.sleep(delay)
        if kind == "hang":
            return bool(await reader.read(1))  # until the caller gives up
        if kind == "rate_limited":
            error = json.dumps({"error": {"code": "rate_limit_exceeded", "message": "slow down"}})
            return await self._send(writer, 429, error, f"Retry-After: {self.faults.retry_after}\r\n")
        if kind == "server_error":
            return await self._send(writer, self._rng.choice([500, 502, 503]), "<html>bad gateway</html>")
        held = self.reply(body)
        status = held.get("status", 200) if isinstance(held, dict) else 200
        if status == 200:
            held = held if isinstance(held, dict) else completion(held, body)
            text = json.dumps(held)
        else:
            text = json.dumps(held["body"])
        if kind == "malformed":
            whole = [
                "",
                "<html>",
                text[: len(text) // 2],
                '{"choices": []}',
                '{"choices": [{"message": {"content": 5}}]}',
                "null",
            ]
            return await self._send(writer, 200, self._rng.choice(whole))
        if kind == "cut":
            writer.write(self._head(200, len(text.encode()), "") + text.encode()[: len(text) // 2])
            await writer.drain()
            return False
        if not writer.is_closing():
            await self._send(writer, status, text)
            if status == 200:
                self.paid[body["messages"][-1]["content"]] += 1
        return True

    def _draw(self) -> str:
        point = self._rng.random()
        for kind in KINDS:
            point -= getattr(self.faults, kind)
            if point < 0:
                return kind
        return "answered"

    @staticmethod
    def _head(status: int, length: int, extra: str) -> bytes:
        told = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{extra}\r\n"
        return told.encode()

    async def _send(self, writer: asyncio.StreamWriter, status: int, text: str, extra: str = "") -> bool:
        writer.write(self._head(status, len(text.encode()), extra) + text.encode())
        await writer.drain()
        return True

    def told(self) -> dict:
        """What ``ServerProcess`` reads."""
        windows = {str(seconds): self.busiest(seconds) for seconds in (1, 10, 60)}
        held = {"paid": self.paid, "kinds": self.kinds, "calls": self.calls, "busiest": windows, "at_once": self.most_at_once}
        return held | {"first": self.arrivals[:1], "last": self.arrivals[-1:]}


class ServerProcess:
    """A ``Server`` (reply ``echo_label``) in a process of its own, so that it doesn't share this one's time."""

    def __init__(self, faults: Faults):
        self._faults = json.dumps(dataclasses.asdict(faults))

    def __enter__(self) -> ServerProcess:
        command = [sys.executable, "-m", "tests.llm.server", self._faults]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate("\n")  # end of input ends it

    def told(self) -> dict:
        """``Server.told`` of the other process."""
        with urllib.request.urlopen(f"{self.url}/told", timeout=60) as answer:
            return json.load(answer)


if __name__ == "__main__":
    with Server(faults=Faults(**json.loads(sys.argv[1]))) as running:
        print(running.url, flush=True)
        sys.stdin.read()

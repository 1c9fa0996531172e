"""Texts -> ``Encoded``: tokens, their nested units and their characters, flat arrays for a whole split."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence

import numpy as np
import tokenizers
from jaxtyping import Float, Int
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from textfuse_jax.bars import Progress
from textfuse_jax.data.ragged import bounds as bounds_of
from textfuse_jax.data.ragged import ranges
from textfuse_jax.data.units import Breaks, find_breaks, nest
from textfuse_jax.types import SCALES

_CHUNK = 2048  # texts tokenised at once: enough to keep the tokenizer's threads busy, little memory
_QUIET_SECONDS = 2.0  # no progress bar for work that is done before anyone looks


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Tokens and units of the texts of a split; tokens of piece i are ``bounds[i]:bounds[i + 1]``.

    A *piece* is a document, or one window of a long document.

    Attributes:
      tokens: vocabulary ids, special tokens included.
      bounds: where the tokens of each piece begin, and where the last ends.
      characters: start and end of each token in its text; 0, 0 for special tokens.
      unit: scale (phrase, sentence) -> unit of each token, counted from 0 in its piece; -1 for special tokens.
      counts: scale (all four) -> number of units of each piece. A piece without content has no phrase and no sentence.
      phrase_sentence: sentence of each phrase, counted from 0 in its piece, all pieces' phrases end to end.
      example: index in the split of each piece's document.
      weight: 1 / number of windows of the piece's document.
      examples: number of documents of the split.
      truncated: number of documents that were cut at ``max_length``, or of which windows were left out.
      pad_id: the token for padding.
    """

    tokens: Int[np.ndarray, "k"]
    bounds: Int[np.ndarray, "m+1"]
    characters: Int[np.ndarray, "k 2"]
    unit: dict[str, Int[np.ndarray, "k"]]
    counts: dict[str, Int[np.ndarray, "m"]]
    phrase_sentence: Int[np.ndarray, "p"]
    example: Int[np.ndarray, "m"]
    weight: Float[np.ndarray, "m"]
    examples: int
    truncated: int
    pad_id: int

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.example)

    @property
    def lengths(self) -> Int[np.ndarray, "m"]:
        """Number of tokens of each piece, special tokens included."""
        return self.counts["token"]

    def unit_bounds(self, scale: str) -> Int[np.ndarray, "m+1"]:
        """Where the units of each piece begin in a flat array of all units of a scale."""
        return bounds_of(self.counts[scale])

    def take(self, pieces: Int[np.ndarray, "j"]) -> Encoded:
        """Some of the pieces, in the order given; their ``example`` stays the index in the whole split."""
        pieces = np.asarray(pieces, np.int64)
        index = ranges(self.bounds[pieces], self.lengths[pieces])
        phrases = ranges(self.unit_bounds("phrase")[pieces], self.counts["phrase"][pieces])
        return dataclasses.replace(
            self,
            tokens=self.tokens[index],
            bounds=bounds_of(self.lengths[pieces]),
            characters=self.characters[index],
            unit={scale: unit[index] for scale, unit in self.unit.items()},
            counts={scale: count[pieces] for scale, count in self.counts.items()},
            phrase_sentence=self.phrase_sentence[phrases],
            example=self.example[pieces],
            weight=self.weight[pieces],
        )

    def first_windows(self, most: int) -> Encoded:
        """The first ``most`` pieces of each document, which share its weight; documents that have more count as cut."""
        place = np.arange(len(self)) - np.searchsorted(self.example, self.example)
        kept = self.take(np.flatnonzero(place < most))
        weight = (1 / np.bincount(kept.example))[kept.example].astype(np.float32)
        return dataclasses.replace(kept, weight=weight, truncated=self.truncated + int((place == most).sum()))

    def unit_text(self, piece: int, scale: str, texts: Sequence[str]) -> list[str]:
        """What each unit of a piece reads, out of the texts that were encoded; "" for special tokens."""
        text, (first, last) = texts[self.example[piece]], self.bounds[piece : piece + 2]
        spans = self.characters[first:last]
        if scale == "token":
            return [text[a:b] for a, b in spans.tolist()]
        # Special tokens have an empty span and no unit: they must not pull a document's start to 0
        inside = self.unit["phrase"][first:last] >= 0
        unit = np.zeros(last - first, np.int32) if scale == "document" else self.unit[scale][first:last]
        found = [spans[inside & (unit == i)] for i in range(self.counts[scale][piece])]
        return [text[span[:, 0].min() : span[:, 1].max()].strip() if len(span) else "" for span in found]


@dataclasses.dataclass(frozen=True)
class _Rules:
    """How texts become pieces: special tokens around at most ``room`` tokens, windows by ``stride`` or None for one piece."""

    tokenizer: tokenizers.Tokenizer
    prefix: list[int]
    suffix: list[int]
    room: int
    stride: int | None
    phrase_length: int


def encode(
    texts: Sequence[str],
    tokenizer: tokenizers.Tokenizer,
    *,
    max_length: int,
    long_documents: str = "truncate",
    window_stride: int | None = None,
    phrase_length: int = 8,
    progress: bool = True,
) -> Encoded:
    """Tokenises texts and finds their units (the rules stand in ``units``).

    Args:
      texts: the documents of a split; an empty one gets its special tokens and no phrase.
      tokenizer: a fast tokenizer; its own padding and truncation are not used, and it is not changed.
      max_length: most tokens of a piece, special tokens included.
      long_documents: "truncate" keeps the first ``max_length`` tokens of a document; "windows" cuts it into
        overlapping pieces that begin and end with a sentence where there is one, else with a word.
      window_stride: most tokens from one window's start to the next; 3/4 of the content of a window if None.
      phrase_length: longest phrase in tokens.
      progress: show a progress bar on stderr when it takes longer than two seconds.

    Raises:
      ValueError: no texts, a text that is not valid Unicode, or an argument out of its range.
    """
    if not len(texts):
        raise ValueError("there is no text to encode: the split is empty; check data.path, data.where and data.train_rows")
    if long_documents not in ("truncate", "windows"):
        raise ValueError(f'long_documents must be "truncate" or "windows", got {long_documents!r}')
    pad_id = _pad_id(tokenizer)
    if tokenizer.padding or tokenizer.truncation:  # a copy takes 18 ms, most of what a single text takes besides its encoder
        tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
    prefix, suffix = _special_tokens(tokenizer)
    room = max_length - len(prefix) - len(suffix)
    if room < 1:
        raise ValueError(f"max_length must leave room beside {len(prefix) + len(suffix)} special tokens, got {max_length}")
    stride = max(1, room * 3 // 4) if window_stride is None else min(window_stride, room)
    if stride < 1:
        raise ValueError(f"window_stride must be >= 1, got {window_stride}")
    rules = _Rules(tokenizer, prefix, suffix, room, stride if long_documents == "windows" else None, phrase_length)
    chunks = _tracked(range(0, len(texts), _CHUNK), len(texts), progress)
    parts = [_encode_chunk(list(texts[first : first + _CHUNK]), first, rules) for first in chunks]
    lengths = np.concatenate([part["counts"]["token"] for part in parts])
    example = np.concatenate([part["example"] for part in parts])
    return Encoded(
        tokens=np.concatenate([part["tokens"] for part in parts]),
        bounds=bounds_of(lengths),
        characters=np.concatenate([part["characters"] for part in parts]),
        unit={s: np.concatenate([part["unit"][s] for part in parts]) for s in ("phrase", "sentence")},
        counts={s: np.concatenate([part["counts"][s] for part in parts]) for s in SCALES},
        phrase_sentence=np.concatenate([part["phrase_sentence"] for part in parts]),
        example=example,
        weight=(1 / np.bincount(example))[example].astype(np.float32),
        examples=len(texts),
        truncated=sum(part["truncated"] for part in parts),
        pad_id=pad_id,
    )


def _encode_chunk(texts: list[str], first: int, rules: _Rules) -> dict:
    """The fields of ``Encoded`` for some texts, the first of which is document ``first`` of the split."""
    _check_unicode(texts, first)
    encodings = rules.tokenizer.encode_batch(texts, add_special_tokens=False)
    bounds = bounds_of(np.array([len(encoding) for encoding in encodings]))
    content = np.fromiter(itertools.chain.from_iterable(encoding.ids for encoding in encodings), np.int32, bounds[-1])
    flat = itertools.chain.from_iterable(itertools.chain.from_iterable(encoding.offsets for encoding in encodings))
    characters = np.fromiter(flat, np.int32, 2 * bounds[-1]).reshape(-1, 2)
    breaks, characters = find_breaks(texts, bounds, characters)

    prefix, suffix = rules.prefix, rules.suffix
    example, start, end = _pieces(bounds, breaks, rules.room, rules.stride)
    index, counts = ranges(start, end - start), end - start
    nested = nest(bounds_of(counts), breaks.take(index), rules.phrase_length)

    lengths = counts + len(prefix) + len(suffix)
    begin = bounds_of(lengths)[:-1]
    inner = ranges(begin + len(prefix), counts)

    def around(values: np.ndarray, special: int) -> np.ndarray:
        whole = np.full((lengths.sum(), *values.shape[1:]), special, np.int32)
        whole[inner] = values
        return whole

    tokens = around(content[index], 0)
    for i, token in enumerate(prefix):
        tokens[begin + i] = token
    for i, token in enumerate(suffix):
        tokens[begin + len(prefix) + counts + i] = token
    return {
        "tokens": tokens,
        "characters": around(characters[index], 0),
        "unit": {"phrase": around(nested.phrase, -1), "sentence": around(nested.sentence, -1)},
        "counts": {
            "token": lengths.astype(np.int32),
            "phrase": nested.phrases.astype(np.int32),
            "sentence": nested.sentences.astype(np.int32),
            "document": np.ones(len(lengths), np.int32),
        },
        "phrase_sentence": nested.phrase_sentence.astype(np.int32),
        "example": (example + first).astype(np.int32),
        "truncated": int((np.diff(bounds) > rules.room).sum()) if rules.stride is None else 0,
    }


def _pieces(bounds: np.ndarray, breaks: Breaks, room: int, stride: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Document, first token and end of each piece: whole documents, the starts of long ones, or their windows."""
    lengths = np.diff(bounds)
    documents = np.arange(len(lengths))
    if stride is None or not (lengths > room).any():
        return documents, bounds[:-1], bounds[:-1] + np.minimum(lengths, room)
    spans = [_windows(a, b, breaks, room, stride) if b - a > room else [(a, b)] for a, b in itertools.pairwise(bounds.tolist())]
    start, end = np.array(list(itertools.chain.from_iterable(spans)), np.int64).T
    return np.repeat(documents, [len(span) for span in spans]), start, end


def _windows(begin: int, end: int, breaks: Breaks, room: int, stride: int) -> list[tuple[int, int]]:
    """Overlapping spans of at most ``room`` tokens that cover ``begin:end``."""
    found, start = [], begin
    while end - start > room:
        stop = _last_break(breaks, start + stride, start + room)
        found.append((start, stop))
        # At least half a stride forward, or a text full of short sentences would be cut into countless windows
        start = _last_break(breaks, start + (stride + 1) // 2, start + stride)
    return [*found, (start, end)]


def _last_break(breaks: Breaks, least: int, most: int) -> int:
    """The last sentence that begins in ``least..most``, else the last word, else ``most``."""
    for flags in (breaks.sentence, breaks.word):
        at = np.flatnonzero(flags[least : most + 1])
        if at.size:
            return least + int(at[-1])
    return most


def _check_unicode(texts: list[str], first: int) -> None:
    """A lone surrogate has no UTF-8 and stops the tokenizer with no hint at the document."""
    for i, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"document {first + i}, character {error.start}: {text[error.start]!r} is half of a character and no valid "
                "Unicode; read the file as UTF-8 with errors='replace'"
            ) from error


def _special_tokens(tokenizer: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text."""
    encoding = tokenizer.encode("a")
    special = encoding.special_tokens_mask
    before = special.index(0) if 0 in special else len(special)
    after = special[::-1].index(0) if 0 in special else 0
    return encoding.ids[:before], encoding.ids[len(special) - after :]


def _pad_id(tokenizer: tokenizers.Tokenizer) -> int:
    """The tokenizer's pad token, by its padding settings or its usual names; 0 where it has none: padding is never read."""
    if tokenizer.padding:
        return tokenizer.padding["pad_id"]
    named = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((token for token in named if token is not None), 0)


def _tracked(chunks: range, total: int, show: bool) -> Iterator[int]:
    """The chunks' starts, with a progress bar once they have taken ``_QUIET_SECONDS``."""
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("tokenising"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    bar = Progress(*columns, transient=True, disable=not show)
    task, started, shown = bar.add_task("", total=total, rate=""), time.monotonic(), False
    try:
        for first in chunks:
            seconds = time.monotonic() - started
            if show and not shown and seconds > _QUIET_SECONDS:
                shown = True
                bar.start()
            bar.update(task, completed=first, rate=f"{first / max(seconds, 1e-9):,.0f} documents/s")
            yield first
    finally:
        if shown:
            bar.stop()

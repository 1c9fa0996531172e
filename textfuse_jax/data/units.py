"""Units of a text: tokens nested in phrases, phrases in sentences, by a light rule over characters.

*Sentences* end
  - at a newline;
  - after ``. ! ?`` (and closing quotes or brackets) followed by whitespace, unless the next letter is lower case;
  - after such a mark that stands alone between spaces, as in text that is already tokenised ("the film . it is");
  - after the full stops of other scripts (``。！？｡।۔؟``), whatever follows.
  A single full stop after an abbreviation of ``ABBREVIATIONS`` ("Mr.", "Inc.", "Oct.") or after initials ("J.", "U.S.",
  "p.m.") ends none.

*Phrases* lie inside a sentence. They end where a sentence would (a short one that was joined to another), after
``, ; : ! ?``, a dash, a closing bracket or a closing double quote that whitespace follows, before an opening bracket, after
an em dash or the commas of other scripts; and where they would grow beyond ``phrase_length`` tokens: at the last whitespace
before, else between two words, never inside one. Two neighbouring characters are inside a word if both are letters, digits
or marks, and neither is of a script written without spaces.

Units have a least size, so that rows have room for all of them however they are packed: a sentence has at least
``MIN_SENTENCE`` tokens, a phrase ``MIN_PHRASE``, unless all the document is shorter. Tokens are collected until the unit
is large enough, a leftover joins the unit before it. Hence of n tokens (without [CLS] and [SEP])

    #sentences <= max(1, n // 8)      #phrases <= max(1, n // 3)      and none of either if n = 0
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from textfuse_jax.data.ragged import bounds as bounds_of

MIN_PHRASE = 3
MIN_SENTENCE = 8
ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof rev hon gen col maj capt cmdr lt sgt gov sen rep pres supt st mt ft jr sr messrs
    inc corp co ltd llc plc bros dept univ assn intl natl
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun
    ave blvd rd vs etc al approx est no nos vol fig figs eq sec ch pp ed eds ref cf ca
    """.split()  # noqa: SIM905 - a table reads better than a list of quoted strings
)

_CLOSING = "\"'”’»)\\]"
_SENTENCE_END = re.compile(
    rf"\n\s*|[。！？｡।۔؟]+[」』”’）]*\s*|[.!?…]+[{_CLOSING}]*\s+(?=[\"'“‘«(\[]*(.))|(?<=\s)[.!?]+\s+",
)
_LAST_WORD = re.compile(r"([^\W\d_]+(?:\.[^\W\d_]+)*)\.$")
_LONGEST_WORD = 12  # characters looked back for an abbreviation or initials

_SPACE, _WORD, _SPACELESS, _PAUSE, _TRAILING, _OPENING, _WIDE_PAUSE = (np.uint8(1 << i) for i in range(7))


class Breaks(NamedTuple):
    """Where units may begin, a flag for each token.

    Attributes:
      sentence: a sentence begins here by the rule.
      phrase: a phrase begins here by punctuation.
      space: whitespace is before the token: where a long phrase is best cut.
      word: the token does not continue a word: the only places where anything may be cut.
    """

    sentence: Bool[np.ndarray, "k"]
    phrase: Bool[np.ndarray, "k"]
    space: Bool[np.ndarray, "k"]
    word: Bool[np.ndarray, "k"]

    def take(self, index: Int[np.ndarray, "j"]) -> Breaks:
        """The breaks of some of the tokens."""
        return Breaks(*(flags[index] for flags in self))


class Nested(NamedTuple):
    """The units of documents laid end to end, counted from 0 in each document.

    Attributes:
      phrase, sentence: unit of each token.
      phrase_sentence: sentence of each phrase, documents end to end.
      phrases, sentences: number of units of each document.
    """

    phrase: Int[np.ndarray, "k"]
    sentence: Int[np.ndarray, "k"]
    phrase_sentence: Int[np.ndarray, "p"]
    phrases: Int[np.ndarray, "m"]
    sentences: Int[np.ndarray, "m"]


def sentence_starts(text: str) -> list[int]:
    """Character positions at which a sentence begins, by the rule above; the first sentence's 0 is left out."""
    found = []
    for match in _SENTENCE_END.finditer(text):
        follows = match[1]
        # Set off by spaces it ends a sentence whatever follows: "a good film . it is"
        alone = text[match.start() - 1 : match.start()].isspace()
        continues = follows is not None and (follows.islower() or _abbreviated(text, match))
        if match.end() < len(text) and (alone or not continues):
            found.append(match.end())
    return found


def _abbreviated(text: str, match: re.Match) -> bool:
    """Whether the single full stop of the match belongs to an abbreviation or to initials."""
    start = match.start()
    if text[start] != "." or not text[start + 1].isspace():
        return False
    word = _LAST_WORD.search(text, max(0, start - _LONGEST_WORD), start + 1)
    if word is None or (word.start() > 0 and text[word.start() - 1].isalnum()):
        return False
    return word[1].lower() in ABBREVIATIONS or all(len(part) == 1 for part in word[1].split("."))


@functools.lru_cache(maxsize=1 << 16)
def _kind(code: int) -> int:
    """What a character is, as bits."""
    char = chr(code)
    kind = _SPACE * char.isspace() | _WORD * (unicodedata.category(char)[0] in "LNM")
    # CJK and kana; Thai, Lao, Tibetan, Myanmar, Khmer: no spaces between words
    if unicodedata.east_asian_width(char) in "WF" or 0x0E00 <= code <= 0x109F or 0x1780 <= code <= 0x17FF:
        kind |= _SPACELESS
    kind |= _PAUSE * (char in ',;:!?-–)]}…”"') | _TRAILING * (char in ",;:!?-–)]}…")
    kind |= _OPENING * (char in "([{") | _WIDE_PAUSE * (char in "—，、；：）」』。！？،؛")
    return int(kind)


def _kinds(codes: np.ndarray) -> np.ndarray:
    """``_kind`` of every character: a table of the few distinct ones, then a look-up."""
    present = np.flatnonzero(np.bincount(codes))
    table = np.zeros(present[-1] + 1, np.uint8)
    table[present] = [_kind(code) for code in present.tolist()]
    return table[codes]


def find_breaks(
    texts: Sequence[str], bounds: Int[np.ndarray, "m+1"], characters: Int[np.ndarray, "k 2"]
) -> tuple[Breaks, Int[np.ndarray, "k 2"]]:
    """Where sentences, phrases and words begin among the tokens of each text.

    Args:
      texts: the texts.
      bounds: tokens of text i are ``bounds[i]:bounds[i + 1]``; special tokens are not among them.
      characters: start and end of each token in its text, as the tokenizer reports them.

    Returns:
      The breaks, and the characters without the whitespace that some tokenizers count to the word after it.
    """
    joined = "\n".join(texts) + "\n"
    codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32).astype(np.int64)
    kinds = _kinds(codes)
    base = bounds_of(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)[:-1]
    shift = np.repeat(base, np.diff(bounds))
    start, end = (characters + shift[:, None]).T
    while (spaced := (start < end) & (kinds[start] & _SPACE > 0)).any():
        start = start + spaced
    while (spaced := (start < end) & (kinds[end - 1] & _SPACE > 0)).any():
        end = end - spaced

    before, here = kinds[start - 1], kinds[start]  # the very first token has the last newline before it
    last_end = np.concatenate([[0], end[:-1]])
    inside = (before & here & _WORD > 0) & ((before | here) & _SPACELESS == 0)
    word = ~inside & (start >= last_end)  # byte-level tokens can share a character
    space = (before & _SPACE > 0) & word
    # "(Reuters) - Oil": the dash stays with what is before it
    pause = (kinds[np.maximum(last_end - 1, 0)] & _PAUSE > 0) & (here & _TRAILING == 0)
    phrase = (space & (pause | (here & _OPENING > 0))) | (before & _WIDE_PAUSE > 0)
    sentence = np.zeros(len(start) + 1, bool)
    # Normalisers may swap marks; a search needs the order
    sentence[np.searchsorted(np.maximum.accumulate(start), np.array(sentence_starts(joined), np.int64))] = True
    sentence = sentence[:-1] & word
    return Breaks(sentence, (phrase & word) | sentence, space, word), np.stack([start - shift, end - shift], 1).astype(np.int32)


def nest(bounds: Int[np.ndarray, "m+1"], breaks: Breaks, phrase_length: int = 8) -> Nested:
    """Sentences and phrases of documents laid end to end, from the places where they may begin.

    Args:
      bounds: tokens of document i are ``bounds[i]:bounds[i + 1]``; a document without tokens has no units.
      breaks: a flag for each token; what they say of a document's first token is not read.
      phrase_length: longest phrase in tokens, >= 2 * MIN_PHRASE; exceeded only by a word that is longer.

    Raises:
      ValueError: ``phrase_length`` is too small for a cut that leaves ``MIN_PHRASE`` tokens on both sides.
    """
    if phrase_length < 2 * MIN_PHRASE:
        raise ValueError(f"phrase_length must be >= {2 * MIN_PHRASE}, twice the least size of a phrase, got {phrase_length}")
    k = int(bounds[-1])
    sentence_at = _collect(bounds, breaks.sentence, MIN_SENTENCE)
    sentence_bounds = np.append(np.flatnonzero(sentence_at), k)
    phrase_at = _collect(sentence_bounds, breaks.phrase, MIN_PHRASE, phrase_length, breaks)
    (sentence, sentences), (phrase, phrases) = _numbered(bounds, sentence_at), _numbered(bounds, phrase_at)
    return Nested(phrase, sentence, sentence[phrase_at], phrases, sentences)


def _numbered(bounds: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The unit of each token counted from 0 in its document, and the number of units of each document."""
    total = np.concatenate([[0], np.cumsum(starts, dtype=np.int32)])
    first = total[bounds[:-1]]
    return total[1:] - 1 - np.repeat(first, np.diff(bounds)), total[bounds[1:]] - first


def _collect(
    bounds: np.ndarray, preferred: np.ndarray, minimum: int, longest: int | None = None, breaks: Breaks | None = None
) -> np.ndarray:
    """Flags of the tokens at which a unit begins: every span of ``bounds`` is cut from its start, unit by unit.

    All spans advance together, one unit a round, so the rounds are as many as the span with most units has. A unit ends
    at the first preferred break that leaves ``minimum`` tokens on both sides; beyond ``longest`` at the last whitespace
    or word boundary that does so.
    """
    k = int(bounds[-1])
    starts = np.zeros(k, bool)
    begin, end = bounds[:-1], bounds[1:]
    begin, end = begin[begin < end], end[begin < end]
    starts[begin] = True
    next_preferred = _following(preferred)
    if longest is not None:
        last_space, last_word, next_word = _preceding(breaks.space), _preceding(breaks.word), _following(breaks.word)
    while begin.size:
        cut = next_preferred[np.minimum(begin + minimum, k)]
        cut = np.where(cut > end - minimum, end, cut)
        if longest is not None:
            over = np.flatnonzero(cut - begin > longest)
            least, most = begin[over] + minimum, end[over] - minimum
            limit = np.minimum(begin[over] + longest, most)
            forced = last_space[limit]
            forced = np.where(forced < least, last_word[limit], forced)
            forced = np.where(forced < least, np.minimum(next_word[limit], cut[over]), forced)
            cut[over] = np.where(forced > most, end[over], forced)
        more = cut < end
        begin, end = cut[more], end[more]
        starts[begin] = True
    return starts


def _following(flags: np.ndarray) -> np.ndarray:
    """For every token, and one past the end, the first flagged token from there on; the number of tokens for none."""
    k = len(flags)
    marked = np.append(np.where(flags, np.arange(k), k), k)
    return np.minimum.accumulate(marked[::-1])[::-1]


def _preceding(flags: np.ndarray) -> np.ndarray:
    """For every token the last flagged token up to it; 0 for none."""
    return np.maximum.accumulate(np.where(flags, np.arange(len(flags)), 0))

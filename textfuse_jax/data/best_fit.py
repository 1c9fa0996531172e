"""Pieces -> rows: best-fit in a shuffled look-ahead.

A row takes the oldest pieces of a buffer, and ends with those of the buffer that fill it best. The buffer is random, so
batches stay random where a sort by length would not be, and a row wastes a few tokens.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence

_SPARE = 1 / 8  # a row with more than this share empty goes on as a row of the next length


@dataclasses.dataclass(frozen=True)
class Shape:
    """Static sizes of a batch: rows, and what one row holds."""

    rows: int
    tokens: int
    slots: int
    phrases: int
    sentences: int


class _Buffer:
    """Pieces that wait for a row, by age and by length."""

    def __init__(self, lengths: list[int], order: list[int], size: int):
        self._lengths, self._order, self._size = lengths, order, size
        self._buckets: list[list[int]] = [[] for _ in range(max(lengths) + 1)]
        self._filled = 0  # bit n is set while bucket n has a piece: the longest below a bound is found in one operation
        self._ages: deque[int] = deque()
        self._taken = bytearray(len(lengths))
        self._arrived = self._held = 0

    def refill(self) -> bool:
        """Takes pieces in until it is full or none is left; whether it holds any."""
        arriving = self._order[self._arrived : self._arrived + self._size - self._held]
        self._arrived, self._held = self._arrived + len(arriving), self._held + len(arriving)
        self._ages.extend(arriving)
        for piece in arriving:
            self._buckets[self._lengths[piece]].append(piece)
            self._filled |= 1 << self._lengths[piece]
        return self._held > 0

    def take(self, piece: int) -> None:
        """Removes a piece."""
        bucket = self._buckets[self._lengths[piece]]
        bucket.remove(piece)
        if not bucket:
            self._filled ^= 1 << self._lengths[piece]
        self._taken[piece] = 1
        self._held -= 1

    def oldest(self) -> int:
        """The piece that came first."""
        while self._taken[self._ages[0]]:
            self._ages.popleft()
        return self._ages[0]

    def fitting(self, room: int, barred: int) -> int | None:
        """The next piece for a row with so much room; None if nothing fits. Lengths whose bit is ``barred`` are passed over.

        While every piece fits, the oldest, so that rows stay random. Near the end of the row the longer of the two
        that fill it best: best-fit of single pieces would leave the middle lengths over, two of which waste a third of a row.
        """
        if not self._held:
            return None
        if room >= self._filled.bit_length() - 1 and not barred >> self._lengths[self.oldest()] & 1:
            return self.oldest()
        allowed = self._filled & ~barred
        longer, chosen, most = allowed & ((2 << room) - 1), None, -1
        while longer and most < room:
            first = longer.bit_length() - 1
            longer ^= 1 << first
            second = allowed & ((2 << min(first, room - first)) - 1)
            if second >> first & 1 and len(self._buckets[first]) == 1:
                second ^= 1 << first
            total = first + max(0, second.bit_length() - 1)
            if total > most:
                chosen, most = first, total
        return None if chosen is None else self._buckets[chosen][-1]


def best_fit(
    lengths: list[int],
    phrases: list[int],
    sentences: list[int],
    order: list[int],
    smallest: list[int],
    shapes: Sequence[Shape],
    lookahead: int,
) -> list[list[list[int]]]:
    """Rows of pieces, for each shape. Plain Python over small integers: some microseconds a piece.

    Args:
      lengths, phrases, sentences: size of each piece.
      order: the pieces in the order in which they come.
      smallest: index in ``shapes`` of the smallest row that holds each piece.
      shapes: by ascending row length; the longest holds every piece.
      lookahead: pieces in the buffer, >= 1.
    """
    rows: list[list[list[int]]] = [[] for _ in shapes]
    buffer = _Buffer(lengths, order, lookahead)
    while buffer.refill():
        piece: int | None = buffer.oldest()
        i, row, used, barred = smallest[piece], [], [0, 0, 0], 0
        while piece is not None:
            shape, after = shapes[i], [used[0] + lengths[piece], used[1] + phrases[piece], used[2] + sentences[piece]]
            if after[1] > shape.phrases or after[2] > shape.sentences:
                barred |= 1 << lengths[piece]  # its like may have too many units: try other lengths
            else:
                buffer.take(piece)
                row.append(piece)
                used = after
            piece = buffer.fitting(shape.tokens - used[0], barred) if len(row) < shape.slots else None
            if piece is None and i + 1 < len(shapes) and shape.tokens - used[0] > shape.tokens * _SPARE:
                longer = shapes[i + 1]
                piece = buffer.fitting(longer.tokens - used[0], 0) if len(row) < longer.slots else None
                i, barred = (i, barred) if piece is None else (i + 1, 0)
        rows[i].append(row)
    return rows

"""Labels as users hold them: names, lists of names, 0/1 columns; what comes in goes out in the same form."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool

from textfuse_jax.data.corpus import DataError

FORMS = ("names", "lists", "indicator")


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels that a classifier was fitted with.

    Attributes:
      form: "names", one a document; "lists", a list a document; "indicator", a 0/1 column a label.
      values: the labels themselves, in the order of the classes: text, numbers or booleans.
      dtype: of an array of names, to give the same back; "" = objects.
      named: of an indicator: whether its columns had names (a DataFrame).
    """

    form: str
    values: tuple[Any, ...]
    dtype: str = ""
    named: bool = False

    @property
    def multi_label(self) -> bool:
        """Whether a document may have any number of labels."""
        return self.form != "names"

    @property
    def names(self) -> tuple[str, ...]:
        """The labels as text, distinct."""
        return tuple(map(str, self.values))

    @classmethod
    def of(cls, y: Any) -> Labels:
        """The labels in ``y``, sorted; columns in their order.

        Raises:
          DataError: no labels, fewer than two, an empty one, labels that read alike (1 and "1"), or rows of 0 and 1 as lists.
        """
        if hasattr(y, "columns") and len(y.columns) == 1:
            y = y.iloc[:, 0]
        if hasattr(y, "columns"):
            found = cls("indicator", tuple(map(_plain, y.columns)), named=True)
        else:
            array = _array(y)
            if array.ndim == 2:
                found = cls("indicator", tuple(range(array.shape[1])))
            elif _ambiguous(array):
                raise DataError(
                    f"labels are rows of 0 and 1, the first {list(array[0])}: a column a label, or lists of the labels 0 and 1? "
                    "Pass np.array(y) for columns, sets for lists"
                )
            elif len(array) and isinstance(array[0], (list, tuple, set, frozenset, np.ndarray)):
                found = cls("lists", _sorted({_plain(label) for one in array for label in one}))
            else:
                kind = getattr(y, "dtype", None)
                dtype = kind.str if isinstance(kind, np.dtype) and kind.kind in "biuf" else ""
                found = cls("names", _sorted({_plain(label) for label in array}), dtype)
        if len(found.values) < 2:
            raise DataError(f"a classifier needs two classes, got {list(found.values)}; is it the right column?")
        if len(set(found.names)) != len(found.names) or "" in found.names:
            raise DataError(f"labels must differ as text and none be empty, got {list(found.values)[:20]}")
        return found

    def encode(self, y: Any) -> np.ndarray:
        """Class of each document, int32 [n], or multi-hot float32 [n, c].

        Raises:
          DataError: a label that ``fit`` hadn't, or another form; the row is named.
        """
        if hasattr(y, "columns") and len(y.columns) == 1 and self.form != "indicator":
            y = y.iloc[:, 0]
        if self.form == "indicator":
            array = np.asarray(y)
            if array.ndim != 2 or array.shape[1] != len(self.values) or not np.isin(array, (0, 1)).all():
                raise DataError(f"labels must be 0 or 1 in {len(self.values)} columns, as in fit, got shape {array.shape}")
            if self.named and tuple(map(_plain, getattr(y, "columns", self.values))) != self.values:
                raise DataError(
                    f"the label columns must be those of fit in their order, {list(self.values)}, got {list(y.columns)}"
                )
            return array.astype(np.float32)
        index = {value: k for k, value in enumerate(self.values)}
        rows = [one if self.multi_label else (one,) for one in _array(y)]
        hot = np.zeros((len(rows), len(index)), np.float32)
        for i, labels in enumerate(rows):
            for label in labels:
                if _plain(label) not in index:
                    raise DataError(f"row {i}: label {label!r} is none of those of fit: {list(self.values)[:20]}")
                hot[i, index[_plain(label)]] = 1
        return hot if self.multi_label else hot.argmax(1).astype(np.int32)

    def back(self, predicted: Bool[np.ndarray, "n c"], index: Any = None) -> Any:
        """Predictions in the form of ``fit``'s labels; with a pandas index as Series or DataFrame."""
        if self.form == "indicator":
            made: Any = predicted.astype(np.int64)
        elif self.form == "lists":
            made = [[self.values[k] for k in np.flatnonzero(row)] for row in predicted]
        else:
            made = np.array(self.values, self.dtype or object)[predicted.argmax(1)] if len(predicted) else np.array([], object)
        if index is None:
            return made
        import pandas

        if self.form == "indicator":
            return pandas.DataFrame(made, index=index, columns=list(self.values))
        return pandas.Series(made, index=index, dtype=made.dtype if self.dtype else object)

    def to_plain(self) -> dict[str, Any]:
        """For JSON; ``from_plain`` reads it."""
        return dataclasses.asdict(self) | {"values": list(self.values)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Labels:
        """Inverse of ``to_plain``."""
        return cls(**plain | {"values": tuple(plain["values"])})


def _array(y: Any) -> np.ndarray:
    """A list of anything as an array of objects of one dimension; arrays of two as they are."""
    if isinstance(y, np.ndarray) and y.ndim == 2:
        return y
    made = np.empty(len(y), object)
    made[:] = list(y)
    return made


def _ambiguous(rows: np.ndarray) -> bool:
    """Whether lists of labels look like an indicator: of one length above 1, nothing but 0 and 1 in them."""
    if not len(rows) or not all(isinstance(row, (list, tuple, np.ndarray)) for row in rows):
        return False
    width = len(rows[0])
    return width > 1 and all(len(row) == width and all(not isinstance(x, str) and x in (0, 1) for x in row) for row in rows)


def _plain(value: Any) -> Any:
    """NumPy's numbers and text as Python's, so that they are JSON and compare equal."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, (str, int, float, bool)) or value != value:
        raise DataError(f"a label must be text or a number, got {value!r}; fill it in or leave the row out")
    return value


def _sorted(values: set) -> tuple:
    try:
        return tuple(sorted(values))
    except TypeError:
        return tuple(sorted(values, key=str))

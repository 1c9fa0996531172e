"""What may be wrong with labelled texts: errors that stop, warnings that are counted and listed, and what is done.

Errors: no rows, one class only, a label that isn't among the class names, a label of validation or test that no
training row has. Warnings: empty text (row dropped), a training text that is also in validation or test (training row
dropped unless told otherwise), one training text under different labels (kept), a class without training rows (kept),
first words that tell the class (kept).
Rows are only ever dropped whole, so a label stays with its text.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from textfuse_jax.data.corpus import DataError

SHOWN = 3  # places a warning lists; enough to find the fault, few enough to read


@dataclasses.dataclass(frozen=True)
class Raw:
    """Texts and names of labels as they were read, each with its place; row i of every list belonging together.

    Attributes:
      source: the file or data set, as messages name it.
      rows: number of each row as an editor shows the file, from 1 (the header is a row); the line of its beginning.
      ids: name of each document.
      texts: the texts, possibly empty.
      labels: names of the classes of each document, one unless multi-label.
      text_column, label_column: names of the columns, for messages.
    """

    source: str
    rows: list[int]
    ids: list[str]
    texts: list[str]
    labels: list[tuple[str, ...]]
    text_column: str
    label_column: str

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> Raw:
        """The rows at these indices, in this order."""
        return dataclasses.replace(
            self, **{field: [getattr(self, field)[i] for i in indices] for field in ("rows", "ids", "texts", "labels")}
        )

    def place(self, i: int) -> str:
        """Where row i stands and what its text is, for messages."""
        text = self.texts[i] if len(self.texts[i]) <= 60 else self.texts[i][:57] + "..."
        return f"row {self.rows[i]}, column {self.text_column!r}, value {text!r}"


def normalised(text: str) -> str:
    """Letters and digits in lower case, by which two texts are the same text; the text itself if it has none."""
    return re.sub(r"[\W_]+", "", text.lower()) or text


def drop_empty(raw: Raw, warnings: list[str]) -> Raw:
    """Without the rows whose text is empty or blank.

    Raises:
      DataError: no row has a text.
    """
    empty = [i for i, text in enumerate(raw.texts) if not text.strip()]
    if len(empty) == len(raw):
        raise DataError(
            f"{raw.source}: no rows with text in column {raw.text_column!r} ({len(raw)} rows, {len(empty)} of them empty); "
            "give a file that has some, or another text column"
        )
    if empty:
        warnings.append(_listed(raw, empty, "with empty text dropped", "Fill in the text or delete the row."))
        raw = raw.take(sorted(set(range(len(raw))) - set(empty)))
    return raw


def drop_overlap(raw: Raw, held: Raw, drop: bool, warnings: list[str]) -> Raw:
    """Without the rows whose normalised text is among those held out; with ``drop`` False they stay and are counted."""
    held_rows = {normalised(text): row for text, row in zip(held.texts, held.rows)}
    both = [i for i, text in enumerate(raw.texts) if normalised(text) in held_rows]
    if not both:
        return raw
    twin = held_rows[normalised(raw.texts[both[0]])]
    what = f"whose text is also held out in {held.source} (the first as row {twin}) {'dropped' if drop else 'kept'}"
    fix = "Keep them with drop_overlap=False." if drop else "Scores are too high by what is learnt from them; drop_overlap=True."
    warnings.append(_listed(raw, both, what, fix))
    return raw.take(sorted(set(range(len(raw))) - set(both))) if drop else raw


def note_contradictions(raw: Raw, warnings: list[str]) -> None:
    """Warns of rows whose normalised text stood before under another label; they are kept."""
    first: dict[str, int] = {}
    odd = [
        i
        for i, text in enumerate(raw.texts)
        if sorted(raw.labels[first.setdefault(normalised(text), i)]) != sorted(raw.labels[i])
    ]
    if odd:
        before = first[normalised(raw.texts[odd[0]])]
        what = f"with the text of an earlier row under another label kept (the first: row {raw.rows[before]} is "
        what += f"{_name(raw.labels[before])}, row {raw.rows[odd[0]]} is {_name(raw.labels[odd[0]])})"
        warnings.append(_listed(raw, odd, what, f"Correct column {raw.label_column!r} or delete one of them."))


def note_leading_labels(raw: Raw, warnings: list[str]) -> None:
    """Warns where the first word of a text alone tells its class, as where a finer label was left standing before each text.

    Told where the most frequent class of each first word is right of 90 % of the texts (TREC with its fine labels 94 %, other
    sets at most 64 %), though the most frequent of all is not of 80 %. Words that stand before one text alone count as wrong.
    """
    classes = collections.defaultdict(collections.Counter)
    for text, labels in zip(raw.texts, raw.labels):
        if len(labels) == 1:
            classes[text.split(maxsplit=1)[0] if text.strip() else ""][labels[0]] += 1
    n = sum(found.total() for found in classes.values())
    often = sum(found.most_common(1)[0][1] for found in classes.values() if found.total() > 1)
    most = max(sum(classes.values(), collections.Counter()).values(), default=0)
    if n >= 50 and often >= 0.9 * n and most < 0.8 * n:
        word, found = max(classes.items(), key=lambda one: one[1].total())
        warnings.append(
            f"{raw.source}, column {raw.text_column!r}: the first word of a text alone tells its class in {often / n:.0%} of "
            f"{n:,} rows ({word!r}: {found.most_common(1)[0][0]}), as if a label stood there; take it out by "
            r"config.data.text_remove='^\S+ '"
        )


def without(parts: Mapping[str, Raw], pattern: str) -> dict[str, Raw]:
    """The rows of all splits without what a regular expression matches in their texts.

    Raises:
      DataError: it is no regular expression, or matches nothing in any split.
    """
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise DataError(f"config.data.text_remove is no regular expression ({error}), got {pattern!r}") from error
    if not any(found.search(text) for raw in parts.values() for text in raw.texts):
        texts = sum(len(raw) for raw in parts.values())
        raise DataError(f"config.data.text_remove={pattern!r} matches in none of {texts:,} texts; leave it empty")
    return {name: dataclasses.replace(raw, texts=[found.sub("", text) for text in raw.texts]) for name, raw in parts.items()}


def class_names_of(raw: Raw) -> tuple[str, ...]:
    """The sorted names of all labels; numerically where all are whole numbers.

    Raises:
      DataError: fewer than two classes.
    """
    names = {name for labels in raw.labels for name in labels}
    if len(names) < 2:
        raise DataError(
            f"{raw.source}: column {raw.label_column!r} has {'only the label ' + repr(*names) if names else 'no label at all'} "
            f"in {len(raw)} rows; a classifier needs two classes: is it the right label_column, are rows of the others left out?"
        )
    return tuple(sorted(names, key=int) if all(re.fullmatch(r"-?\d+", name) for name in names) else sorted(names))


def check_labels(raw: Raw, class_names: Sequence[str], multi_label: bool, known_from: str) -> None:
    """Every row has a known label, and exactly one unless multi-label.

    Raises:
      DataError: naming the row, the value, and a near name; ``known_from`` says where the class names come from.
    """
    known = set(class_names)
    for i, labels in enumerate(raw.labels):
        if not multi_label and len(labels) != 1:
            value = labels or ""
            raise DataError(
                f"{raw.source}, row {raw.rows[i]}, column {raw.label_column!r}: one label is needed, got {value!r}; "
                + ("for several labels a document set label_separator" if labels else "fill it in or delete the row")
            )
        for label in labels:
            if label not in known:
                near = difflib.get_close_matches(label, class_names, n=1)
                count = sum(label in other for other in raw.labels)
                raise DataError(
                    f"{raw.source}, row {raw.rows[i]}, column {raw.label_column!r}: label {label!r} ({count} rows) is not "
                    f"among {known_from}{f'; did you mean {near[0]!r}?' if near else ''}; correct or delete these rows, or add it"
                )


def check_training_classes(raw: Raw, held: Sequence[Raw], class_names: Sequence[str], warnings: list[str]) -> None:
    """Every class that is held out has training rows; one that has none anywhere is a warning.

    Raises:
      DataError: a label that only held-out rows have, naming its first row.
    """
    trained = {name for labels in raw.labels for name in labels}
    for other in held:
        for i, labels in enumerate(other.labels):
            for label in labels:
                if label not in trained:
                    raise DataError(
                        f"{other.source}, row {other.rows[i]}, column {other.label_column!r}: label {label!r} stands only here, "
                        f"in no training row of {raw.source}, and can't be learnt; add training rows of it or delete these rows"
                    )
    if len(trained) < 2:
        class_names_of(raw)  # tells which label it is
    missing = [name for name in class_names if name not in trained]
    if missing:
        warnings.append(
            f"{raw.source}, column {raw.label_column!r}: {len(missing)} of {len(class_names)} classes have no training row "
            f"and will not be predicted: {', '.join(missing[:10])}. Add rows of them or leave them out of class_names."
        )


def encode(raw: Raw, class_names: Sequence[str], multi_label: bool) -> Int[np.ndarray, "n"] | Float[np.ndarray, "n c"]:
    """Index of each row's class, int32 [n]; multi-label: multi-hot float32 [n, c]. Labels must have been checked."""
    index = {name: k for k, name in enumerate(class_names)}
    if not multi_label:
        return np.array([index[labels[0]] for labels in raw.labels], np.int32)
    hot = np.zeros((len(raw), len(class_names)), np.float32)
    for i, labels in enumerate(raw.labels):
        hot[i, [index[label] for label in labels]] = 1
    return hot


def _listed(raw: Raw, indices: Sequence[int], what: str, fix: str) -> str:
    """One warning: how many rows, what is with them, the first places, the fix."""
    places = "; ".join(raw.place(i) for i in indices[:SHOWN])
    more = f"; and {len(indices) - SHOWN} more" if len(indices) > SHOWN else ""
    return f"{raw.source}: {len(indices)} row{'s' if len(indices) > 1 else ''} {what}: {places}{more}. {fix}"


def _name(labels: tuple[str, ...]) -> str:
    return " + ".join(labels) or "no class"

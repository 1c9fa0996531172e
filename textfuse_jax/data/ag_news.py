"""AG News (Zhang, Zhao and LeCun 2015, arXiv 1509.01626): news of 2004-2005, four topics, from files or from TFDS."""

from __future__ import annotations

import html
import pathlib
import re
from collections.abc import Sequence

from textfuse_jax.data import tfds
from textfuse_jax.data.checks import Raw
from textfuse_jax.data.corpus import DataError, DataNotFound
from textfuse_jax.data.tabular import read_table, to_raw

CLASS_NAMES = ("World", "Sports", "Business", "Sci/Tech")
FILES = ("ag_news_train.csv.gz", "ag_news_test.csv.gz")
TFDS_NAME = "ag_news_subset"


def clean(text: str) -> str:
    """The text without the debris of the crawl: entities that lost their ampersand, tags, backslashes for line breaks.

    ``#39;`` ``quot;`` ``&lt;b&gt;`` become an apostrophe, a quotation mark, nothing; runs of white space one space.
    """
    text = html.unescape(text)  # first what kept its ampersand: &amp;quot; becomes &quot;
    text = html.unescape(re.sub(r"(?<![&\w])(#\d{2,4}|quot|amp|lt|gt|nbsp|hellip|[lr][sd]quo|[mn]dash);", r"&\1;", text))
    text = re.sub(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", " ", text)
    return re.sub(r"\s+", " ", text.replace("\\", " ")).strip()


def read(root: pathlib.Path | None, forms: Sequence[str], clean_html: bool, download: bool) -> tuple[Raw, Raw]:
    """Training and test rows, labels by name.

    Args:
      root: folder that may hold ``FILES``: columns label (1 to 4), text, form.
      forms: values of the training file's column ``form`` to keep; "title+description" rows are whole,
        "joined" rows are whole but don't tell where the title ends.
      clean_html: undo the debris of the crawl, see ``clean``.
      download: let TFDS fetch and prepare the set when neither is there.

    Raises:
      DataNotFound: neither files nor a prepared TFDS set; lists every way to get it.
    """
    if root is not None and all((root / name).is_file() for name in FILES):
        tables = [read_table(root / name) for name in FILES]
        tables[0] = tables[0].where("form", forms)
        train, test = (_named(to_raw(table, ("text",), "label")) for table in tables)
    else:
        if tfds.prepared_folder(TFDS_NAME) is None and not download:
            raise DataNotFound(_how_to_get_it(root))
        splits, _ = tfds.read_splits(TFDS_NAME, "label", download)
        train, test = (to_raw(splits[split], ("title", "description"), "label") for split in ("train", "test"))
    if clean_html:
        for raw in (train, test):
            raw.texts[:] = map(clean, raw.texts)
    return train, test


def _named(raw: Raw) -> Raw:
    """Labels 1 to 4 by their names."""
    numbers = {str(k): name for k, name in enumerate(CLASS_NAMES, 1)}
    for i, labels in enumerate(raw.labels):
        if len(labels) != 1 or labels[0] not in numbers:
            raise DataError(
                f"{raw.source}, row {raw.rows[i]}, column {raw.label_column!r}: a label of 1 to 4 is needed "
                f"({', '.join(f'{k} {name}' for k, name in numbers.items())}), got {' '.join(labels)!r}; correct the row"
            )
        raw.labels[i] = (numbers[labels[0]],)
    return raw


def _how_to_get_it(root: pathlib.Path | None) -> str:
    where = f"{' and '.join(FILES)} in {root}" if root else f"TEXTFUSE_DATA (not set) for a folder with {' and '.join(FILES)}"
    return (
        f"AG News was not found. Looked for: {where}; the TFDS set {TFDS_NAME} in array_record form under {tfds.data_dir()}.\n"
        "Any one of these gets data:\n"
        f"  - set TEXTFUSE_DATA (or config.data.root) to a folder with {' and '.join(FILES)}: columns label (1 World, 2 Sports,\n"
        "    3 Business, 4 Sci/Tech), text, and in the training file form\n"
        f"  - prepare it once, with network: {tfds.prepare_command(TFDS_NAME)}\n"
        f"    or let the run do it: --config.data.download=True; or set TFDS_DATA_DIR to where it is prepared\n"
        "  - another file of texts: --config.data.source=file --config.data.path=train.csv, with text_columns and label_column\n"
        "  - the corpus that is on every machine: --config=configs/NAME.py:docstrings"
    )

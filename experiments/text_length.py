"""Short, medium and long texts: AG News, 20 Newsgroups, IMDb, cut at 256 tokens or read whole in windows.

    TEXTFUSE_DATA=DIR python -m experiments.text_length [:runlocal]

Accuracy on the short, the middle and the long third of each set's test documents (AG News all, else 3,000), by words. AG News is
cut at 128 tokens. 4,000 training rows (IMDb: 3,600), 5 seeds; 84 minutes of one core beside other work, most of it
features, once. What length costs is ``experiments.length_growth``'s to say.
"""

from __future__ import annotations

from experiments.study import ENCODER_ALONE, HEAD, Setting, Study, frozen, main

FILES = {
    "20 Newsgroups": {"data.path": "20newsgroups.csv.gz", "data.train_rows": 4000, "data.validation_rows": 800},
    "IMDb": {"data.path": "imdb_8k.csv.gz", "data.train_rows": 0, "data.validation_rows": 400},
}
LENGTH = {"data.max_length": 256, "data.row_lengths": (256,)}
WINDOWS = {"data.long_documents": "windows", "data.window_stride": 192}


def data_of(name: str) -> dict:
    """Fields of the data of one set."""
    if name == "AG News":
        return {}
    return LENGTH | FILES[name] | {"data.source": "file", "data.split_column": "split", "data.test_rows": 3000}


def settings(name: str) -> list[Setting]:
    """Both models, cut and whole; AG News in rows of 128 tokens, as other studies have it."""
    found = []
    for reading, fields in (("", {}), (", windows", WINDOWS)) if name in FILES else (("", {}),):
        alone = f"{name}, encoder alone"  # windows are compared with the cut text, the graph with the encoder on the same
        found.append(Setting(alone + reading, data_of(name) | fields | ENCODER_ALONE, against=alone, grid=HEAD))
        found.append(Setting(f"{name}, Pyramid-GNN{reading}", data_of(name) | fields, against=alone + reading))
    return found


SETTINGS = [row for name in ("AG News", *FILES) for row in settings(name)]

STUDY = Study("text_length", frozen(), SETTINGS)

if __name__ == "__main__":
    main(STUDY)

"""Corpora by name: splits, checks, and that a label never leaves its text."""

import dataclasses
import gzip

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.graph_benchmarks import TREC_LABEL
from textfuse_jax.data import ag_news
from textfuse_jax.data.corpus import DataError, DataNotFound
from textfuse_jax.data.sources import load


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch, tmp_path):
    monkeypatch.delenv("TEXTFUSE_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no_tfds"))


def write(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def rows(n, start=0):
    """Texts that say their class: "an even 4", label even."""
    return [f"an {name} {i},{name}" for i in range(start, start + n) for name in [("even", "odd")[i % 2]]]


def right(corpus):
    """Whether every label is that of its text."""
    splits = (corpus.train, corpus.validation, corpus.test)
    return all(corpus.class_names[k] == text.split()[1] for s in splits for text, k in zip(s.texts, s.labels))


def test_one_file_is_split_from_the_seed(tmp_path):
    path = write(tmp_path / "t.csv", rows(100))
    corpus = load(ConfigDict(dict(source="file", path=path)), seed=1)
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (72, 8, 20)
    assert np.bincount(corpus.test.labels).tolist() == [10, 10] and corpus.class_names == ("even", "odd")
    assert right(corpus) and not corpus.warnings and corpus.train.labels.dtype == np.int32
    ids = [*corpus.train.ids, *corpus.validation.ids, *corpus.test.ids]
    assert sorted(map(int, ids)) == list(range(2, 102))
    assert load(dict(source="file", path=path), 1).fingerprint() == corpus.fingerprint()
    assert load(dict(source="file", path=path), 2).fingerprint() != corpus.fingerprint()


def test_files_for_every_split_relative_to_the_root(tmp_path):
    for name, start in (("train.csv", 0), ("dev.csv", 50), ("test.csv", 70)):
        write(tmp_path / name, rows(20, start))
    corpus = load(
        dict(source="file", root=str(tmp_path), path="train.csv", validation_path="dev.csv", test_path="test.csv", test_rows=8)
    )
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (20, 20, 8) and right(corpus)


def test_one_file_with_a_split_column_and_a_filter(tmp_path):
    lines = [
        f"{row},{split},{form}"
        for i, (row, split) in enumerate(zip(rows(40), ["train", "Train", "dev", "test"] * 10))
        for form in "ab"
    ]
    lines = [line.replace(",", f" {i},", 1) for i, line in enumerate(lines)]
    path = write(tmp_path / "t.csv", lines, "text,label,part,form")
    field = dict(source="file", path=path, split_column="part", where=dict(form=("a",)))
    corpus = load(ConfigDict(field))
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (20, 10, 10) and right(corpus)
    with pytest.raises(DataError, match=r"row 2, column 'form': 'a' is no split; use one of train"):
        load({**field, "split_column": "form"})
    with pytest.raises(DataError, match="one file with all splits"):
        load({**field, "test_path": path})
    with pytest.raises(DataError, match="no row says train; there are test"):
        load({**field, "where": dict(part=("test",))})


def test_train_rows_are_nested_and_apart_from_validation(tmp_path):
    path = write(tmp_path / "t.csv", rows(200))
    small, large = (load(dict(source="file", path=path, train_rows=n, validation_rows=20), 5) for n in (20, 60))
    assert (len(small.train), len(large.train), len(small.validation)) == (20, 60, 20)
    assert set(small.train.ids) < set(large.train.ids) and small.validation.ids == large.validation.ids
    assert not set(large.train.ids) & set(large.validation.ids)
    assert len(load(dict(source="file", path=path, train_rows=40), 5).validation) == 4
    everything = load(dict(source="file", path=path, train_rows=500), 5)
    assert any("train_rows=500 asked for, 144 are there" in warning for warning in everything.warnings)


def test_empty_and_overlapping_texts_are_dropped_counted_and_listed_and_no_label_shifts(tmp_path):
    train = rows(30)
    train[3:3] = [",odd", "  ,even", "AN EVEN 100!,even", "an odd 7,even"]
    corpus = load(
        dict(
            source="file",
            path=write(tmp_path / "train.csv", train),
            test_path=write(tmp_path / "test.csv", rows(10, 100)),
            validation_rows=4,
        )
    )
    empty, contradiction, overlap, *rest = corpus.warnings
    assert "2 rows with empty text dropped: row 5, column 'text', value ''; row 6, column 'text', value '  '" in empty
    assert (
        "1 row with the text of an earlier row under another label kept (the first: row 8 is even, row 13 is odd)"
        in contradiction
    )
    assert (
        "1 row whose text is also held out in test.csv (the first as row 2) dropped: row 7" in overlap
        and "drop_overlap" in overlap
    )
    assert len(corpus.train) + len(corpus.validation) + ("held out in train.csv" in "".join(rest)) == 31
    pairs = dict(zip(corpus.train.ids, zip(corpus.train.texts, corpus.train.labels)))
    assert all(corpus.class_names[k] == text.split()[1] for name, (text, k) in pairs.items() if name != "8")
    kept = load(
        dict(
            source="file",
            path=str(tmp_path / "train.csv"),
            test_path=str(tmp_path / "test.csv"),
            validation_rows=4,
            drop_overlap=False,
        )
    )
    assert len(kept.train) + len(kept.validation) == 32 and any("kept: row 7" in warning for warning in kept.warnings)


@pytest.mark.parametrize(
    "train, test, field, message",
    [
        (["a,x", "b,x"], ["c,x"], {}, r"only the label 'x' in 2 rows; a classifier needs two classes"),
        (["a,x", "b,y"], ["c,x", "d,z"], {}, r"test.csv, row 3, column 'label': label 'z' stands only here"),
        (
            ["a,x", "b,yes"],
            ["c,x"],
            dict(class_names=("x", "yes!")),
            r"train.csv, row 3.*'yes' \(1 rows\) is not.*did you mean 'yes!'",
        ),
        (["a,x", "b,"], ["c,x"], dict(class_names=("x", "y")), r"row 3, column 'label': one label is needed, got ''"),
        ([], ["c,x"], {}, r"train.csv: no rows with text in column 'text' \(0 rows, 0 of them empty\)"),
        (["a,x", "b,y"], [",x"], {}, r"test.csv: no rows with text"),
        (["a,x", "b,x"], ["c,x"], dict(class_names=("x", "y")), r"only the label 'x'"),
        (["a,x", "b,y"], ["c,x"], dict(class_names=("x", "y", "z"), validation_rows=2), r"2 of 2 documents can't be held out"),
    ],
)
def test_labels_that_cant_be_used_are_errors(tmp_path, train, test, field, message):
    paths = dict(path=write(tmp_path / "train.csv", train), test_path=write(tmp_path / "test.csv", test))
    with pytest.raises(DataError, match=message):
        load(dict(source="file", validation_fraction=0, **{**paths, **field}))


def test_classes_without_rows_are_warned_of(tmp_path):
    path = write(tmp_path / "t.csv", [*rows(60), "rare 1,rare", "rare 2,rare", "rare 3,rare"])
    corpus = load(dict(source="file", path=path, train_rows=4, test_rows=10, class_names=("odd", "even", "rare", "never")))
    assert any("1 of 4 classes have no training row and will not be predicted: never" in warning for warning in corpus.warnings)
    assert any("train_rows=4 holds no row of rare, never" in warning for warning in corpus.warnings)


def test_multi_label_is_multi_hot(tmp_path):
    lines = [f"doc {i},{';'.join(name for k, name in enumerate('xyz') if i >> k & 1)}" for i in range(80)]
    corpus = load(dict(source="file", path=write(tmp_path / "m.csv", lines), label_separator=";"))
    assert corpus.multi_label and corpus.class_names == ("x", "y", "z") and corpus.train.labels.dtype == np.float32
    for text, hot in zip(corpus.train.texts, corpus.train.labels):
        assert hot.tolist() == [int(text.split()[1]) >> k & 1 for k in range(3)]


def test_numeric_labels_sort_by_value(tmp_path):
    path = write(tmp_path / "n.csv", [f"doc {i},{i % 12}" for i in range(120)])
    assert load(dict(source="file", path=path)).class_names == tuple(map(str, range(12)))


def test_unknown_source_and_missing_path():
    with pytest.raises(DataError, match="must be ag_news, docstrings, file or tfds:NAME, got 'agnews'"):
        load(dict(source="agnews"))
    with pytest.raises(DataError, match=r"config\.data\.path is empty"):
        load(dict(source="file"))


def test_ag_news_that_is_nowhere_lists_every_way_to_get_it(tmp_path):
    for root in ("", str(tmp_path)):
        with pytest.raises(DataNotFound) as error:
            load(dict(source="ag_news", root=root))
        for way in (
            "TEXTFUSE_DATA",
            "ag_news_train.csv.gz",
            "no_tfds",
            "download_and_prepare",
            "TFDS_DATA_DIR",
            "source=file",
            ":docstrings",
        ):
            assert way in str(error.value)


def test_ag_news_files(tmp_path):
    train = [
        f"{1 + i % 4},Story {i} of #39;{i},{form}"
        for i, form in enumerate(["joined", "title+description", "description_only"] * 16)
    ]
    for name, lines in zip(ag_news.FILES, (train, [f"{1 + i % 4},Test {i},title+description" for i in range(8)])):
        (tmp_path / name).write_bytes(gzip.compress("\n".join(["label,text,form", *lines]).encode()))
    field = dict(source="ag_news", root=str(tmp_path), validation_rows=4)
    corpus = load(field)
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (12, 4, 8)
    assert corpus.class_names == ("World", "Sports", "Business", "Sci/Tech")
    assert all(int(text.split()[1]) % 4 == label for text, label in zip(corpus.train.texts, corpus.train.labels))
    assert "of '1" in "".join([*corpus.train.texts, *corpus.validation.texts])
    assert len(load({**field, "forms": ("title+description", "joined"), "clean_html": False}).train) == 28
    (tmp_path / ag_news.FILES[1]).write_bytes(gzip.compress(b"label,text,form\n5,a,joined\n"))
    with pytest.raises(DataError, match=r"row 2, column 'label': a label of 1 to 4 is needed.*got '5'"):
        load(field)


@pytest.mark.parametrize(
    "dirty, cleaned",
    [
        ("Pacers #39;win quot;big quot;", 'Pacers \'win "big "'),
        ("near\\Nablus  on \\$7.35", "near Nablus on $7.35"),
        ('&lt;p&gt;LONDON&lt;/p&gt; &lt;A HREF="http://x?a=b"&gt;SIAL.SI&lt;/A&gt;', "LONDON SIAL.SI"),
        ("AT amp;T & Co. &amp;quot;x&amp;quot;", 'AT &T & Co. "x"'),
        ("a < b and b > c; #1 song", "a < b and b > c; #1 song"),
    ],
)
def test_debris_of_the_crawl_is_undone_and_nothing_else(dirty, cleaned):
    assert ag_news.clean(dirty) == cleaned


def test_real_ag_news(real_data):
    corpus = load(dict(source="ag_news", root=str(real_data), train_rows=400, test_rows=400))
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (400, 40, 400)
    assert np.abs(np.bincount(corpus.train.labels) - 100).max() <= 6
    texts = " ".join(corpus.train.texts)
    assert "#39;" not in texts and "&lt;" not in texts and "\\" not in texts


def test_real_movie_reviews_and_goemotions(real_data):
    reviews = load(dict(source="file", path=str(real_data / "mr.csv.gz"), split_column="split"))
    assert len(reviews.test) == 3554 and reviews.class_names == ("0", "1") and len(reviews.train) + len(reviews.validation) > 7000
    field = dict(source="file", root=str(real_data), path="goemotions.csv.gz", split_column="split", label_column="label_names")
    emotions = load({**field, "label_separator": ";", "drop_overlap": False})
    assert (len(emotions.train), len(emotions.validation), len(emotions.test)) == (43410, 5426, 5427)
    assert emotions.multi_label and len(emotions.class_names) == 28
    counts = dict(zip(emotions.class_names, emotions.test.labels.sum(0).astype(int)))
    assert (counts["admiration"], counts["grief"], counts["neutral"]) == (504, 6, 1787)


def test_a_label_left_before_each_text_is_told_and_can_be_taken_out(tmp_path):
    fine = {"even": ("two", "four"), "odd": ("one", "three")}
    leaking = [f"{fine[name][i % 4 // 2]} how {name} is {i},{name}" for i in range(100) for name in [("even", "odd")[i % 2]]]
    path = write(tmp_path / "t.csv", leaking)
    corpus = load(dict(source="file", path=path))
    assert len(corpus.warnings) == 1 and "first word of a text alone tells its class in 100%" in corpus.warnings[0]
    assert r"config.data.text_remove='^\S+ '" in corpus.warnings[0]
    mended = load(dict(source="file", path=path, text_remove=r"^\S+ "))
    assert not mended.warnings and all(text.startswith("how ") for text in mended.train.texts + mended.test.texts)
    assert mended.train.ids == corpus.train.ids and mended.train.labels.tolist() == corpus.train.labels.tolist()
    with pytest.raises(DataError, match="matches in none of 100 texts"):
        load(dict(source="file", path=path, text_remove="^zzz"))
    with pytest.raises(DataError, match="no regular expression"):
        load(dict(source="file", path=path, text_remove="("))


def test_a_label_before_training_texts_alone_is_taken_out_of_them(tmp_path):
    train = write(
        tmp_path / "train.csv", [f"{name.upper()} is {i},{name}" for i in range(80) for name in [("even", "odd")[i % 2]]]
    )
    config = dict(source="file", path=train, test_path=write(tmp_path / "test.csv", rows(20, 100)))
    assert any("first word" in warning for warning in load(config).warnings)
    corpus = load(config | {"text_remove": "^[A-Z]+ "})
    assert all(text.startswith("is ") for text in corpus.train.texts) and right(
        dataclasses.replace(corpus, train=corpus.test, validation=corpus.test)
    )


@pytest.mark.parametrize(
    "texts",
    [
        [f"w{i} says {('even', 'odd')[i % 2]},{('even', 'odd')[i % 2]}" for i in range(100)],  # a word of its own before each
        [f"{('the', 'a', 'no')[i % 3]} text {i},{('even', 'odd')[i % 2]}" for i in range(100)],  # words that both classes share
        [f"{('even', 'odd')[i % 10 == 0]} {i},{('even', 'odd')[i % 10 == 0]}" for i in range(100)],  # nine of ten are one class
        [f"{('even', 'odd')[i % 2]} {i},{('even', 'odd')[i % 2]}" for i in range(30)],  # few texts
    ],
)
def test_first_words_that_are_no_labels(tmp_path, texts):
    assert not any(
        "first word" in warning for warning in load(dict(source="file", path=write(tmp_path / "t.csv", texts))).warnings
    )


def test_trec_keeps_its_fine_labels_before_its_questions(real_data):
    config = ConfigDict(dict(source="file", root=str(real_data), path="trec.csv.gz", split_column="split"))
    assert any("first word of a text alone tells its class" in warning for warning in load(config).warnings)
    config.text_remove = TREC_LABEL
    questions = load(config)
    assert not any("first word" in warning for warning in questions.warnings)
    assert {text.split()[0] for text in questions.test.texts} >= {"What", "How", "Who"}

"""TFDS sets prepared as array_record are read without TensorFlow; what isn't prepared is refused at once."""

import sys

import pytest
import tensorflow_datasets as tfds

from textfuse_jax.data.corpus import DataError, DataNotFound
from textfuse_jax.data.sources import load
from textfuse_jax.data.tfds import prepared_folder


class AgNewsSubset(tfds.core.GeneratorBasedBuilder):
    """A set of the name and the features of AG News in TFDS, with 40 + 8 rows of our own."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        names = ["World", "Sports", "Business", "Sci/Tech"]
        features = dict(title=tfds.features.Text(), description=tfds.features.Text(), label=tfds.features.ClassLabel(names=names))
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("train", 40), "test": self._generate_examples("test", 8)}

    def _generate_examples(self, split, n):
        for i in range(n):
            yield i, {"title": f"{split} {i}", "description": "quot;ünï quot;", "label": i % 4}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    AgNewsSubset(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def data_dir(monkeypatch, prepared):
    monkeypatch.delenv("TEXTFUSE_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))


def test_a_prepared_set_by_name():
    corpus = load(dict(source="tfds:ag_news_subset", text_columns=("title", "description"), validation_rows=8))
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (32, 8, 8)
    assert corpus.class_names == ("World", "Sports", "Business", "Sci/Tech")
    for text, label in zip(corpus.train.texts, corpus.train.labels):
        assert int(text.split()[1]) % 4 == label and text.endswith("quot;ünï quot;")
    assert "tensorflow" not in sys.modules


def test_ag_news_comes_from_tfds_where_there_are_no_files():
    corpus = load(dict(source="ag_news", validation_rows=8))
    assert sorted(corpus.test.texts)[0] == 'test 0 "ünï "' and len(corpus.train) == 32


def test_the_newest_version_and_a_named_one(prepared, tmp_path, monkeypatch):
    assert prepared_folder("ag_news_subset").name == "1.0.0"
    assert prepared_folder("ag_news_subset:2.0.0") is None
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for version in ("plain/1.9.0", "plain/1.10.0", "many/en/1.0.0", "many/de/1.0.0", "one/en/1.0.0"):
        (tmp_path / version).mkdir(parents=True)
        (tmp_path / version / "dataset_info.json").touch()
    assert prepared_folder("plain").name == "1.10.0" and prepared_folder("plain:1.9.0").name == "1.9.0"
    assert prepared_folder("many/de").parent.name == "de" and prepared_folder("one").parent.name == "en"
    with pytest.raises(DataError, match="2 configs; say which: many/de, many/en"):
        prepared_folder("many")


def test_what_isnt_prepared_is_refused_with_the_command():
    with pytest.raises(DataNotFound, match=r"(?s)imdb_reviews is not prepared under .*file_format='array_record'"):
        load(dict(source="tfds:imdb_reviews"))


def test_a_missing_feature_suggests_the_near_one():
    with pytest.raises(DataError, match="has no column 'titel'; did you mean 'title'"):
        load(dict(source="tfds:ag_news_subset", text_columns=("titel",)))


def test_a_set_in_another_file_format_is_refused(prepared, tmp_path, monkeypatch):
    info = prepared / "ag_news_subset" / "1.0.0"
    copy = tmp_path / "ag_news_subset" / "1.0.0"
    copy.mkdir(parents=True)
    for file in info.iterdir():
        (copy / file.name).write_bytes(file.read_bytes().replace(b'"fileFormat": "array_record"', b'"fileFormat": "tfrecord"'))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="stored as tfrecord, which only TensorFlow reads"):
        load(dict(source="tfds:ag_news_subset"))

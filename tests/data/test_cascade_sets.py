"""Twitter's files and every public layout read back; cutting by posts and by minutes; broken trees are listed."""

import gzip
import json

import numpy as np
import pytest

from configs import rumor_pheme
from tests.data.test_cascade_rows import made
from textfuse_jax.data import cascade_sets as S
from textfuse_jax.data.cascade_cut import depth_of, first_minutes, first_posts
from textfuse_jax.data.cascade_layouts import HUNG, read_tree
from textfuse_jax.data.cascade_protocols import load_cascade_corpus
from textfuse_jax.data.cascade_rows import cascade_batches
from textfuse_jax.data.cascades import read_cascades
from textfuse_jax.data.corpus import DataError, DataNotFound
from textfuse_jax.training.cascade_material import hashed_words, prepare


def packed(path, *records):
    """JSON lines, gzipped."""
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in records).encode()))


TREE = {"parent": [-1, 0, 0, 1], "delay_min": [0, 1, 2, 3], "post_idx": [0]}
TD = {"parent": [-1, 0, 1], "bow": ["1:1 2:2 0:1", "2:1 3:1 0:1", "3:1 0:1"], "reply": [-1, 0, -1]}


@pytest.fixture
def twitter(tmp_path):
    full = {"id": "7", "label": "false", "source_text": "big news", "replies": ["@a no way"], "tree": TREE, "td": TD}
    bare = {"id": "8", "label": "non-rumor", "source_text": "hello", "replies": ["hi", "ho"], "tree": TREE}
    packed(tmp_path / "twitter16.jsonl.gz", full, bare)
    words = "index,token\n1,big\n2,news\n3,wow\n"
    (tmp_path / "twitter16_bow_vocab_decoded.csv.gz").write_bytes(gzip.compress(words.encode()))
    return tmp_path


def test_twitter_posts_read_as_source_matched_reply_or_words(twitter):
    found = S.cascade_set("twitter16", twitter)
    assert found.texts == ["big news", "@a no way", "wow", "hello", "hi", "ho"]
    assert found.bags == ["w1 w2 w2", "w2 w3", "w3", "", "", ""]
    np.testing.assert_array_equal(found.parent, [-1, 0, 1, -1, 0, 0])
    assert found.class_names == ("non-rumour", "true", "false", "unverified") and found.labels.tolist() == [2, 0]
    binary = S.cascade_set("twitter16", twitter, "rumour")
    assert binary.class_names == ("non-rumour", "rumour") and binary.labels.tolist() == [1, 0]
    whole = S.cascade_set("twitter16", twitter, tree="all")
    assert whole.texts == ["big news", "", "", "", "hello", "", "", ""] and whole.minutes[3] == 3
    with pytest.raises(DataError, match="posts or all, got 'full'"):
        S.cascade_set("twitter16", twitter, tree="full")


def test_twitter_lines_that_cant_be_used_are_listed(twitter):
    file = twitter / "twitter16.jsonl.gz"
    good = gzip.decompress(file.read_bytes()).decode()
    odd = json.dumps({"id": "9", "label": "perhaps", "source_text": "x"})
    bare = json.dumps({"id": "10", "label": "true"})
    file.write_bytes(gzip.compress(f"{good}{odd}\nno json\n{bare}\n".encode()))
    with pytest.raises(
        DataError, match=r"(?s)3 cascades.*row 3, column 'label': 'perhaps'.*row 4: no JSON.*row 5.*'10'.*source_text"
    ):
        S.cascade_set("twitter16", twitter)
    kept = S.cascade_set("twitter16", twitter, drop_broken=True)
    assert kept.ids == ["7", "8"] and len(kept.bags) == 6 and "3 broken" in kept.warnings[0]
    assert S.cascade_set("twitter16", twitter, tree="all", drop_broken=True).bags is None


def test_twitters_public_folder(tmp_path):
    folder = tmp_path / "twitter15"
    (folder / "tree").mkdir(parents=True)
    (folder / "label.txt").write_text("true:11\nunverified:12\n")
    (folder / "source_tweets.txt").write_text("11\tit rains\n12\tit snows\n")
    (folder / "tree" / "11.txt").write_text(
        "['ROOT', 'ROOT', '0.0']->['u', '11', '0.0']\n['u', '11', '0.0']->['v', '11', '5.5']\n"
        "['v', '11', '5.5']->['w', '13', '2.0']\n['u', '11', '0.0']->['v', '11', '5.5']\n"
    )
    (folder / "tree" / "12.txt").write_text("['ROOT', 'ROOT', '0.0']->['x', '12', '0.0']\n")
    found = S.cascade_set("twitter15", tmp_path)
    assert found.ids == ["11", "12"] and found.texts == ["it rains", "", "", "it snows"]
    np.testing.assert_array_equal(found.parent, [-1, 2, 0, -1])
    np.testing.assert_array_equal(found.minutes, [0, 2, 5.5, 0])
    (folder / "tree" / "12.txt").write_text("nonsense\n")
    (folder / "label.txt").write_text("true:11\nunverified:12\nmaybe:11\n")
    with pytest.raises(DataError, match=r"(?s)2 cascades can't be used.*12.txt, row 1: 'nonsense' is no edge.*row 3.*'maybe'"):
        S.cascade_set("twitter15", tmp_path)
    kept = S.cascade_set("twitter15", tmp_path, drop_broken=True)
    assert kept.ids == ["11"] and "2 broken cascades left out" in kept.warnings[0]
    for broken in ("['x', '12']->['x', '12', '0.0']\n", "['ROOT', 'ROOT', '0.0']->['x', ''12', '0.0']\n"):
        (folder / "tree" / "12.txt").write_text(broken)
        assert "12.txt, row 1" in S.cascade_set("twitter15", tmp_path, drop_broken=True).warnings[0]
    (folder / "tree" / "12.txt").write_bytes(b"['ROOT', 'ROOT', '0.0']->['x', '12', '0.0']\n\xff\n")
    assert "12.txt, row 2: byte 0xff is no UTF-8" in S.cascade_set("twitter15", tmp_path, drop_broken=True).warnings[0]
    (folder / "tree" / "12.txt").write_text("['ROOT', 'ROOT', '0.0']->['x', [1], '0.0']\n['x', [1], '0.0']->[2, '3', '0.0']\n")
    assert S.cascade_set("twitter15", tmp_path, drop_broken=True).ids == ["11", "12"]  # numbers and lists name a node as well
    (folder / "tree" / "12.txt").write_text("['ROOT', 'ROOT', '0.0']->['x', '12', '0.0']\n")
    (folder / "label.txt").write_text("maybe:11\n")
    with pytest.raises(DataError, match=r"label\.txt, row 1, column 'label': 'maybe' is none of"):
        S.cascade_set("twitter15", tmp_path, drop_broken=True)
    (folder / "label.txt").write_text("true:11\nunverified:12\n")
    (folder / "source_tweets.txt").write_text("11\tit rains\n12 it snows\n")
    assert "'12' has no text in source_tweets.txt" in S.cascade_set("twitter15", tmp_path, drop_broken=True).warnings[0]


def tree_file(path, *edges):
    """Edges "a>b" of nodes "name" (at minute 0) or "name5" (at minute 5)."""
    node = lambda name: str([name[0], name[0], name[1:] or "0.0"]) if name != "ROOT" else "['ROOT', 'ROOT', '0.0']"  # noqa: E731
    path.write_text("".join("->".join(node(name) for name in edge.split(">")) + "\n" for edge in edges))


def test_what_is_mended_in_a_tree_file_is_counted_and_told(tmp_path):
    """s <- a <- b; b again under s (a second parent) and a under s again (repeated); b above s; c, without a parent, above d."""
    folder = tmp_path / "twitter15"
    (folder / "tree").mkdir(parents=True)
    (folder / "label.txt").write_text("true:1\ntrue:2\nfalse:3\n")
    (folder / "source_tweets.txt").write_text("1\tone\n2\ttwo\n3\tthree\n")
    whole = "ROOT>s", "s>a1", "a1>b2"
    tree_file(folder / "tree" / "1.txt", *whole, "s>b2", "s>a1", "b2>s", "c3>d4")
    tree_file(folder / "tree" / "2.txt", *whole, "s>b2", "s>c3", "a1>c3")
    tree_file(folder / "tree" / "3.txt", *whole)
    parent, minutes, mended = read_tree(folder / "tree" / "1.txt")
    assert parent == [-1, 0, 1, 0, 3] and minutes == [0, 1, 2, 3, 4]
    assert mended == {"second parents dropped": 1, "edges into the source dropped": 1, HUNG: 1}
    assert not any(read_tree(folder / "tree" / "3.txt")[2].values())
    assert sorted(S.cascade_set("twitter15", tmp_path).warnings) == [
        "mended while reading: 1 edges into the source dropped, in 1 cascades: 1.txt",
        f"mended while reading: 1 {HUNG}, in 1 cascades: 1.txt",
        "mended while reading: 3 second parents dropped, in 2 cascades: 1.txt, 2.txt",
    ]


def test_phemes_public_folder(tmp_path):
    base = tmp_path / "all-rnr-annotated-threads" / "storm-all-rnr-threads"
    tweet = lambda i, to, minute, text: {  # noqa: E731
        "id": i,
        "in_reply_to_status_id": to,
        "created_at": f"Wed Jan 07 11:{minute:02d}:00 +0000 2015",
        "text": text,
    }
    for kind, identity, note in (("rumours", 5, {"misinformation": "1"}), ("non-rumours", 9, {})):
        thread = base / kind / str(identity)
        (thread / "source-tweets").mkdir(parents=True)
        (thread / "reactions").mkdir()
        (thread / "annotation.json").write_text(json.dumps(note))
        (thread / "source-tweets" / f"{identity}.json").write_text(json.dumps(tweet(identity, None, 0, "source")))
    (base / "rumours" / "5" / "reactions" / "6.json").write_text(json.dumps(tweet(6, 7, 30, "late")))
    (base / "rumours" / "5" / "reactions" / "7.json").write_text(json.dumps(tweet(7, 5, 3, "early")))
    found = S.cascade_set("pheme", tmp_path)
    one = found[found.ids.index("5")]
    assert one.texts == ["source", "early", "late"] and one.event == "storm" and found.class_names[one.label] == "rumour"
    np.testing.assert_array_equal(one.parent, [-1, 0, 1])
    np.testing.assert_allclose(one.minutes, [0, 3, 30])
    assert not found.warnings
    (base / "rumours" / "5" / "reactions" / "8.json").write_text(json.dumps(tweet(8, 77, 31, "of a post that is gone")))
    assert "1 posts hung from the source" in S.cascade_set("pheme", tmp_path).warnings[0]
    four = S.cascade_set("pheme", tmp_path, "four")
    assert [four.class_names[k] for k in four.labels] == ["non-rumour", "false"]
    (base / "rumours" / "5" / "annotation.json").write_text('{"misinformation": "maybe"}')
    (base / "non-rumours" / "8").mkdir()
    kept = S.cascade_set("pheme", tmp_path, "four", drop_broken=True)
    assert kept.ids == ["9"] and "2 broken" in kept.warnings[0] and "storm/rumours/5" in kept.warnings[0]


def test_weibos_public_folder(tmp_path):
    (tmp_path / "Weibo").mkdir()
    (tmp_path / "Weibo.txt").write_text("eid:3 label:1 m1 m2\n")
    posts = [{"mid": "m1", "parent": None, "t": 60, "text": "a", "original_text": "source"}]
    posts += [{"mid": "m2", "parent": "m1", "t": 180, "text": ""}, {"mid": "m3", "parent": "m2", "t": 240, "text": "so?"}]
    (tmp_path / "Weibo" / "3.json").write_text(json.dumps(posts))
    found = S.cascade_set("weibo", tmp_path)
    assert found.texts == ["source", "", "so?"] and found.labels.tolist() == [1]
    np.testing.assert_array_equal(found.parent, [-1, 0, 1])
    np.testing.assert_allclose(found.minutes, [0, 2, 3])
    assert not found.warnings
    posts[2]["parent"] = "gone"
    (tmp_path / "Weibo" / "3.json").write_text(json.dumps(posts))
    assert S.cascade_set("weibo", tmp_path).warnings == (f"mended while reading: 1 {HUNG}, in 1 cascades: 3.json",)
    (tmp_path / "Weibo.txt").write_text("eid:3 label:1 m1\neid:4 label:0 m1\neid:5 label:0 m1\n")
    (tmp_path / "Weibo" / "4.json").write_text("{")
    (tmp_path / "Weibo" / "5.json").write_text('[{"mid": "m1"}]')
    kept = S.cascade_set("weibo", tmp_path, drop_broken=True)
    assert kept.ids == ["3"] and "4.json is no whole JSON" in kept.warnings[0] and "5.json is no list" in kept.warnings[0]
    (tmp_path / "Weibo" / "4.json").write_bytes(b'[{"mid": "\xff"}]')
    assert "4.json is no whole JSON" in S.cascade_set("weibo", tmp_path, drop_broken=True).warnings[0]


def test_a_set_that_is_not_there_says_what_would_do(tmp_path):
    for name in S.FILES:
        with pytest.raises(DataNotFound, match=S.FILES[name]):
            S.cascade_set(name, tmp_path)


def test_your_own_cascades_and_their_broken_trees(tmp_path):
    good = {"id": 1, "label": "x", "texts": ["a", "b"], "parent": [-1, 0], "time": [0, 2]}
    path = tmp_path / "own.jsonl"
    circle = good | {"id": 2, "texts": ["a", "b", "c"], "parent": [-1, 2, 1], "time": [0, 1, 2]}
    path.write_text(
        "".join(json.dumps(r) + "\n" for r in (good, good | {"id": 3, "label": "y"}, circle, good | {"id": 4, "texts": []}))
    )
    with pytest.raises(DataError, match=r"(?s)2 cascades.*row 3, column 'parent'.*circle.*row 4, column 'texts'"):
        read_cascades(path, "label")
    found = read_cascades(path, "label", drop_broken=True)
    assert found.ids == ["1", "3"] and found.class_names == ("x", "y") and found.minutes.tolist() == [0, 2, 0, 2]


def test_cut_by_posts_keeps_the_first_and_hangs_replies_from_the_nearest_kept():
    cascades = made([5, 1])
    cascades.parent[:5], cascades.minutes[:5] = [-1, 0, 1, 2, 0], [0, 50, 2, 3, 4]
    cut = first_posts(cascades, 4)  # post 1 goes
    np.testing.assert_array_equal(cut.parent, [-1, 0, 1, 0, -1])
    np.testing.assert_array_equal(cut.post, [0, 2, 3, 4, 5])
    assert cut.posts == 6 and cut.texts[1] == "post 2"
    early = first_minutes(cascades, 3)
    np.testing.assert_array_equal(early.minutes, [0, 2, 3, 0])
    np.testing.assert_array_equal(depth_of(cascades), [0, 1, 2, 3, 1, 0])
    cascades.minutes[4] = np.nan
    assert first_posts(cascades, 4).sizes.tolist() == [4, 1]  # unknown counts as latest
    with pytest.raises(DataError, match="cascade '0' has posts whose time isn't known"):
        first_minutes(cascades, 3)


@pytest.mark.parametrize("n", [1, 2, 30_000])
def test_sizes_from_1_to_30000(n):
    cascades = made([n])
    cut = first_posts(cascades, 1000)
    assert cut.sizes[0] == min(n, 1000) and cut.parent[0] == -1 and (cut.parent[1:] < cut.sizes[0]).all()


def test_the_real_sets(real_data):
    for name, count, posts in (("twitter15", 1490, 41_193), ("twitter16", 818, 18_618), ("weibo", 4511, 173_079)):
        if not (real_data / S.FILES[name]).is_file():
            pytest.skip(f"{S.FILES[name]} is not in {real_data}: real-data test not run")
        found = S.cascade_set(name, real_data)
        assert len(found) == count and len(found.texts) == posts


def test_what_is_read_of_cut_cascades_is_that_of_their_own_posts():
    config = rumor_pheme.get_config("docstrings,scratch")
    config.cascades.first_posts = 2
    material = prepare(config, load_cascade_corpus(config, 0), lambda line: None)
    cascades = material.corpus.cascades
    assert cascades.sizes.max() == 2 and cascades.posts == len(cascades.texts) == len(material.posts["words"])
    for i in range(0, len(cascades), 97):
        rows = cascade_batches(cascades.take([i]), None).batch(0)
        found = material.posts["words"][rows.post[rows.document == 0]]
        np.testing.assert_array_equal(found, hashed_words(cascades[i].texts, config.cascades.most_words))

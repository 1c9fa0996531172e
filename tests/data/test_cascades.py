"""Reading cascades: what is kept, and what is refused with file, row, column, value and fix."""

import gzip
import json

import numpy as np
import pytest

from textfuse_jax.data import cascade_sets as S
from textfuse_jax.data import cascades as C
from textfuse_jax.data.corpus import DataError, DataNotFound

CLASSES = {"0": "calm", "1": "loud"}
TREE = {
    "id": "a",
    "event": "rain",
    "loud": 1,
    "texts": ["it rains", "no", "yes", "why no?"],
    "parent": [-1, 0, 0, 1],
    "delay_min": [0, 1.5, None, 4],
}
LONE = {"id": "b", "event": "sun", "loud": 0, "texts": ["the sun"], "parent": [-1], "delay_min": [0]}


def written(folder, *records, name="posts.jsonl"):
    """A file of these records."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_what_was_written_is_read(tmp_path):
    found = C.read_cascades(written(tmp_path, TREE, LONE, name="posts.jsonl.gz"), "loud", CLASSES)
    assert found.ids == ["a", "b"] and found.events == ["rain", "sun"] and found.class_names == ("calm", "loud")
    assert found.texts == TREE["texts"] + LONE["texts"]
    np.testing.assert_array_equal(found.labels, [1, 0])
    np.testing.assert_array_equal(found.bounds, [0, 4, 5])
    np.testing.assert_array_equal(found.sizes, [4, 1])
    np.testing.assert_array_equal(found.parent, [-1, 0, 0, 1, -1])
    np.testing.assert_array_equal(found.minutes, [0, 1.5, np.nan, 4, 0])


def test_one_cascade_and_a_part_of_them(tmp_path):
    found = C.read_cascades(written(tmp_path, TREE, LONE), "loud", CLASSES)
    one = found[-2]
    assert (one.id, one.label, one.event, one.texts) == ("a", 1, "rain", TREE["texts"])
    np.testing.assert_array_equal(one.parent, TREE["parent"])
    turned = found.take([1, 0])
    assert turned.ids == ["b", "a"] and turned[1].texts == TREE["texts"]
    np.testing.assert_array_equal(turned.parent, [-1, -1, 0, 0, 1])
    np.testing.assert_array_equal(found.posts_of([1, 0]), [4, 0, 1, 2, 3])
    with pytest.raises(IndexError):
        found[2]


def test_time_and_event_need_not_be_known_and_a_reply_may_stand_before_its_post(tmp_path):
    bare = {"id": 7, "loud": "1", "texts": ["a", "b", "c"], "parent": [-1, 2, 0]}
    found = C.read_cascades(written(tmp_path, bare), "loud", CLASSES)
    assert found.ids == ["7"] and found.events == [""] and np.isnan(found.minutes).all()
    np.testing.assert_array_equal(found.parent, [-1, 2, 0])


def test_a_value_without_class_leaves_the_cascade_out(tmp_path):
    found = C.read_cascades(written(tmp_path, TREE, LONE), "loud", {"0": None, "1": "loud"})
    assert found.ids == ["a"] and found.class_names == ("loud",)
    with pytest.raises(DataError, match="no cascade of loud"):
        C.read_cascades(written(tmp_path, LONE), "loud", {"0": None, "1": "loud"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loud": 2}, r"row 2, column 'loud': '2' is none of '0', '1'; correct"),
        ({"id": "a"}, r"row 2, column 'id': 'a' is that of row 1 too"),
        ({"texts": []}, r"row 2, column 'texts': a list of at least one text is needed, got \[\]"),
        ({"texts": "one"}, r"row 2, column 'texts': a list of at least one text is needed, got 'one'"),
        ({"texts": ["a", " ", "c", "d"]}, r"row 2, column 'texts': post 1 is ' ', without text; write it, or remove"),
        ({"parent": [-1, 0, 0]}, r"row 2, column 'parent': one index for each of the 4 posts is needed, got 3 entries"),
        (
            {"parent": [-1, 0, 0, 9]},
            r"row 2, column 'parent': post 3 has 9, but the posts are 0 to 3; .* hangs from the source: 0",
        ),
        ({"parent": [-1, 0, -1, 0]}, r"row 2, column 'parent': post 2 has -1; the source, post 0, has -1 and no other"),
        ({"parent": [0, 0, 0, 0]}, r"row 2, column 'parent': post 0 has 0; the source"),
        ({"parent": [-1, 0, 3, 2]}, r"row 2, column 'parent': post 2 has 3, and the way up from there is a circle"),
        ({"parent": [-1, 1, 0, 0]}, r"row 2, column 'parent': post 1 has 1, and the way up from there is a circle"),
        ({"parent": [-1, 0, None, 0]}, r"row 2, column 'parent': post 2 has None; a whole number is needed"),
        (
            {"delay_min": [0, 1]},
            r"row 2, column 'delay_min': one number or null for each of the 4 posts is needed, got 2 entries",
        ),
        ({"delay_min": [0, 1, float("inf"), 2]}, r"row 2, column 'delay_min': post 2 has inf; a finite number .* null where"),
        ({"delay_min": [0, 1, float("nan"), 2]}, r"row 2, column 'delay_min': post 2 has nan; a finite number"),
        ({"delay_min": [0, 1, 1e39, 2]}, r"row 2, column 'delay_min': post 2 has 1e\+39; a finite number"),  # not in float32
        ({"delay_min": [0, 1, 10**400, 2]}, r"row 2, column 'delay_min': post 2 has 10*; a finite number"),
        (
            {"delay_min": [1420629600, 1420629660, None, 1420629720]},
            r"row 2, column 'delay_min': post 0, the source, has 1420629600, but times count .*; subtract the source's time",
        ),
        ({"delay_min": [-0.5, 0, 1, 2]}, r"row 2, column 'delay_min': post 0, the source, has -0.5"),
        ({"delay_min": [0, 1, "x", 2]}, r"row 2, column 'delay_min': post 2 has 'x'; a finite number of minutes"),
    ],
)
def test_errors_name_file_row_column_value_and_fix(change, message, tmp_path):
    with pytest.raises(DataError, match=r"posts.jsonl, " + message):
        C.read_cascades(written(tmp_path, TREE, TREE | {"id": "c"} | change), "loud", CLASSES)


def test_times_count_from_the_source_and_a_fault_names_their_column(tmp_path):
    """Seconds since 1970 as ``time``, the sources' own subtracted, or unknown."""
    clock = {k: v for k, v in TREE.items() if k != "delay_min"}
    with pytest.raises(DataError, match=r"row 1, column 'time': post 0, the source, has 1420629600"):
        C.read_cascades(written(tmp_path, clock | {"time": [1420629600, 1420629660, 1420629690, 1420629720]}), "loud", CLASSES)
    for first in (0, 0.0, None):
        found = C.read_cascades(written(tmp_path, clock | {"time": [first, 1, -1, 2]}), "loud", CLASSES)
        np.testing.assert_array_equal(found.minutes, [np.nan if first is None else 0, 1, -1, 2])


def test_all_that_were_left_out_are_listed_and_an_error_lists_the_first(tmp_path):
    path = written(tmp_path, *(TREE | {"id": i, "texts": []} for i in range(30)), LONE)
    with pytest.raises(
        DataError, match=r"(?s)30 cascades can't be used:.*row 20.*and 10 more; cascades\.drop_broken lists them"
    ) as told:
        C.read_cascades(path, "loud", CLASSES)
    assert "row 21" not in str(told.value)
    (warning,) = C.read_cascades(path, "loud", CLASSES, drop_broken=True).warnings
    assert warning.startswith("30 broken cascades left out:") and warning.count("\n") == 30 and "row 30," in warning


def test_lines_that_are_no_cascade_are_listed_and_can_be_left_out(tmp_path):
    path = tmp_path / "posts.jsonl"
    lines = [json.dumps(TREE), "{nonsense", "[1]", json.dumps({"id": "x", "loud": 1}), json.dumps(LONE | {"loud": None})]
    path.write_bytes(
        "\n".join([*lines, json.dumps(LONE)]).encode() + b"\n" + json.dumps(LONE | {"id": "\u00e9"}).encode("latin-1")
    )
    expected = (
        r"(?s)4 cascades can't be used:.*row 2: no JSON.*row 3: a JSON object.*row 4, column 'texts': missing.*row 5.*None is no"
    )
    with pytest.raises(DataError, match=expected):
        C.read_cascades(path, "loud", CLASSES)
    found = C.read_cascades(path, "loud", drop_broken=True)
    assert found.ids == ["a", "b", "\u00e9"] and found.class_names == ("0", "1") and "row 2: no JSON" in found.warnings[0]
    path.write_bytes(json.dumps(TREE).encode() + b'\n{"id": "\xe9"}\n')
    with pytest.raises(DataError, match=r"posts.jsonl, row 2: a byte that isn't UTF-8"):
        C.read_cascades(path, "loud", CLASSES)
    with pytest.raises(DataError, match=r"no column 'lowd'; did you mean 'loud'"):
        C.read_cascades(written(tmp_path, TREE), "lowd")


def test_times_may_come_later_in_the_file_and_words_apart_from_texts(tmp_path):
    bare = {"id": "z", "loud": 0, "texts": ["a"], "parent": [-1]}
    found = C.read_cascades(written(tmp_path, bare, TREE), "loud", CLASSES)
    np.testing.assert_array_equal(found.minutes, [np.nan, 0, 1.5, np.nan, 4])
    bags = TREE | {"bags": ["w1 w2", "", "w3", "w1"]}
    assert C.read_cascades(written(tmp_path, bags), "loud", CLASSES).bags == bags["bags"]
    with pytest.raises(DataError, match=r"(?s)row 1, column 'bags': missing.*row 2, column 'bags': the words of each of the 4"):
        C.read_cascades(written(tmp_path, bare, bags | {"bags": ["w1"]}), "loud", CLASSES)
    blank = C.read_cascades(written(tmp_path, TREE | {"texts": ["a", "", "", ""]}), None, blank=True)
    assert blank.texts == ["a", "", "", ""] and blank.class_names == ("",)


def test_pheme_that_is_not_there_and_a_task_that_is_not_one(tmp_path, monkeypatch):
    monkeypatch.delenv("TEXTFUSE_DATA", raising=False)
    with pytest.raises(DataNotFound, match=r"TEXTFUSE_DATA, which is not set. Set TEXTFUSE_DATA .* pheme.jsonl.gz"):
        S.pheme()
    with pytest.raises(DataNotFound, match=r"pheme.jsonl.gz and all-rnr-annotated-threads/.* in "):
        S.pheme(tmp_path)
    with pytest.raises(DataError, match="one of rumour, veracity, four, got 'stance'"):
        S.pheme(tmp_path, "stance")


def test_tasks_of_pheme(tmp_path):
    values = [(0, ""), (1, "true"), (1, "false"), (1, "unverified")]
    records = [LONE | {"id": i, "rumour": rumour, "veracity": v} for i, (rumour, v) in enumerate(values)]
    written(tmp_path, *records, name="pheme.jsonl.gz")
    np.testing.assert_array_equal(S.pheme(tmp_path).labels, [0, 1, 1, 1])
    veracity = S.pheme(tmp_path, "veracity")
    assert veracity.ids == ["1", "2", "3"] and veracity.class_names == ("true", "false", "unverified")
    np.testing.assert_array_equal(S.pheme(tmp_path, "four").labels, [0, 1, 2, 3])


def test_the_real_pheme(real_data):
    if not (real_data / S.PHEME).is_file():
        pytest.skip(f"{S.PHEME} is not in {real_data}: real-data test not run")
    found = S.pheme(real_data)
    assert len(found) == 6425 and len(found.texts) == 104_582
    np.testing.assert_array_equal(np.bincount(found.labels), [4023, 2402])
    assert len(set(found.events)) == 9 and (found.sizes == 1).sum() == 677
    np.testing.assert_array_equal(np.bincount(S.pheme(real_data, "veracity").labels), [1067, 638, 697])

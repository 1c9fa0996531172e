"""The report holds every number of its record, and nothing that a text could break."""

import io

import numpy as np
import pytest
from rich.console import Console

from textfuse_jax.evaluation import report as r

RESULT = {
    "config": "agnews_pyramid",
    "seed": 3,
    "commit": "c0ffee",
    "fingerprint": "f1n6e7",
    "hardware": "2 x Test Device",
    "test": {
        "n": 7600,
        "accuracy": 0.9311,
        "precision_macro": 0.9312,
        "recall_macro": 0.9313,
        "f1_macro": 0.9314,
        "auc_ovr": 0.9815,
        "nll": 0.2116,
        "ece": 0.0317,
        "brier": 0.1118,
        "ci95": {"accuracy": [0.9201, 0.9402]},
        "per_class": {"Sci|Tech": {"precision": 0.8111, "recall": 0.8222, "f1": 0.8333, "support": 1900}},
    },
    "validation": {"n": 800, "accuracy": 0.9419},
    "reference": {"tfidf_logreg": {"accuracy": 0.8820, "f1_macro": 0.8821}},
    "comparison": {
        "mcnemar_p_vs_tfidf_logreg": 3.2e-9,
        "accuracy_difference": 0.0491,
        "accuracy_difference_ci95": [0.0401, 0.0587],
    },
    "training": {
        "documents": 16000,
        "steps": 512,
        "epochs": 2,
        "seconds": 321.5,
        "documents_per_second": 49.8,
        "compilations": 5,
        "padding_waste": 0.0512,
        "best_step": 448,
    },
    "published": {"accuracy": 0.913, "source": "arXiv 2511.05752"},
    "data": {"name": "ag_news", "train": 7200, "classes": ["World", "Sports"]},
    "calibration": {"temperature": 1.254, "test_ece_after": 0.0123},
}
NUMBERS = [
    *["0.9311 [0.9201, 0.9402]", "0.9312", "0.9313", "0.9314", "0.9815", "0.2116", "0.0317", "0.1118"],
    *["0.8820", "0.8821", "3.2e-09", "+4.91", "+4.01", "+5.87", "0.9130", "2511.05752", "0.0123", "T = 1.25"],
]
ELSEWHERE = ["0.8111", "0.8222", "0.8333", "1,900", "0.9419"]  # per class and validation: not on the console
SPENT = ["16,000", "512", "321.5", "49.8", "0.0512", "448"]
MISTAKE = {"id": "d-1", "text": "a | b\n<b>*x*</b> [l](u)", "label": "World", "predicted": "Sports", "probability": 0.9987}


def _write(folder, **changes):
    arguments = {
        "result": RESULT,
        "config": {"model": {"alpha": 0.5}, "seed": 3},
        "environment": {"python": "3.12.1", "packages": {"jax": "0.11.0", "absent": None}, "git": {"dirty": True}},
        "figures": {"Learning curve": folder / "figures" / "learning curve.png"},
        "warnings": ["train row 12, column text: empty"],
        "mistakes": [
            {"id": "d-1", "text": "a | b\n<b>*x*</b> [l](u)", "label": "World", "predicted": "Sports", "probability": 0.9987}
        ],
    }
    return r.write_report(folder, **(arguments | changes)).read_text(encoding="utf-8")


def test_report_holds_every_number(tmp_path):
    text = _write(tmp_path)
    for expected in [
        *NUMBERS,
        *ELSEWHERE,
        *SPENT,
        "f1n6e7",
        "7,200",
        "World, Sports",
        "c0ffee with uncommitted changes",
        "2 x Test Device",
        "jax 0.11.0",
    ]:
        assert expected in text, expected
    for expected in ("![Learning curve](<figures/learning curve.png>)", "model.alpha = 0.5", "train row 12, column text: empty"):
        assert expected in text, expected
    assert "absent" not in text


def test_headline_row_sets_the_models_side_by_side(tmp_path):
    assert "| accuracy | 0.9311 [0.9201, 0.9402] | 0.8820 | 0.9130 |" in _write(tmp_path).splitlines()
    assert "| AUC, one vs rest | 0.9815 | – | – |" in _write(tmp_path).splitlines()


def test_texts_cannot_break_the_tables(tmp_path):
    row = next(line for line in _write(tmp_path).splitlines() if line.startswith("| d-1"))
    assert row == r"| d-1 | a \| b &lt;b>\*x\*&lt;/b> [l\](u) | World | Sports | 0.9987 |"


def test_least_result_makes_a_report(tmp_path):
    least = {
        "config": "c",
        "seed": 0,
        "fingerprint": "f",
        "test": {"n": 1, "accuracy": 1.0, "auc_ovr": None, "auc_ovr_reason": "why"},
    }
    text = _write(tmp_path, result=least, config={}, environment={}, figures={}, warnings=[], mistakes=[])
    assert "| AUC, one vs rest | – |" in text and "AUC: why." in text and "not a checkout" in text and "- none" in text


def test_the_published_protocol_is_not_told_as_a_clean_one(tmp_path):
    assert "read once, after selection on validation" in _write(tmp_path)
    told = _write(tmp_path, result=RESULT | {"training": {"chosen_on": "test"}})
    assert "which also chose the epoch" in told and "read once" not in told


def test_a_fusion_says_whose_texts_it_had(tmp_path):
    assert "Posts selected" not in _write(tmp_path)
    facts = {"selection": {"rule": "dbscan", "selected": 31534}}
    facts["augmentation"] = {"source": "llm compatible/m, template expand/1", "missing": {"budget": 1200}}
    told = _write(tmp_path, result=RESULT | {"training": facts})
    assert (
        "Posts selected (dbscan): 31,534, rewritten by: llm compatible/m, template expand/1, budget 1,200 without a text." in told
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (3, "3"),
        (12345, "12,345"),
        (1234.5, "1,234"),
        (0.12345, "0.1235"),
        (2e-7, "2.0e-07"),
        (0.0, "0.0000"),
        ("x", "x"),
    ],
)
def test_numbers_read_well(value, shown):
    assert r.number(value) == shown


def test_confident_mistakes_come_surest_first():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    got = r.confident_mistakes(
        ["a", "b", "c", "d"], ["ta", "tb", "tc", "td"], np.array([1, 1, 1, 0]), probabilities, ["no", "yes"]
    )
    assert [m["id"] for m in got] == ["b", "a"]
    assert got[0] == {"id": "b", "text": "tb", "label": "yes", "predicted": "no", "probability": 0.9}


def test_console_table_holds_every_number_in_eighty_columns():
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    r.console_table(RESULT, console)
    text = console.file.getvalue()
    for expected in [*NUMBERS, *SPENT, "agnews_pyramid, seed 3, 7,600 test documents"]:
        assert expected in text, expected

"""The numbers a run is judged by, computed once from labels and probabilities with scikit-learn as the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn import metrics as sk

from textfuse_jax.evaluation.calibration import expected_calibration_error

ROW_SUM_TOLERANCE = 1e-3  # bfloat16 logits give float32 softmax rows that sum to 1 within 1e-6; more is a bug, not rounding


def check_predictions(
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"], probabilities: Float[np.ndarray, "n c"], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and float64 probabilities that fit together; labels of one dimension are classes, of two multi-hot.

    Raises:
      ValueError: no documents, a wrong shape, a label outside the classes, or a probability that isn't finite, isn't in
        [0, 1] or (multi-class) doesn't sum to 1 over its row; row and value are named.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    n = len(labels) if labels.ndim else 0
    if n == 0:
        raise ValueError("labels are empty: there is no document to evaluate; is the split empty?")
    if probabilities.shape != (n, classes):
        raise ValueError(f"probabilities must have shape ({n}, {classes}), documents x classes, got {probabilities.shape}")
    if labels.shape not in ((n,), (n, classes)):
        raise ValueError(f"labels must have shape ({n},) or, multi-hot, ({n}, {classes}), got {labels.shape}")
    if not np.isfinite(probabilities).all():
        row, column = np.argwhere(~np.isfinite(probabilities))[0]
        raise ValueError(
            f"probabilities row {row}, class {column} is {probabilities[row, column]}; "
            "the model diverged: look at the loss in metrics.jsonl, lower the learning rate"
        )
    outside = (probabilities < 0) | (probabilities > 1 + ROW_SUM_TOLERANCE)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise ValueError(
            f"probabilities row {row}, class {column} is {probabilities[row, column]:.6g}, outside [0, 1]; "
            "are these logits? pass them through softmax or sigmoid"
        )
    if labels.ndim == 2:
        if not np.isin(labels, (0, 1)).all():
            row, column = np.argwhere(~np.isin(labels, (0, 1)))[0]
            raise ValueError(f"labels row {row}, class {column} is {labels[row, column]}; multi-hot labels are 0 or 1")
        return labels.astype(np.int64), probabilities
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels of one dimension must be integers (classes), got {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        row = int(np.argmax((labels < 0) | (labels >= classes)))
        raise ValueError(f"labels row {row} is {labels[row]}, outside the {classes} classes 0..{classes - 1}")
    off = np.abs(probabilities.sum(1) - 1)
    if off.max() > ROW_SUM_TOLERANCE:
        row = int(off.argmax())
        raise ValueError(
            f"probabilities row {row} sums to {probabilities[row].sum():.6g}, not 1; "
            "use softmax, or multi-hot labels if a document can have several"
        )
    return labels.astype(np.int64), probabilities


def decide(probabilities: Float[np.ndarray, "n c"], thresholds: float | Sequence[float] | None) -> Bool[np.ndarray, "n c"]:
    """Predicted classes as one row of booleans a document: the most probable class, or with thresholds every label at or
    above its own. The first class wins a tie."""
    if thresholds is not None:
        return probabilities >= np.asarray(thresholds, np.float64)
    return np.arange(probabilities.shape[1]) == probabilities.argmax(1)[:, None]


def negative_log_likelihood(truth: Bool[np.ndarray, "n c"], probabilities: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n"]:
    """-log p of the true class for each document, p clipped to float64's epsilon so that one sure mistake costs 36, not inf."""
    tiny = np.finfo(np.float64).eps
    return -np.log(np.clip((truth * probabilities).sum(1), tiny, 1.0))


def binary_log_loss(truth: Bool[np.ndarray, "n c"], probabilities: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n"]:
    """Mean binary cross-entropy over the labels of each document, clipped like ``negative_log_likelihood``."""
    tiny = np.finfo(np.float64).eps
    return -np.log(np.clip(np.where(truth, probabilities, 1 - probabilities), tiny, 1.0)).mean(1)


def selection_metrics(
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"], probabilities: Float[np.ndarray, "n c"]
) -> dict[str, float]:
    """``n``, ``accuracy``, ``f1_macro`` and ``nll`` as ``classification_metrics`` has them, fifty times faster.

    For the choices of a sweep, which need them of every trial at every evaluation; nothing is checked.
    """
    if labels.ndim == 2:
        truth, predicted = labels.astype(bool), decide(probabilities, 0.5)
        loss = binary_log_loss(truth, probabilities)
    else:
        truth, predicted = np.arange(probabilities.shape[1]) == labels[:, None], decide(probabilities, None)
        loss = negative_log_likelihood(truth, probabilities)
    f1 = 2 * (truth & predicted).sum(0) / np.maximum(truth.sum(0) + predicted.sum(0), 1)
    found = {"accuracy": (truth == predicted).all(1).mean(), "f1_macro": f1.mean(), "nll": loss.mean()}
    return {"n": len(labels)} | {name: float(value) for name, value in found.items()}


def macro_auc(
    truth: Bool[np.ndarray, "n c"], probabilities: Float[np.ndarray, "n c"], class_names: Sequence[str]
) -> tuple[float | None, str | None]:
    """Unweighted mean over classes of the area under the ROC curve of class against rest, and why there is none.

    It is undefined as soon as one class has no document, or every document: then (None, reason).
    """
    share = truth.mean(0)
    undefined = [name for name, s in zip(class_names, share) if s in (0.0, 1.0)]
    if undefined:
        return None, f"undefined: none or all of the {len(truth)} documents are of class {', '.join(map(repr, undefined))}"
    return float(np.mean([sk.roc_auc_score(truth[:, k], probabilities[:, k]) for k in range(truth.shape[1])])), None


def classification_metrics(
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"],
    probabilities: Float[np.ndarray, "n c"],
    class_names: Sequence[str],
    thresholds: float | Sequence[float] = 0.5,
) -> dict[str, Any]:
    """Every metric of one split, as plain Python numbers ready for JSON.

    Multi-class (labels ``[n]``): the prediction is the most probable class. ``nll`` is the mean of -log p(true class);
    ``brier`` is mean_i sum_k (p_ik - y_ik)^2, from 0 to 2 (Brier 1950); ``ece`` bins the probability of the predicted class
    (Guo et al. 2017, 15 bins); ``confusion[i][j]`` counts documents of class i predicted as j.

    Multi-label (labels ``[n, c]``): a label is predicted at or above its threshold. ``accuracy`` is the share of documents
    with every label right; ``nll`` and ``brier`` are means over all (document, label) pairs; ``ece`` bins the probability of
    each pair against its occurrence; ``confusion[k]`` is ``[[tn, fp], [fn, tp]]`` of label k; ``f1_micro`` is added.

    Macro averages run over all ``class_names``; precision, recall or F1 without any case to divide by is 0.

    Args:
      labels: class of each document, or multi-hot labels.
      probabilities: of each class; rows sum to 1 in the multi-class case.
      class_names: distinct names, in the order of the columns.
      thresholds: multi-label only, one for all labels or one each.

    Returns:
      n, accuracy, precision_macro, recall_macro, f1_macro, (f1_micro,) auc_ovr, nll, ece, brier, per_class, confusion; and
      ``auc_ovr_reason`` where auc_ovr is None because a class is absent.

    Raises:
      ValueError: see ``check_predictions``; class names that repeat; as many thresholds as there aren't labels.
    """
    names = [str(name) for name in class_names]
    if len(set(names)) != len(names):
        raise ValueError(f"class_names must be distinct, got {names}")
    labels, probabilities = check_predictions(labels, probabilities, len(names))
    multi_label = labels.ndim == 2
    if multi_label and np.ndim(thresholds) and len(thresholds) != len(names):
        raise ValueError(f"thresholds must be one number or {len(names)}, one a label, got {len(thresholds)}")
    truth = labels.astype(bool) if multi_label else np.arange(len(names)) == labels[:, None]
    predicted = decide(probabilities, thresholds if multi_label else None)

    each = sk.precision_recall_fscore_support(truth, predicted, average=None, zero_division=0)
    auc, reason = macro_auc(truth, probabilities, names)
    if multi_label:
        calibration = expected_calibration_error(probabilities.ravel(), truth.ravel())
        confusion, loss, brier = sk.multilabel_confusion_matrix(truth, predicted), binary_log_loss(truth, probabilities), 1
    else:
        calibration = expected_calibration_error(probabilities.max(1), (truth & predicted).any(1))
        confusion = sk.confusion_matrix(labels, predicted.argmax(1), labels=range(len(names)))
        loss, brier = negative_log_likelihood(truth, probabilities), len(names)
    result: dict[str, Any] = {
        "n": len(labels),
        "accuracy": float((truth == predicted).all(1).mean()),
        "precision_macro": float(each[0].mean()),
        "recall_macro": float(each[1].mean()),
        "f1_macro": float(each[2].mean()),
        "auc_ovr": auc,
        "nll": float(loss.mean()),
        "ece": calibration,
        "brier": float(((probabilities - truth) ** 2).mean() * brier),
        "per_class": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
            for name, p, r, f, s in zip(names, *each)
        },
        "confusion": confusion.tolist(),
    }
    if reason:
        result["auc_ovr_reason"] = reason
    if multi_label:
        result["f1_micro"] = float(sk.f1_score(truth, predicted, average="micro", zero_division=0))
    return result

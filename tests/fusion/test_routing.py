"""Which documents are worth a call: the gain learned beats random routing, shares are exact, the curve's ends are known."""

import numpy as np
import pytest

from textfuse_jax.fusion.routing import Router, belief, curve, fit_router, quality, top, uncertainty


def material(n, seed):
    """An encoder that is unsure of classes 0 and 1; the LLM knows class 0 from the rest, and of 1 and 2 nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    z = rng.normal(size=(n, 3)) + 2.0 * np.eye(3)[labels]
    before = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    after = before.copy()
    zero = labels == 0
    after[zero] = [0.98, 0.01, 0.01]
    after[~zero, 0] *= 0.02
    return labels, before, after / after.sum(1, keepdims=True)


def test_the_documents_worth_most_first_and_as_many_as_asked():
    np.testing.assert_array_equal(top(np.array([0.1, 0.9, 0.5, 0.9]), 0.5), [False, True, False, True])
    assert top(np.arange(10.0), 0.0).sum() == 0 and top(np.arange(10.0), 1.0).all() and top(np.arange(10.0), 0.3).sum() == 3


def test_belief_quality_uncertainty_by_hand():
    p = np.array([[0.7, 0.3], [0.4, 0.6]])
    np.testing.assert_allclose(belief(np.array([0, 0]), p), [0.7, 0.4])
    np.testing.assert_allclose(belief(np.array([[1, 0], [1, 1]]), p), [(0.7 + 0.7) / 2, (0.4 + 0.6) / 2])
    np.testing.assert_allclose(uncertainty(p, False), [0.3, 0.4])
    np.testing.assert_allclose(uncertainty(p, True), [0.6, 0.8])
    said = np.array([[True, False], [False, False], [False, False]])
    np.testing.assert_allclose(quality(np.array([[1, 1], [1, 0], [0, 0]]), said), [2 / 3, 0, 1])
    np.testing.assert_allclose(quality(np.array([0, 1]), said[:2]), [1, 0])


def test_what_the_llm_is_good_at_is_learned():
    labels, before, after = material(4000, 0)
    router = fit_router(labels, before, after)
    labels, before, after = material(8000, 1)
    ours, blind = (quality(labels, p == p.max(1, keepdims=True)) for p in (after, before))
    rows = curve(
        blind,
        ours,
        {"expected_gain": router.expected_gain(before), "max_confidence": uncertainty(before, False)},
        (0.0, 0.2, 1.0),
    )
    start, fifth, full = rows
    assert start["expected_gain"]["value"] == start["random"]["value"] == blind.mean()
    assert full["expected_gain"]["value"] == pytest.approx(ours.mean()) and full["expected_gain"]["gain_share"] == pytest.approx(
        1
    )
    assert fifth["random"]["gain_share"] == pytest.approx(0.2)
    assert fifth["expected_gain"]["gain_share"] > fifth["max_confidence"]["gain_share"] + 0.02
    assert fifth["expected_gain"]["over_random_ci95"][0] > 0
    low, high = fifth["expected_gain"]["ci95"]
    assert low < fifth["expected_gain"]["value"] < high


def test_as_text_and_back():
    labels, before, after = material(500, 0)
    router = fit_router(labels, before, after)
    again = Router.from_json(router.to_json())
    np.testing.assert_allclose(again.expected_gain(before), router.expected_gain(before))
    assert len(again.order(before, 0.1)) == 50 and len(again.order(before, 1.0)) == 500 and not len(again.order(before, 0.0))


def test_several_labels():
    rng = np.random.default_rng(0)
    labels = (rng.random((800, 4)) < 0.3).astype(float)
    before = np.clip(0.35 + 0.3 * (labels - 0.5) + 0.2 * rng.normal(size=labels.shape), 0.01, 0.99)
    after = np.clip(before + 0.4 * (labels - 0.5), 0.01, 0.99)
    router = fit_router(labels, before, after)
    assert router.multi_label and router.expected_gain(before).shape == (800,)


def test_whether_a_document_is_worth_a_call_is_said_of_it_alone():
    labels, before, _ = material(1000, 0)
    router = fit_router(labels, before, material(1000, 0)[2])
    _, new, _ = material(4000, 5)
    together = router.order(new, 0.2)
    assert 0.15 < len(together) / 4000 < 0.25
    assert {i for i in range(200) if len(router.order(new[i : i + 1], 0.2))} == {int(i) for i in together if i < 200}
    gain = router.expected_gain(new)[together]
    assert (gain[:-1] >= gain[1:]).all()  # those worth most first


def test_the_gain_is_learned_from_documents_with_an_answer_and_its_share_is_of_all():
    labels, before, after = material(4000, 0)
    answered = np.arange(4000) % 4 == 0
    some = fit_router(labels, before, np.where(answered[:, None], after, before), answered)
    alone = fit_router(labels[answered], before[answered], after[answered])
    np.testing.assert_allclose(some.weight, alone.weight)
    assert len(some.order(before, 0.3)) == 1200


def test_several_labels_without_anything_to_learn_are_asked_by_uncertainty():
    rng = np.random.default_rng(1)
    labels = (rng.random((300, 4)) < 0.3).astype(float)
    before = np.clip(0.3 + 0.2 * rng.normal(size=labels.shape), 0.01, 0.99)
    after = np.clip(before + 0.2 * rng.normal(size=labels.shape), 0.01, 0.99)  # no better anywhere
    found = [fit_router(labels[i:], before[i:], after[i:]) for i in range(0, 60, 10)]
    assert any(np.array_equal(router.weight, np.eye(len(router.weight))[0]) for router in found)


def test_where_there_is_no_gain_no_share_of_it_is_told():
    same = np.ones(50)
    assert curve(same, same, {}, (0.5,), 100)[0]["random"]["gain_share"] is None

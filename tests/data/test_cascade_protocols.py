"""Folds of cascades: groups whole, classes in proportion, who is trained, chosen and tested on; events; time."""

import dataclasses

import numpy as np
import pytest

from configs import rumor_pheme
from tests.data.test_cascade_rows import made
from textfuse_jax.data import cascade_protocols as P
from textfuse_jax.data.corpus import TEST, TRAIN, VALIDATION, DataError


def cascades_of(n=200, copies=20):
    """Cascades of one to four posts, some with the source text of another; ids that are numbers."""
    found = made(np.random.default_rng(0).integers(1, 5, n))
    for i in range(copies):
        found.texts[found.sources[n - 1 - i]] = found.texts[found.sources[i]].upper() + "!"
    return dataclasses.replace(found, ids=[str(1000 + 7 * i % 199 * 5) for i in range(n)], events=["ab"[i % 2] for i in range(n)])


def config(**fields):
    """The config with these fields of cascades."""
    found = rumor_pheme.get_config()
    found.cascades.update(fields)
    return found


def test_folds_keep_groups_whole_and_classes_in_proportion():
    cascades = cascades_of()
    roles = P.roles_of(cascades, config(), 0)
    group = P.groups_of(cascades)
    assert len(np.unique(group)) == 180
    tested = (roles & TEST) > 0
    np.testing.assert_array_equal(tested.sum(0), 1)  # each cascade is tested once
    for role in roles:
        parts = [set(group[role == part]) for part in (TRAIN, VALIDATION, TEST)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        assert abs((role == TEST).sum() - 40) <= 2 and abs((role == VALIDATION).sum() - 20) <= 3
        share = cascades.labels.mean()
        assert abs(cascades.labels[role == TEST].mean() - share) < 0.06
    np.testing.assert_array_equal(roles, P.roles_of(cascades, config(), 0))
    assert (roles != P.roles_of(cascades, config(), 1)).any()


def test_copies_that_differ_by_their_links_are_one_group():
    cascades = made([1] * 5)
    texts = "It rains! http://t.co/Ab1", "it rains https://t.co/zz9 http:\u2026", "it snows", "http://t.co/Ab1", "http://t.co/Ab2"
    cascades.texts[:] = texts
    assert P.groups_of(cascades).tolist() == [0, 0, 1, 2, 3]


def test_published_chooses_on_what_it_tests():
    roles = P.roles_of(cascades_of(), config(choose_on="test"), 0)
    assert set(np.unique(roles)) == {TRAIN, VALIDATION | TEST}


def test_one_event_is_left_out_and_copies_of_its_sources_with_it():
    cascades = cascades_of()
    roles, group = P.roles_of(cascades, config(protocol="events"), 0), P.groups_of(cascades)
    assert len(roles) == 2
    for role, event in zip(roles, "ab"):
        here = np.array([e == event for e in cascades.events])
        np.testing.assert_array_equal(role == TEST, here)
        assert not set(group[here]) & set(group[(role & (TRAIN | VALIDATION)) > 0])
    with pytest.raises(DataError, match="tells no events"):
        P.roles_of(made([2] * 9), config(protocol="events"), 0)


def test_time_tests_the_newest_and_chooses_on_the_next():
    cascades = cascades_of()
    (role,) = P.roles_of(cascades, config(protocol="time"), 0)
    numbers = np.array([int(i) for i in cascades.ids])
    assert numbers[role == TRAIN].max() <= numbers[role == VALIDATION].min()
    assert numbers[role == VALIDATION].max() <= numbers[role == TEST].min() and (role == TEST).sum() == 40
    group = P.groups_of(cascades)
    parts = [set(group[role == part]) for part in (TRAIN, VALIDATION, TEST)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert 0 < (role == 0).sum() <= 20  # copies of what is held out
    words = dataclasses.replace(cascades, ids=[f"x{i}" for i in cascades.ids])
    with pytest.raises(DataError, match="id 'x1000' is no number"):
        P.roles_of(words, config(protocol="time"), 0)


def test_more_folds_than_groups():
    with pytest.raises(DataError, match="must be <= 3"):
        P.grouped_folds(np.array([0, 1, 0, 1]), np.array([0, 1, 2, 0]), 5, 0)

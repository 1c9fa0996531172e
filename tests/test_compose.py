"""Parts by name, from inside the library and outside; their errors; composition."""

import functools

import pytest

from textfuse_jax.compose import arguments, build, check, compose, resolve
from textfuse_jax.models.pooling import Hybrid, Mean


def double(x, by=2):
    """A part: x times `by`."""
    return x * by, {"double": x}


def increment(x):
    """A part: x plus one."""
    return x + 1, {"increment": x}


def anything(x, **kwargs):
    """A part that takes any keyword."""
    return x, kwargs


def test_resolve():
    assert resolve("textfuse_jax.models.pooling:Hybrid") is Hybrid


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("textfuse_jax.models.pooling.Hybrid", "package.module:name"),
        (":Hybrid", "package.module:name"),
        ("textfuse_jax.models.pooling:", "package.module:name"),
        ("textfuse_jax.models.poling:Hybrid", "no module named 'textfuse_jax.models.poling'"),
        ("no_such_package:x", "no module named 'no_such_package'"),
        ("textfuse_jax.models.pooling:Hybird", "did you mean 'Hybrid'"),
    ],
)
def test_resolve_says_what_is_wrong(name, message):
    with pytest.raises(ValueError, match=message):
        resolve(name)


def test_an_import_error_inside_a_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_part.py").write_text("from math import no_such_function\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="no_such_function"):
        resolve("broken_part:x")


def test_build():
    assert build(None) is None
    assert build("textfuse_jax.models.pooling:Hybrid", {"alpha": 0.25}) == Hybrid(alpha=0.25)
    assert build("textfuse_jax.models.pooling:Mean") == Mean()
    assert build(double) is double
    part = build(double, {"by": 5})
    assert isinstance(part, functools.partial) and part(3) == (15, {"double": 3})
    assert build(anything, {"colour": 1})(2) == (2, {"colour": 1})


def test_arguments():
    assert arguments(double) == ("x", "by")
    assert arguments("textfuse_jax.models.pooling:Mean") == ("levels",)
    assert arguments(anything) is None


def test_an_unknown_argument_suggests_the_near_one_and_lists_all():
    with pytest.raises(ValueError, match=r"Hybrid takes no argument 'alhpa'; did you mean 'alpha'\?; it takes alpha, self_att"):
        build("textfuse_jax.models.pooling:Hybrid", {"alhpa": 1})
    with pytest.raises(ValueError, match="takes no argument 'colour'"):
        check(double, {"colour": 1})


def test_a_missing_argument_is_named_but_may_still_be_missing_for_check():
    check("textfuse_jax.models.head:Head", {"hidden": 8})
    with pytest.raises(ValueError, match="Head needs the argument 'classes'"):
        build("textfuse_jax.models.head:Head", {"hidden": 8})


def test_compose_is_function_composition():
    assert compose(double, increment)(5) == (11, {"double": 5, "increment": 10})
    assert compose(increment, double)(5) == (12, {"increment": 5, "double": 6})
    assert compose(None, double, None)(5) == (10, {"double": 5})
    assert compose()(5) == (5, {})

"""Parts by name: ``"package.module:name"`` plus literal keyword arguments -> a callable; and callables -> a model.

Nothing is registered: any importable name can fill a slot, from inside the library or outside it.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def resolve(name: str) -> Any:
    """The object that ``"package.module:name"`` names.

    Raises:
      ValueError: the text has no colon, the module can't be imported, or it has no such name (the near one is suggested).
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise ValueError(f'{name!r} must have the form "package.module:name", e.g. "textfuse_jax.models.pooling:Hybrid"')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name!r}: no module named {error.name!r}; is its folder on PYTHONPATH, its package installed?"
        ) from error
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        raise ValueError(
            f"{name!r}: module {module_name} has no {attribute!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    return getattr(module, attribute)


def build(spec: str | Callable | None, args: Mapping[str, Any] | None = None) -> Callable | None:
    """A part from its name and keyword arguments: a class is instantiated, a function partially applied, None stays None.

    Raises:
      ValueError: an argument that the part doesn't take; the message lists those it does.
    """
    if spec is None:
        return None
    part = resolve(spec) if isinstance(spec, str) else spec
    args = dict(args or {})
    known = inspect.signature(part).parameters
    unknown = [] if any(p.kind is p.VAR_KEYWORD for p in known.values()) else [a for a in args if a not in known]
    if unknown:
        takes = [k for k in known if k not in ("parent", "name", "self")]
        raise ValueError(f"{spec} takes no argument {unknown[0]!r}; it takes {', '.join(takes)}")
    if inspect.isclass(part):
        return part(**args)
    return functools.partial(part, **args) if args else part


def compose(*parts: Callable | None) -> Callable:
    """``compose(f, g, h)(x) == h(g(f(x)))`` for parts that return ``(result, out)``; outs are merged, None is skipped."""

    def composed(x, *args, **kwargs):
        merged: dict[str, Any] = {}
        for part in parts:
            if part is not None:
                x, out = part(x, *args, **kwargs)
                merged |= out
        return x, merged

    return composed

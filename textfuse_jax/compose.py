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
    if not module_name or not colon or not attribute:
        raise ValueError(f'{name!r} must have the form "package.module:name", e.g. "textfuse_jax.models.pooling:Hybrid"')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name!r}: no module named {error.name!r}; is its folder on PYTHONPATH, its package installed?"
        ) from error
    if not hasattr(module, attribute):
        raise ValueError(f"{name!r}: module {module_name} has no {attribute!r}{_near(attribute, dir(module))}")
    return getattr(module, attribute)


def arguments(spec: str | Callable) -> tuple[str, ...] | None:
    """Names of the keyword arguments that a part takes; None where it takes any (``**kwargs``)."""
    parameters = inspect.signature(resolve(spec) if isinstance(spec, str) else spec).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return tuple(name for name in parameters if name not in ("parent", "name", "self"))  # Linen's own are not the config's


def check(spec: str | Callable | None, args: Mapping[str, Any] | None = None) -> None:
    """Raises ValueError if the part can't be found or doesn't take one of ``args``; arguments may still be missing."""
    if spec is None:
        return
    takes = arguments(spec)
    for name in args or {}:
        if takes is not None and name not in takes:
            label = spec if isinstance(spec, str) else getattr(spec, "__name__", repr(spec))
            listed = f"it takes {', '.join(takes)}" if takes else "it takes none"
            raise ValueError(f"{label} takes no argument {name!r}{_near(name, takes)}; {listed}")


def build(spec: str | Callable | None, args: Mapping[str, Any] | None = None) -> Callable | None:
    """A part from its name and keyword arguments: a class is instantiated, a function partially applied, None stays None.

    Raises:
      ValueError: an argument that the part doesn't take (the near one is suggested, all are listed), or one that a class
        needs and didn't get.
    """
    if spec is None:
        return None
    check(spec, args)
    part, args = resolve(spec) if isinstance(spec, str) else spec, dict(args or {})
    if not inspect.isclass(part):
        return functools.partial(part, **args) if args else part
    parameters = inspect.signature(part).parameters.items()
    needed = [k for k, p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [name for name in needed if name not in args]
    if missing:
        raise ValueError(f"{spec if isinstance(spec, str) else part.__name__} needs the argument {missing[0]!r}; it got {args}")
    return part(**args)


def compose(*parts: Callable | None) -> Callable:
    """``compose(f, g, h)(x) == h(g(f(x)))`` for parts that return ``(result, out)``; outs are merged, None is skipped.

    Further arguments go to every part.
    """

    def composed(x, *args, **kwargs):
        merged: dict[str, Any] = {}
        for part in parts:
            if part is not None:
                x, out = part(x, *args, **kwargs)
                merged |= out
        return x, merged

    return composed


def _near(name: str, known) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""

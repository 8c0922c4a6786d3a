"""Names of a package that are imported at first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping


def lazy_names(
    package: str, modules: Mapping[str, str], public: Iterable[str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package that puts off slow imports.

    Args:
        package: Its name.
        modules: From each such name to its module, below the package.
        public: All public names, for completion.

    Example:
        >>> get, _ = lazy_names("gsnn", {"DataError": "base.errors"}, ["DataError"])
        >>> get("DataError").__name__
        'DataError'
    """

    def get(name: str) -> object:
        if name in modules:
            return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted(public)

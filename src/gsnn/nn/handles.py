"""Numbers for modules, because a compiled graph cannot hold objects."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

from torch import nn

_counter = itertools.count()
_modules: weakref.WeakValueDictionary[int, HandledModule] = weakref.WeakValueDictionary()


class HandledModule(nn.Module):
    """A module with a number of its own, by which a custom operator finds it. Copies get a new number."""

    handle: int

    def __init__(self) -> None:
        super().__init__()
        self._register()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._register()

    def _register(self) -> None:
        self.handle = next(_counter)
        _modules[self.handle] = self


def module_of(handle: int) -> Any:  # noqa: ANN401 - the caller knows which kind it is
    """The module with this number.

    Raises:
        RuntimeError: If it is gone.
    """
    module = _modules.get(handle)
    if module is None:
        raise RuntimeError("this compiled graph belongs to a GSNN that no longer exists; compile the model again")
    return module

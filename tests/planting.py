"""Replacing one line of a function of the project, for one test, to see what notices.

The function is compiled anew in its own module from its own source. If the line is not there any more, that
is a failure and not a test that passes.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest


def plant(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], right: str, wrong: str) -> None:
    """Put `wrong` for `right` into the source of `function`, everywhere where it is known.

    Args:
        function: of a module or of a class; of a property or the like, the function in it.
        right: occurs once in its source.

    Raises:
        AssertionError: it does not.
    """
    source = textwrap.dedent(inspect.getsource(function))
    found = source.count(right)
    assert found == 1, f"{function.__qualname__} has changed, {right!r} is there {found} times: plant anew"
    module = sys.modules[function.__module__]
    scope: dict[str, Any] = {}
    name_of_code = f"<planted in {function.__qualname__}>"
    code = compile(source.replace(right, wrong), name_of_code, "exec", dont_inherit=True)
    exec("from __future__ import annotations", scope)
    exec(code, module.__dict__, scope)
    owner, _, name = function.__qualname__.rpartition(".")
    changed = scope[name]
    if owner:
        cls = getattr(module, owner)
        if hasattr(changed, "__set_name__"):  # a cached property has to know where it lives
            changed.__set_name__(cls, name)
        monkeypatch.setattr(cls, name, changed)
        return
    for user in list(sys.modules.values()):  # a function of a module is known by name in others
        if getattr(user, name, None) is function:
            monkeypatch.setattr(user, name, changed)

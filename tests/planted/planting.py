"""Planting: a module that says something else than its source, for as long as a test lasts."""

import ast
import inspect
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

#: What a bug that was planted badly raises; it is no catch.
_PLANTED_BADLY = (NameError, SyntaxError, TypeError, AttributeError)


def plant(patch: pytest.MonkeyPatch, module: ModuleType, says: str, instead: str) -> None:
    """Have the module say ``instead`` where it ``says`` something, which must stand there once.

    In a function or method, whoever has imported it runs the other code too; a value that is made at import is made
    again, for the functions of its own module.
    """
    source = inspect.getsource(module)
    if source.count(says) != 1:
        raise LookupError(f"{module.__name__} says {source.count(says)} times: {says}")
    line = source[: source.index(says)].count("\n") + 1
    statement = _at(ast.parse(source.replace(says, instead)).body, line)
    made = dict(vars(module))
    exec(compile(ast.Module([statement], []), str(module.__file__), "exec"), made)  # noqa: S102  # our own source
    match statement:
        case ast.FunctionDef(name=name):
            _swap(patch, getattr(module, name), made[name].__code__)
        case ast.ClassDef(name=name, body=body):
            method = _at(body, line)
            assert isinstance(method, ast.FunctionDef)
            _swap(patch, vars(getattr(module, name))[method.name], vars(made[name])[method.name].__code__)
        case ast.Assign(targets=[ast.Name(id=name)]):
            patch.setattr(module, name, made[name])
        case _:
            raise LookupError(f"{module.__name__}, line {line}: nothing that a bug can be planted in")


def _at(statements: list[ast.stmt], line: int) -> ast.stmt:
    return next(each for each in statements if each.lineno <= line <= (each.end_lineno or each.lineno))


def _swap(patch: pytest.MonkeyPatch, function: FunctionType, code: CodeType) -> None:
    patch.setattr(function, "__code__", code)


def caught_by(test: Callable[..., None], *arguments: Any, **more: Any) -> str:
    """What the test says against it; fails if it passes."""
    try:
        test(*arguments, **more)
    except _PLANTED_BADLY:
        raise
    except (Exception, pytest.fail.Exception) as caught:  # noqa: BLE001  # whatever the test says
        return f"{type(caught).__name__}: {caught}"
    raise AssertionError(f"the bug was not caught by {test.__name__}")

"""Every public name has a doc-string, and the examples in it run."""

from __future__ import annotations

import doctest
import inspect

import pytest

import metallic as ml

PARSER = doctest.DocTestParser()
OPTIONS = doctest.NORMALIZE_WHITESPACE


def documented() -> dict[str, object]:
    """Public objects by their dotted name: functions, classes, and the methods of classes."""
    found = {"metallic": ml}
    for name in ml.__all__:
        obj = getattr(ml, name)
        if isinstance(obj, ml.DType):
            continue
        found[name] = obj
        if inspect.isclass(obj):
            for member, value in vars(obj).items():
                if not member.startswith("_") and (callable(value) or inspect.isdatadescriptor(value)):
                    found[f"{name}.{member}"] = value
    return found


OBJECTS = documented()


@pytest.mark.parametrize("name", OBJECTS)
def test_documented(name):
    obj = OBJECTS[name]
    text = inspect.getdoc(obj)
    assert text, f"{name} has no doc-string"
    attribute = inspect.isgetsetdescriptor(obj) or inspect.ismemberdescriptor(obj)
    context_method = name.startswith("Context.") and text.endswith("in this context.")
    assert attribute or context_method or ">>>" in text, f"{name} has no example"
    for line in text.splitlines():
        assert len(line) <= 120


@pytest.mark.parametrize("name", [n for n, o in OBJECTS.items() if ">>>" in (inspect.getdoc(o) or "")])
def test_examples(name):
    test = PARSER.get_doctest(inspect.getdoc(OBJECTS[name]), {}, name, None, 0)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert result.attempted and not result.failed, "".join(report)

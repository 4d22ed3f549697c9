"""Comparing a stub with a handler says what sending and receiving would show."""

import inspect
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from pico_celery_core.contract.compatibility import compare
from pico_celery_core.contract.signatures import bind, message_signature
from tests.unit.core.methods import calls, methods


class AsyncResult:
    """Named as Celery's, which the comparison must not import."""


def signature(parameters: str, returns: str = "") -> inspect.Signature:
    """Return the signature of a method with these parameters, written as in its definition."""
    namespace: dict[str, Any] = {"AsyncResult": AsyncResult, "Any": Any}
    exec(f"def method(self, {parameters}){returns and f' -> {returns}'}: ...", namespace)
    return message_signature(namespace["method"])


def without_trap(handler: inspect.Signature) -> bool:
    """Before Python 3.13 Signature.bind refuses a keyword for **kwargs that is also a positional-only parameter."""
    kinds = {parameter.kind for parameter in handler.parameters.values()}
    return not {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_KEYWORD} <= kinds


def received(stub, handler, call):
    """Return what the handler sees of a call of the stub; None where the stub refuses the call."""
    try:
        args, kwargs = bind(message_signature(stub), *call)
    except TypeError:
        return None
    return handler(None, *args, **kwargs)


@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most pairs of methods do not go together
@given(methods(), methods(), calls)
def test_without_misfits_and_surplus_every_call_of_the_stub_fits_the_handler(stub, handler, call):
    assume(without_trap(message_signature(handler)))
    comparison = compare(message_signature(stub), message_signature(handler))
    assume(not comparison.incompatibilities and not comparison.surplus)

    try:
        received(stub, handler, call)
    except TypeError as error:
        # Giving one argument twice, through *args and **kwargs, is nobody's contract.
        if "multiple values" not in str(error):
            raise


@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most pairs of methods do not go together
@given(methods(), methods(), calls)
def test_where_they_do_not_agree_no_call_of_the_stub_fits_the_handler(stub, handler, call):
    assume(without_trap(message_signature(stub)))
    assume(without_trap(message_signature(handler)))
    comparison = compare(message_signature(stub), message_signature(handler))
    assume(not comparison.agrees)
    assume(not any("arrives as" in incompatibility.problem for incompatibility in comparison.incompatibilities))

    with suppress(TypeError):
        assert received(stub, handler, call) is None, "the stub refuses it"


@given(methods())
def test_a_method_agrees_with_itself(method):
    comparison = compare(message_signature(method), message_signature(method))

    assert comparison == compare(signature("a"), signature("a"))


@pytest.mark.parametrize(
    ("stub", "handler", "incompatibilities"),
    [
        ("a, b", "a", ["(a, b) does not fit: too many positional arguments"]),
        ("a", "a, b", ["(a) does not fit: missing a required argument: 'b'"]),
        ("a", "", ["(a) does not fit: too many positional arguments"]),
        ("", "a", ["() does not fit: missing a required argument: 'a'"]),
        ("a, b=1", "a", ["(a, b) does not fit: too many positional arguments"]),
        ("*, a", "b", ["(a=...) does not fit: missing a required argument: 'b'"]),
        ("a, /", "*, a", ["(a) does not fit: too many positional arguments"]),
        ("*args", "*, a", ["() does not fit: missing a required keyword-only argument: 'a'"]),
    ],
)
def test_signatures_that_cannot_agree(stub, handler, incompatibilities):
    """Neither by position nor by keyword is there a call that fits both; a default is sent as well."""
    comparison = compare(signature(stub), signature(handler))

    assert not comparison.agrees
    # Python 3.12 words it differently from 3.11.
    said = [str(incompatibility).replace("keyword-only ", "") for incompatibility in comparison.incompatibilities]
    assert said[: len(incompatibilities)] == [
        incompatibility.replace("keyword-only ", "") for incompatibility in incompatibilities
    ]


@pytest.mark.parametrize(
    ("stub", "handler", "calls"),
    [
        ("a", "*, a", ["(a)"]),
        ("a", "a, /", ["(a=...)"]),
        ("a", "b", ["(a=...)"]),
        ("a, b", "b, a", ["(a, b)", "(a, b=...)"]),
        ("a, b", "a, *rest, b=0", ["(a, b)"]),
    ],
)
def test_signatures_that_agree_only_for_some_calls(stub, handler, calls):
    comparison = compare(signature(stub), signature(handler))

    assert comparison.agrees
    assert [incompatibility.call for incompatibility in comparison.incompatibilities] == calls


def test_arguments_that_change_places_do_not_fit():
    """The handler would run, and take one value for the other."""
    comparison = compare(signature("to, sender"), signature("sender, to"))

    assert str(comparison.incompatibilities[0]) == "(to, sender) does not fit: 'to' arrives as 'sender'"


@pytest.mark.parametrize(
    ("stub", "handler"),
    [
        ("a, b", "a, b"),
        ("a", "a, b=1"),
        ("a=1", "a"),
        ("a", "*args, **kwargs"),
        ("a, /", "b"),
        ("*, a", "a"),
        ("*args", "*args"),
        ("a, **kwargs", "a, **options"),
        ("*args, **kwargs", "*args, **kwargs"),
    ],
)
def test_signatures_that_fit(stub, handler):
    comparison = compare(signature(stub), signature(handler))

    assert comparison.agrees
    assert (comparison.incompatibilities, comparison.surplus, comparison.differences) == ((), None, ())


@pytest.mark.parametrize(
    ("stub", "handler", "surplus"),
    [
        ("**kwargs", "a", "() does not fit: missing a required argument: 'a'"),
        (
            "a, **kwargs",
            "a",
            "(a, more=...) does not fit: got an unexpected keyword argument 'more'",
        ),
        ("a, *args", "a, b=1", "(a, *args, *args, *args) does not fit: too many positional arguments"),
        ("*args, **kwargs", "a, /, b", "() does not fit: missing a required argument: 'a'"),
    ],
)
def test_a_stub_that_takes_anything_lets_pass_what_the_handler_refuses(stub, handler, surplus):
    comparison = compare(signature(stub), signature(handler))

    assert comparison.agrees
    assert not comparison.incompatibilities
    assert str(comparison.surplus).replace("positional-only ", "") == surplus


@pytest.mark.parametrize(
    ("stub", "handler", "difference"),
    [
        ("a: int", "a: str", "'a' is int in the stub and str in the handler"),
        ("a: int, /", "b: str", "'a' is int in the stub and str in the handler"),
        ("a: int | None", "a: int", "'a' is int | None in the stub and int in the handler"),
        ("a=1", "a=2", "'a' defaults to 1 in the stub, which is what is sent, and to 2 in the handler"),
    ],
)
def test_a_parameter_that_means_something_else_is_a_difference(stub, handler, difference):
    comparison = compare(signature(stub), signature(handler))

    assert comparison.differences == (difference,)


@pytest.mark.parametrize(
    ("stub", "handler"), [("a: int", "a"), ("a", "a: int"), ("a: int", "a: int | None"), ("a: int = 1", "a: float")]
)
def test_a_parameter_that_means_the_same_or_less_is_no_difference(stub, handler):
    assert compare(signature(stub), signature(handler)).differences == ()


def test_another_result_is_a_difference():
    comparison = compare(signature("", "str"), signature("", "list[int]"))

    assert comparison.differences == ("the stub promises str, and the handler returns list[int]",)


@pytest.mark.parametrize("promised", ["", "None", "Any", "AsyncResult", "dict"])
def test_a_stub_that_promises_nothing_of_the_result_does_not_differ(promised):
    assert compare(signature("", promised), signature("", "dict[str, int]")).differences == ()


def test_defaults_that_cannot_be_compared_are_not_taken_to_differ():
    class Incomparable:
        def __eq__(self, other):
            raise ValueError("ambiguous")

        __hash__ = None

    def stub(self, a=Incomparable()): ...  # noqa: B008

    def handler(self, a=Incomparable()): ...  # noqa: B008

    assert compare(message_signature(stub), message_signature(handler)).differences == ()

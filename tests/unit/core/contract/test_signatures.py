"""The contract between a stub and a handler: binding agrees with Python's own way of calling."""

import pytest
from hypothesis import assume, given

from pico_celery_core.contract.signatures import bind, message_signature, method_signature
from tests.unit.core.methods import calls, methods


@given(methods(), calls)
def test_binding_accepts_what_python_accepts_and_the_handler_sees_the_same(method, call):
    args, kwargs = call
    # Before Python 3.13 Signature.bind refuses a keyword for **kwargs that is also a positional-only parameter's name.
    positional_only = [p.name for p in method_signature(method).parameters.values() if p.kind is p.POSITIONAL_ONLY]
    assume(not set(positional_only) & set(kwargs))
    try:
        seen = method(None, *args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            bind(method_signature(method), args, kwargs)
    else:
        sent_args, sent_kwargs = bind(method_signature(method), args, kwargs)
        assert method(None, *sent_args, **sent_kwargs) == seen


@given(methods(), calls)
def test_what_is_sent_carries_every_default(method, call):
    """A handler with other defaults, or with none, gets what the stub promised."""
    args, kwargs = call
    signature = method_signature(method)
    try:
        sent_args, sent_kwargs = bind(signature, args, kwargs)
    except TypeError:
        return
    bare = signature.replace(parameters=[p.replace(default=p.empty) for p in signature.parameters.values()])
    bare.bind(*sent_args, **sent_kwargs)


@given(methods(), calls)
def test_the_callers_own_arguments_keep_their_place(method, call):
    args, kwargs = call
    try:
        sent_args, sent_kwargs = bind(method_signature(method), args, kwargs)
    except TypeError:
        return
    assert sent_args[: len(args)] == args
    assert kwargs.items() <= sent_kwargs.items()


def test_the_arguments_given_are_not_changed():
    def send(self, to, copies=1): ...

    args, kwargs = ("a@x",), {}
    bind(method_signature(send), args, kwargs)
    assert (args, kwargs) == (("a@x",), {})


def test_the_signature_of_a_method_leaves_out_self():
    def send(self, to: str, *, copies: int = 1) -> bool: ...

    assert str(method_signature(send)) == "(to: str, *, copies: int = 1) -> bool"


def test_variadic_arguments_that_take_self_as_well_stay():
    def send(*args, **kwargs): ...

    assert str(method_signature(send)) == "(*args, **kwargs)"


def test_the_signature_of_a_message_leaves_out_the_task_that_a_bound_handler_gets():
    async def send(self, task, to): ...

    assert str(message_signature(send, bound=True)) == "(to)"


def test_annotations_that_are_strings_are_evaluated():
    def send(self, to: "str", mode: "NotThere" = 1) -> "None": ...  # noqa: F821

    signature = message_signature(send)

    assert signature.parameters["to"].annotation is str
    assert signature.parameters["mode"].annotation == "NotThere", "nobody can know what it is"
    assert signature.return_annotation is None


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing a required argument: 'to'"),
        (("a@x", 1, 2), {}, "too many positional arguments"),
        (("a@x",), {"to": "b@x"}, "multiple values for argument 'to'"),
        (("a@x",), {"copy": 1}, "got an unexpected keyword argument 'copy'"),
    ],
)
def test_a_call_that_does_not_fit_says_why(args, kwargs, problem):
    def send(self, to, copies=1): ...

    with pytest.raises(TypeError, match=problem):
        bind(method_signature(send), args, kwargs)

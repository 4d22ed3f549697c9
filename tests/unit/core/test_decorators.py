"""`@task` and `@send_task`: what they leave alone, and what they refuse, with words that help."""

import functools
import inspect
import os
import subprocess
import sys

import pytest

from pico_celery_core import send_task, task
from pico_celery_core.errors import DeclarationError, PicoCeleryError, TaskNameError, UnknownOptionError

BOTH = pytest.mark.parametrize("decorator", [task, send_task], ids=["task", "send_task"])


def message_of(error: pytest.ExceptionInfo[Exception]) -> str:
    assert isinstance(error.value, PicoCeleryError)
    return str(error.value)


def test_task_returns_the_method_itself():
    async def run(self) -> int:
        return 1

    assert task("tasks.run")(run) is run


@pytest.mark.parametrize("asynchronous", [False, True])
def test_send_task_returns_a_method_of_the_stubs_own_kind(asynchronous):
    def run(self, number: int) -> int: ...

    async def arun(self, number: int) -> int: ...

    stub = arun if asynchronous else run
    method = send_task("tasks.run")(stub)
    assert inspect.unwrap(method) is stub
    assert (method.__name__, inspect.signature(method)) == (stub.__name__, inspect.signature(stub))
    assert inspect.iscoroutinefunction(method) is asynchronous


def test_a_plain_stub_has_no_publish_timeout():
    with pytest.raises(DeclarationError) as error:

        class Client:
            @send_task("tasks.run", publish_timeout=3)
            def run(self) -> None: ...

    assert message_of(error).endswith(
        "Client.run: it is a plain method, and publish_timeout holds for `async def` stubs only. "
        "Write `async def run(self, ...)`, and await it."
    )


async def test_a_handler_can_be_awaited_directly():
    class Tasks:
        @task("tasks.double")
        async def double(self, number: int) -> int:
            return 2 * number

    assert await Tasks().double(4) == 8


@BOTH
def test_the_name_may_be_a_keyword(decorator):
    class Tasks:
        @decorator(name="tasks.run", queue="slow")
        async def run(self) -> None: ...

    spec = vars(Tasks.run)[f"__pico_celery_{'task' if decorator is task else 'send'}__"]
    assert spec.name == "tasks.run"
    assert spec.options == {"queue": "slow"}


def test_importing_the_declarations_imports_neither_celery_nor_pico_ioc():
    code = (
        "import sys, pico_celery_core, pico_celery\n"
        "from pico_celery import task, send_task\n"
        "heavy = {'celery', 'kombu', 'pico_ioc', 'gevent', 'pico_celery_client', 'pico_celery_worker'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    # Coverage, where it runs along, imports gevent.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_a_task_must_be_async():
    with pytest.raises(TypeError) as error:

        class Tasks:
            @task("tasks.run")
            def run(self) -> None: ...

    assert message_of(error).startswith("@task('tasks.run') on test_a_task_must_be_async.<locals>.Tasks.run: ")
    assert message_of(error).endswith("it is not async. Write `async def run(self, ...)`, and return one value.")


def test_an_async_method_hidden_by_another_decorator_is_not_async():
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    with pytest.raises(DeclarationError, match="it is not async"):

        class Tasks:
            @task("tasks.run")
            @logged
            async def run(self) -> None: ...


def test_an_async_generator_is_no_task():
    with pytest.raises(DeclarationError, match=r"it is an async generator. Write .* return one value"):

        class Tasks:
            @task("tasks.run")
            async def run(self):
                yield 1


def test_a_generator_is_no_stub():
    with pytest.raises(DeclarationError, match=r"it is a generator. A task has one result"):

        class Client:
            @send_task("tasks.run")
            def run(self):
                yield 1


@BOTH
def test_a_class_is_refused(decorator):
    with pytest.raises(TypeError) as error:

        @decorator("tasks.run")
        class Tasks: ...

    at = f"@{decorator.__name__}"
    assert f"{at}('tasks.run') on class " in message_of(error)
    assert message_of(error).endswith(f"it is a class. Move {at} to the method; the class itself is a component.")


@BOTH
def test_parentheses_must_not_be_missing(decorator):
    with pytest.raises(TypeError) as error:

        class Tasks:
            @decorator
            async def run(self) -> None: ...

    at = f"@{decorator.__name__}"
    assert message_of(error).startswith(f"{at} on test_parentheses_must_not_be_missing.<locals>.Tasks.run: ")
    assert f'the task\'s name is missing. Write {at}("task.name") above it' in message_of(error)


@BOTH
@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_static_and_class_methods_are_refused(decorator, kind):
    with pytest.raises(DeclarationError, match=f"it is a {kind.__name__}\\. Make it a plain method with self"):

        class Tasks:
            @decorator("tasks.run")
            @kind
            async def run(cls) -> None: ...  # noqa: N805


async def module_function(number: int) -> int:
    return number


@BOTH
def test_a_function_outside_a_class_is_refused(decorator):
    with pytest.raises(DeclarationError) as error:
        decorator("tasks.run")(module_function)
    assert "on module_function: it is a function outside a class. Make it a method of a component" in message_of(error)


@BOTH
def test_a_function_inside_a_function_is_refused_as_well(decorator):
    async def local(number: int) -> int:
        return number

    with pytest.raises(DeclarationError, match="it is a function outside a class"):
        decorator("tasks.run")(local)


@BOTH
@pytest.mark.parametrize("target", [42, functools.partial(module_function, 1)], ids=["number", "partial"])
def test_anything_else_is_refused(decorator, target):
    with pytest.raises(DeclarationError, match=r"it is not a method\. Move @"):
        decorator("tasks.run")(target)


@BOTH
@pytest.mark.parametrize("other", [task, send_task], ids=["task", "send_task"])
def test_one_method_has_one_task_name(decorator, other):
    with pytest.raises(DeclarationError, match=r"it is a task already\. One method has one task name"):

        class Tasks:
            @decorator("tasks.second")
            @other("tasks.first")
            async def run(self) -> None: ...


@BOTH
@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_an_empty_name_is_refused(decorator, name):
    with pytest.raises(ValueError, match="needs a task name that says something") as error:
        decorator(name)
    assert isinstance(error.value, TaskNameError)
    assert error.value.name == name
    assert message_of(error).endswith(f'Write for instance @{decorator.__name__}("orders.confirm").')


@BOTH
@pytest.mark.parametrize("name", [7, None, b"tasks.run", ["tasks.run"]])
def test_a_name_that_is_no_string_is_refused(decorator, name):
    with pytest.raises(TypeError) as error:
        decorator(name)
    assert f"the task's name is {name!r}, not a string. Write @{decorator.__name__}(" in message_of(error)


@BOTH
def test_a_misspelt_option_is_refused_with_the_right_one(decorator):
    with pytest.raises(TypeError) as error:
        decorator("tasks.run", prioritiy=3)
    assert isinstance(error.value, UnknownOptionError)
    assert error.value.option == "prioritiy"
    assert message_of(error) == (
        f"@{decorator.__name__}('tasks.run') got the option 'prioritiy', which Celery does not know. "
        "Did you mean 'priority'?"
    )


@BOTH
def test_an_option_like_no_other_is_refused_without_a_guess(decorator):
    with pytest.raises(UnknownOptionError, match="Remove it, or check its spelling") as error:
        decorator("tasks.run", xyzzy=1)
    assert error.value.suggestion == ""

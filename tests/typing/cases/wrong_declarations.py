"""Declarations that cannot work: each is an error where it stands."""
# mypy: disable-error-code=empty-body

from pico_celery import celery, send_task, task


class Tasks:
    @task("tasks.sync")  # expect-error
    def sync(self) -> int:
        return 1

    @task  # expect-error
    async def without_parentheses(self) -> int:  # expect-error (mypy)
        return 1

    @task(7)  # expect-error
    async def without_text(self) -> int:
        return 1


class Client:
    @send_task(7)  # expect-error
    def without_text(self) -> int: ...


@celery  # expect-error
def function() -> int:
    return 1

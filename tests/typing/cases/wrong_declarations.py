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

    @send_task("tasks.misspelt", coutdown=3)  # expect-error
    def misspelt(self) -> int: ...

    @send_task("tasks.mistyped", priority="high")  # expect-error
    def mistyped(self) -> int: ...


class Options:
    @task("tasks.misspelt", max_retrys=3)  # expect-error
    async def misspelt(self) -> int:
        return 1

    @task("tasks.mistyped", acks_late="yes")  # expect-error
    async def mistyped(self) -> int:
        return 1


@celery(scop="prototype")  # expect-error
class Misspelt:
    @send_task("tasks.send")
    def send(self) -> int: ...


@celery(primary="yes")  # expect-error
class Mistyped:
    @send_task("tasks.send")
    def send(self) -> int: ...


@celery  # expect-error
def function() -> int:
    return 1

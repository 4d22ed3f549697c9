"""Handlers with `pydantic=True` get models, or an error at the start, whatever their annotations look like."""

import pytest

from pico_celery.errors import DeclarationError
from pico_celery_worker.container.handlers import Handler
from pico_celery_worker.tasks.models import unresolved_annotation
from pico_celery_worker.testing import TaskRunner
from tests.unit.worker.applications import application
from tests.unit.worker.tasks import postponed


@pytest.mark.parametrize(("cls", "names"), [(postponed.Beside, ["Order", "NoneType"]), (postponed.Returned, "Order")])
def test_a_model_beside_a_name_that_is_missing_is_made_all_the_same(app, container, cls, names):
    container(cls)
    [name] = [name for name in app.tasks if name.startswith("postponed.")]
    assert app.tasks[name].delay({"number": 7}).get() == names


def test_models_within_the_component_annotated_and_optional(app, container):
    container(postponed.Within)
    arguments = {"parcel": {"number": 7}, "order": {"number": 8}, "other": {"number": 9}}
    assert app.tasks["postponed.within"].delay(**arguments).get() == {"number": 15}
    with pytest.raises(ValueError, match="number"):
        app.tasks["postponed.within"].apply(kwargs={**arguments, "parcel": {}}).get()


def unresolved(cls: type) -> DeclarationError | None:
    return unresolved_annotation(Handler(key=cls, cls=cls, method="run", spec=cls.run.__pico_celery_task__))


@pytest.mark.parametrize(
    ("cls", "what", "annotation", "name"),
    [
        (postponed.Model, "the annotation of its parameter 'order'", "Unseen", "Unseen"),
        (postponed.Beside, "the annotation of its parameter 'clerk'", "Clerk | None", "Clerk"),
        (postponed.Returned, "its return annotation", "Receipt", "Receipt"),
    ],
)
def test_an_annotation_that_cannot_be_evaluated_is_an_error(cls, what, annotation, name):
    task = f"postponed.{cls.__name__.lower()}"
    assert str(unresolved(cls)) == (
        f"@task({task!r}) on {cls.__module__}.{cls.__name__}.run: {what}, {annotation!r}, cannot be evaluated: "
        f"name {name!r} is not defined. With pydantic=True a model there would not be seen. "
        "Import the name at run time too, not only under TYPE_CHECKING; a class may not stand in a function."
    )


@pytest.mark.parametrize("cls", [postponed.Within, postponed.Plain])
def test_of_the_task_itself_and_of_handlers_without_models_none_is_needed(cls):
    assert unresolved(cls) is None


def test_a_task_runner_refuses_it_as_a_worker_does():
    with pytest.raises(DeclarationError, match="'Unseen', cannot be evaluated"):
        TaskRunner(application(postponed.Model))

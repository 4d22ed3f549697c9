"""Values of all kinds of types go to a real worker and come back as what they were."""

from datetime import timedelta

import pytest
from pico_ioc import DictSource, configuration, init

from pico_celery.errors import CallError, HandlerArgumentsError
from tests.integration.apps import values
from tests.integration.apps.values import Colour, Parcel, ParcelClient, parcel
from tests.integration.stations import Station, on, station

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


@pytest.fixture
def place(request: pytest.FixtureRequest):
    with station(request.param) as place:
        yield place


@on("redis", "rabbitmq")
async def test_values_arrive_as_they_were_sent_and_come_back(place: Station):
    settings = values.settings(place.broker, place.backend, place.queue)
    container = init(modules=["pico_celery", values], config=configuration(DictSource({"celery": settings})))
    client = container.get(ParcelClient)
    sent = parcel(inner=parcel())
    try:
        with place.worker(app="values"):
            result = await client.ship(sent, Colour.RED, options={"a": {1, 2}}, wait=timedelta(1))
            steps = [step.details async for step in result.progress(Parcel)]
            assert await result == (sent, [Colour.RED], {"wait": timedelta(1)})
            assert all(details == sent for details in steps)
            with pytest.raises(CallError, match=r"argument 'options' does not fit: a\[0\]"):
                await client.ship(sent, options={"a": ["x"]})
            with pytest.raises(HandlerArgumentsError, match="the argument 'parcel': weight: Field required"):
                await (await client.weigh({"other": 1}))
    finally:
        await container.ashutdown()

"""What the shop does. Nothing here knows of Celery."""

import asyncio

from pico_ioc import component

CUSTOMS_ATTEMPTS = 3
SECONDS_TO_MAKE = {"mug": 1.0, "sofa": 600.0, "kite": 1.0}


class UndeliverableError(Exception):
    """No courier finds an address."""


class CustomsClosedError(Exception):
    """Customs want to be asked again."""


@component
class Workshop:
    async def make(self, product: str) -> None:
        await asyncio.sleep(SECONDS_TO_MAKE[product])


@component
class Customs:
    async def clear(self, product: str, attempt: int) -> None:
        if product == "kite" and attempt + 1 < CUSTOMS_ATTEMPTS:
            raise CustomsClosedError("Customs are closed.")


@component
class Courier:
    def check(self, address: str) -> None:
        if not any(character.isdigit() for character in address):
            raise UndeliverableError(f"No house number in {address!r}. Correct the address and send it again.")

    async def deliver(self, address: str) -> str:
        await asyncio.sleep(0.5)
        return f"Delivered to {address}."


@component
class Shop:
    def __init__(self, workshop: Workshop, customs: Customs, courier: Courier) -> None:
        self.workshop, self.customs, self.courier = workshop, customs, courier

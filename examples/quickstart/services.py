"""What the application can do. Nothing here knows of Celery."""

import asyncio

from pico_ioc import component


@component
class Mailer:
    seconds = 1.0

    async def send(self, to: str, text: str) -> str:
        await asyncio.sleep(self.seconds)  # a slow mail server
        return f"To {to}: {text}"

"""Dead letters: messages that could not be run, kept with what is known of their failure."""

from pico_celery_worker.dead_letters.collection import DeadLetters
from pico_celery_worker.dead_letters.letter import DeadLetter, Reason

__all__ = ["DeadLetter", "DeadLetters", "Reason"]

"""Shows the "Example:" of a docstring as code: Griffe knows only "Examples:" as a section."""

from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Renames the section."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename it in one docstring."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")

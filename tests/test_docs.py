"""The code in README files, documentation and docstrings runs as it stands there.

A page's Python blocks run in order, as one module; `test_...` functions in them are called, with the fixtures that they
ask for. A block that cannot run is marked in the page, with a reason, and shows as skipped.
"""

import ast
import asyncio
import inspect
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest import SkipTest

import pytest
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker
from sybil import Document, Example
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

import pico_celery
from pico_celery_worker.loop import close_runner

ROOT = Path(__file__).parents[1]
# The tutorial has files, which tests/test_tutorial.py runs.
DOCS = [path for path in sorted(ROOT.glob("docs/**/*.md")) if path.parent.name != "tutorial"]
PATHS = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md")), *DOCS]
SOURCES = sorted(ROOT.glob("packages/*/src/**/*.py"))


@dataclass
class Block:
    """A piece of code, and the directives in front of it."""

    code: Example
    directives: list[Example]

    def run(self) -> None:
        for example in (*self.directives, self.code):
            try:
                example.evaluate()
            except SkipTest as reason:
                pytest.skip(str(reason))

    def tests(self) -> list[str]:
        """Return the names of the tests that the code defines."""
        body = ast.parse(self.code.parsed).body if isinstance(self.code.parsed, str) else []
        functions = [node for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        return [function.name for function in functions if function.name.startswith("test_")]


class Page:
    """A document, and the module that its blocks make up."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(ROOT).as_posix()
        self.module = ModuleType(f"page_{self.name.removesuffix('.md').replace('/', '_').replace('-', '_')}")
        document = Document.parse(str(path), PythonCodeBlockParser(), SkipParser())
        document.namespace = vars(self.module)
        self.blocks: list[Block] = []
        directives: list[Example] = []
        for example in document:
            directives.append(example)
            if not isinstance(example.parsed, tuple):  # a directive is parsed to its action and its reason
                self.blocks.append(Block(directives.pop(), directives))
                directives = []


PAGES = [Page(path) for path in PATHS]
DOCSTRINGS = [example for path in SOURCES for example in PythonDocStringDocument.parse(str(path), DocTestParser())]


@pytest.fixture
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """Make a page's module one that the container can look through, and give the client's page a worker."""
    page: Page = request.param
    monkeypatch.setitem(sys.modules, page.module.__name__, page.module)
    for name in ("services", "tasks", "client"):  # the pages have an application `shop`: it is the quickstart
        monkeypatch.setitem(sys.modules, f"shop.{name}", import_module(f"examples.quickstart.{name}"))
    with ExitStack() as stack:
        # A receiver of this signal keeps Celery from setting up the logging of this process, for good.
        signals.setup_logging.connect(_leave_logging_alone)
        stack.callback(signals.setup_logging.disconnect, _leave_logging_alone)

        def run_worker(app: Celery, queues: list[str]) -> None:
            worker = start_worker(app, pool="threads", concurrency=2, perform_ping_check=False, queues=queues)
            stack.enter_context(worker)

        if page.name == "docs/how-to/client.md":
            # Celery prefers these to what the page configures.
            monkeypatch.setenv("CELERY_BROKER_URL", "memory://")
            monkeypatch.setenv("CELERY_RESULT_BACKEND", "cache+memory://")
            vars(page.module)["run_worker"] = run_worker
        yield page
    close_runner()


def _leave_logging_alone(**_: object) -> None:
    pass


@pytest.mark.parametrize("page", PAGES, indirect=True, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Page, subtests: pytest.Subtests, request: pytest.FixtureRequest):
    for block in page.blocks:
        with subtests.test(msg=f"{page.name}:{block.code.line}"):
            block.run()
            for name in block.tests():
                test = vars(page.module)[name]
                fixtures = {fixture: request.getfixturevalue(fixture) for fixture in inspect.signature(test).parameters}
                outcome = test(**fixtures)
                if inspect.iscoroutine(outcome):
                    asyncio.run(outcome)


@pytest.mark.parametrize("example", DOCSTRINGS, ids=lambda example: f"{Path(example.path).name}:{example.line}")
def test_an_example_of_a_docstring_runs(example: Example):
    example.evaluate()


def test_few_blocks_are_skipped():
    skipped = [block for page in PAGES for block in page.blocks if block.directives]

    assert len(skipped) <= 3


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_the_first_block_is_the_quickstart(name: str):
    """What a newcomer reads first is what the demo runs."""
    block = next(page for page in PAGES if page.name == name).blocks[0]
    quickstart = {}
    for module in ("tasks", "client"):
        quickstart |= classes((ROOT / "examples" / "quickstart" / f"{module}.py").read_text())

    shown = classes(str(block.code.parsed))
    assert shown.keys() == {"OrderTasks", "OrderClient"}
    assert shown.items() <= quickstart.items()


def test_the_reference_has_every_public_name():
    lines = (ROOT / "docs" / "reference" / "api.md").read_text().splitlines()
    documented = {line.rpartition(".")[2] for line in lines if line.startswith("::: ")}

    assert set(pico_celery.__all__) <= documented


def classes(source: str) -> dict[str, str]:
    return {node.name: ast.dump(node) for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}

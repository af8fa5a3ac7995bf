"""The Python in the book runs: each snippet of its pages, on each loop."""

from __future__ import annotations

import ast
import asyncio
import inspect
import pathlib
import re

import millstream
import pytest

BOOK = pathlib.Path(__file__).parents[2] / "docs" / "book" / "src"


def snippets():
    for page in sorted(BOOK.rglob("*.md")):
        text = page.read_text()
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            # What is included from a file is tested as that file.
            if "{{#include" not in found[1]:
                line = text.count("\n", 0, found.start(1))
                name = f"{page.relative_to(BOOK)}:{line}"
                # The lines of a traceback are those of the page.
                yield pytest.param(name, "\n" * line + found[1], id=name)


FOUND = list(snippets())


@pytest.fixture(autouse=True)
def asyncio_as_it_was():
    yield
    millstream.uninstall()


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    await writer.aclose()


def test_there_are_snippets():
    assert len(FOUND) > 10


@pytest.mark.parametrize("name, source", FOUND)
def test_a_snippet_of_the_book_runs(run, name, source):
    code = compile(source, str(BOOK / name), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names = {"asyncio": asyncio, "millstream": millstream, "__name__": "__main__"}
    if "import millstream" in source:
        # A program of its own, which brings its loop with it.
        exec(code, names)
        return

    async def main():
        server = await millstream.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await millstream.open_connection("127.0.0.1", port)
        names.update(reader=reader, writer=writer, port=port)
        outcome = eval(code, names)
        if inspect.isawaitable(outcome):
            await outcome
        await writer.aclose()
        server.close()
        await server.wait_closed()

    run(main())

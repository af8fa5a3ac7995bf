"""What the tests share: a coroutine runner on each loop there is, and a leak check at the end of every test."""

from __future__ import annotations

import asyncio
import gc
import os
import sys

import pytest

try:
    import uvloop
except ImportError:
    uvloop = None


if uvloop is not None:
    # libuv opens some descriptors once for the whole process.
    uvloop.new_event_loop().close()


def pytest_collection_finish():
    """The collections at the ends of tests look only at what tests have made."""
    gc.collect()
    gc.freeze()


def loop_factories():
    yield pytest.param(asyncio.new_event_loop, id="asyncio")
    if uvloop is not None:
        yield pytest.param(uvloop.new_event_loop, id="uvloop")


@pytest.fixture(params=loop_factories())
def run(request):
    """Runs a coroutine on a loop of its own. What its callbacks raise fails the test."""
    loop = request.param()
    complaints = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    def run(coroutine):
        return loop.run_until_complete(asyncio.wait_for(coroutine, 60))

    run.loop = loop
    run.complaints = complaints
    yield run
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    gc.collect()
    assert complaints == []


@pytest.fixture(autouse=True)
def nothing_is_leaked():
    """Every test ends with the descriptors it began with."""
    if not sys.platform.startswith("linux"):
        yield
        return
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before

"""The examples in the docstrings run, and print what they say."""

from __future__ import annotations

import doctest

import millstream._stopping
import millstream.streams
import pytest


@pytest.mark.parametrize("module", [millstream.streams, millstream._stopping])
def test_the_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0

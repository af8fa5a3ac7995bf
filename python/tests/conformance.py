"""CPython's own tests of asyncio's streams and of what is built on them, unmodified, with the native streams installed.

    python conformance.py [file ...]

Each file runs in an interpreter of its own, once as it is and once under ``install()``: the second has to do at least as well
as the first, and ``test_streams`` has to pass whole. Skips by itself where the interpreter came without its tests.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

#: With the number of tests that each version is known to have; others are only printed.
FILES = ["test_streams", "test_subprocess", "test_buffered_proto", "test_ssl", "test_server"]
EXPECTED = {(3, 10): 63, (3, 11): 67, (3, 12): 67, (3, 13): 73}

RUN = """
import sys, unittest
if sys.argv[1] == "installed":
    import millstream
    millstream.install()
unittest.main(module=sys.argv[2], argv=["unittest"])
"""


def run(how: str, module: str) -> tuple[int, str]:
    """How many tests ran, and their verdict."""
    command = [sys.executable, "-c", RUN, how, module]
    output = subprocess.run(command, capture_output=True, text=True, timeout=600)
    ran = re.search(r"^Ran (\d+) tests?", output.stderr, re.MULTILINE)
    verdict = output.stderr.strip().splitlines()[-1] if output.stderr.strip() else "no output"
    if ran is None or output.returncode != 0:
        print(output.stderr, file=sys.stderr)
    return int(ran[1]) if ran else 0, verdict


def main() -> int:
    if importlib.util.find_spec("test.test_asyncio") is None:
        print("conformance: SKIPPED, this interpreter came without its `test` package")
        return 0
    failed = False
    for file in sys.argv[1:] or FILES:
        module = f"test.test_asyncio.{file}"
        if importlib.util.find_spec(module) is None:
            print(f"conformance: {file}: this version has none")
            continue
        count, verdict = run("installed", module)
        if file == "test_streams":
            good = verdict == "OK" and count >= EXPECTED.get(sys.version_info[:2], 1)
            print(f"conformance: {file}: {count} tests, {verdict}")
        else:
            before_count, before = run("stock", module)
            good = (count, verdict) == (before_count, before)
            print(f"conformance: {file}: {count} tests, {verdict} (without: {before_count}, {before})")
        failed |= not good
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

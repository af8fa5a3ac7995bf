"""redis-py's own tests of its asyncio client, from its sdist, against a real server: once as they are, once under
``install()``. What fails under it has to fail without it as well.

    python redis_py.py [file ...]

Needs ``redis-server``, and redis-py with the packages that its tests import (``.ci/redis-py`` sees to them). Tests that need a
cluster, a sentinel or certificates fail both times.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

FILES = """client command_parser commands connect connection connection_pool encoding hash lock monitor pipeline pubsub retry
scripting sentinel usage_counter utils""".split()

PLUGIN = "import millstream; millstream.install()\n"


def download(folder: Path) -> Path:
    """The sources of the redis-py that is installed."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wanted = ["download", "--no-deps", "--no-binary", "redis", "--dest", folder, f"redis=={version('redis')}"]
    subprocess.run([*pip, *wanted], check=True)
    archive = next(folder.glob("redis-*.tar.gz"))
    with tarfile.open(archive) as sources:
        sources.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def run(how: str, sources: Path, port: int, files: list[str]) -> tuple[set[str], str]:
    """What failed, and pytest's last line."""
    plugins = sources.parent / "plugins"
    plugins.mkdir(exist_ok=True)
    (plugins / "millstream_installed.py").write_text(PLUGIN)
    tests = [path for name in files if (path := f"tests/test_asyncio/test_{name}.py") and (sources / path).exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:logging", "--timeout", "60"]
    command += ["-p", "millstream_installed"] if how == "installed" else []
    output = subprocess.run(
        [*command, *tests, f"--redis-url=redis://127.0.0.1:{port}/0"],
        capture_output=True,
        text=True,
        cwd=sources,
        env={**os.environ, "PYTHONPATH": str(plugins)},
        timeout=1800,
    ).stdout
    failed = set(re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE))
    return failed, output.strip().splitlines()[-1] if output.strip() else "no output"


def main() -> int:
    program = shutil.which("redis-server")
    if program is None:
        print("redis-py: SKIPPED, redis-server was not found")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources = download(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([program, *options, "--enable-debug-command", "yes"], stdout=subprocess.DEVNULL)
        try:
            time.sleep(1)
            results = {how: run(how, sources, port, sys.argv[1:] or FILES) for how in ("stock", "installed")}
        finally:
            server.terminate()
            server.wait(10)
    for how, (_, verdict) in results.items():
        print(f"redis-py {version('redis')}, {how}: {verdict}")
    only_installed = results["installed"][0] - results["stock"][0]
    for name in sorted(only_installed):
        print(f"fails only under install(): {name}")
    passed = all(re.search(r"\b\d+ passed\b", verdict) for _, verdict in results.values())
    return int(bool(only_installed) or not passed)


if __name__ == "__main__":
    sys.exit(main())

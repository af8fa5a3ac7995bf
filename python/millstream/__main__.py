"""``python -m millstream script.py [argument ...]`` runs a script, or ``-m module``, with the native streams installed."""

from __future__ import annotations

import runpy
import sys

from . import install

_USAGE = "usage: python -m millstream [-m module | script.py] [argument ...]"


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        sys.exit(0 if arguments else 2)
    install()
    if arguments[0] == "-m":
        if len(arguments) < 2:
            sys.exit(_USAGE)
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


main()

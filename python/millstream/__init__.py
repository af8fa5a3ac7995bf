"""asyncio streams on a native core: bounded, cancel-safe reads and corked writes, on any loop.

``import millstream`` has the names of asyncio's streams. ``millstream.install()`` puts them in their place, so that every
library in the process that uses asyncio's streams runs on these.
"""

import sys

from ._install import install, is_installed, uninstall
from ._stats import ServerStats
from ._stopping import Stopped, Stopping
from .streams import (
    FlowControlMixin,
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    start_server,
)

__all__ = [
    "FlowControlMixin",
    "ServerStats",
    "Stopped",
    "Stopping",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "install",
    "is_installed",
    "open_connection",
    "start_server",
    "uninstall",
]

if sys.platform != "win32":
    from .streams import open_unix_connection, start_unix_server

    __all__ += ["open_unix_connection", "start_unix_server"]

__version__ = "0.1.0"

"""asyncio streams on a native core: bounded, cancel-safe reads and corked writes, on any loop.

``import millstream`` has the names of asyncio's streams. ``millstream.install()`` puts them in their place, so that every
library in the process that uses asyncio's streams runs on these.
"""

from ._install import install, is_installed, uninstall
from .streams import *  # noqa: F403
from .streams import __all__ as _streams

__all__ = [*_streams, "install", "is_installed", "uninstall"]
__version__ = "0.1.0"

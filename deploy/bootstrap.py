"""Create .venv with everything that Clamor and its tests need. Run by `make setup`.

Needs only Python 3.11. All packages are pinned with hashes in requirements.lock, except torch and
torchaudio: their builds differ by machine, and the registry's build for Linux includes several
gigabytes of CUDA that Clamor does not use. A run on a complete .venv ends at once; after an
interrupted run, run it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
#: Contains the fingerprint of the last complete run.
STAMP = VENV / "setup-complete"
#: Exists while pip writes. If it exists at the start, pip was interrupted.
WRITING = VENV / "setup-writing"

TORCH = "torch==2.13.0"
TORCHAUDIO = "torchaudio==2.11.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
#: How long PyTorch's CPU index may take to answer before another source is used.
PROBE_S = 3.0
N_STEPS = 7
#: Time limit for the weights of the backbone, which are optional.
FETCH_S = 60

#: Environment variables that would make pip write outside .venv.
FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PIP_PREFIX", "PIP_ROOT", "PIP_TARGET", "PIP_USER")
#: Packages that a CPU build of torch does not need, although the registry's metadata may list them.
CUDA = re.compile(r"requires (nvidia|cuda|triton)[^,]*, which is not installed")

#: Run in the new environment: importing compiled packages fails if a library is missing.
IMPORTS = "import av, msgspec, numpy, obstore, psycopg, scipy, sklearn, soundfile, soxr, torch"


class SetupError(Exception):
    """Setup cannot continue; the message gives the reason and the remedy."""


def main() -> int:
    quiet = "--quiet" in sys.argv[1:]
    try:
        check_interpreter()
        if is_complete():
            if not quiet:
                print("Already set up: .venv matches requirements.lock.")
                fetch_backbone()
            return 0
        set_up()
    except SetupError as error:
        print(f"\nSetup failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSetup was interrupted; run `make setup` again.", file=sys.stderr)
        return 130
    return 0


def check_interpreter() -> None:
    if sys.version_info[:2] != (3, 11):
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"Clamor needs Python 3.11 and this is {found} ({sys.executable}).\n"
            "Install Python 3.11, or give its path: make setup PYTHON=/path/to/python3.11"
        )


def is_complete() -> bool:
    """Return whether a run with exactly these files has completed."""
    try:
        return STAMP.read_text() == fingerprint() and PYTHON.exists()
    except OSError:
        return False


def fingerprint() -> str:
    digest = hashlib.sha256(f"{ROOT}\n{sys.version}\n".encode())
    for path in (LOCK, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def set_up() -> None:
    started = time.monotonic()
    print("Setting up Clamor in .venv. The first time this downloads several hundred megabytes.")
    make_environment()
    step(2, "Installing the pinned pip")
    install_pinned_pip()
    step(3, "Installing the locked packages (requirements.lock)")
    pip("install", "--no-deps", "--require-hashes", "-r", str(LOCK))
    step(4, f"Installing {TORCH} and {TORCHAUDIO}")
    install_torch()
    step(5, "Installing Clamor itself, editable")
    pip("install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    step(6, "Checking that all packages are installed and load")
    verify()
    STAMP.write_text(fingerprint())
    step(7, "Fetching the weights of the backbone")
    fetch_backbone()
    print(f"Done in {time.monotonic() - started:.0f} s. Try `make demo`, or `make help`.")


def step(number: int, what: str) -> None:
    print(f"[{number}/{N_STEPS}] {what}", flush=True)


def say(what: str) -> None:
    print(f"      {what}", flush=True)


# -- The environment and pip -------------------------------------------------------------------


def make_environment() -> None:
    """Create .venv, or keep an existing one that works."""
    if is_sound():
        step(1, "Keeping the existing environment .venv")
        STAMP.unlink(missing_ok=True)
        return
    step(1, f"Creating the environment .venv with Python {sys.version.split()[0]}")
    if WRITING.exists():
        say("an earlier setup was interrupted; creating its environment again")
    try:
        import ensurepip  # noqa: F401
        import venv
    except ImportError:
        raise SetupError(
            "this Python has no venv module. On Debian and Ubuntu: apt-get install python3.11-venv"
        ) from None
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f".venv could not be created: {error}") from error


def is_sound() -> bool:
    """Return whether .venv has a working Python 3.11 with pip, and no interrupted pip run."""
    if WRITING.exists() or not PYTHON.exists():
        return False
    probe = "import pip, sys; sys.exit(sys.version_info[:2] != (3, 11))"
    return run_quietly("-c", probe).returncode == 0


def pip(*arguments: str) -> None:
    """Run pip in .venv; at a terminal it shows its progress."""
    # Twice: with custom indexes, pip would otherwise print a warning per package.
    quiet = () if sys.stdout.isatty() else ("--quiet", "--quiet")
    WRITING.touch()
    # pip runs in a separate process, since it may be replacing itself.
    command = [str(PYTHON), "-m", "pip", *arguments, *quiet]
    code = subprocess.run(command, check=False, env=environment()).returncode
    # Also reached if pip failed cleanly; the next run then continues from here.
    WRITING.unlink()
    if code:
        raise SetupError(
            "pip could not install the packages; see its message above.\n"
            "If it mentions connections or names that do not resolve, there is no network, or a\n"
            "proxy blocks it. Fix that, and run `make setup` again: it continues from there."
        )


def run_quietly(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON), *arguments]
    return subprocess.run(command, check=False, env=environment(), text=True, capture_output=True)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def install_pinned_pip() -> None:
    """Install the pinned pip in a separate step, so that it does not replace itself in mid-run."""
    block = re.search(r"^pip==.*\n(?:[ #].*\n)*", LOCK.read_text(), re.MULTILINE)
    if block is None:
        raise SetupError("requirements.lock has no pip; run `make lock`")
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "pip.txt"
        requirements.write_text(block.group())
        pip("install", "--no-deps", "--require-hashes", "-r", str(requirements))


# -- torch -------------------------------------------------------------------------------------


def install_torch() -> None:
    """Install the smallest available build of torch for this machine."""
    if cpu_index_answers():
        say("PyTorch's CPU index answers: installing both from there")
        try:
            pip("install", "--no-deps", "--index-url", CPU_INDEX, TORCH, TORCHAUDIO)
            return
        except SetupError:
            say("that failed; trying pip's default index")
    else:
        say(f"PyTorch's CPU index does not answer within {PROBE_S:.0f} s")
    version = version_that_pip_finds(TORCH)
    if version.endswith("+cpu"):
        say(f"pip finds a CPU build: installing torch {version} without CUDA")
        pip("install", "--no-deps", TORCH, TORCHAUDIO)
        return
    if sys.platform == "linux":
        say("WARNING: pip finds no CPU build. Installing the registry's torch with CUDA:")
        say("this downloads several gigabytes, and may take a long time.")
    pip("install", TORCH)
    pip("install", "--no-deps", TORCHAUDIO)


def cpu_index_answers() -> bool:
    """Return whether PyTorch's index of CPU builds answers within ``PROBE_S``."""
    import threading
    import urllib.request

    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=PROBE_S) as response:
                if response.status == 200:
                    answered.set()
        except (OSError, ValueError):
            pass

    # A socket's timeout does not cover the name lookup; this join does.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PROBE_S)
    return answered.is_set()


def version_that_pip_finds(requirement: str) -> str:
    """Return the version that pip would install, with its local part; empty if it finds none."""
    options = ("--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-")
    answer = run_quietly("-m", "pip", "install", *options, requirement)
    try:
        return str(json.loads(answer.stdout)["install"][0]["metadata"]["version"])
    except (ValueError, LookupError):
        return ""


# -- The check ---------------------------------------------------------------------------------


def verify() -> None:
    """Check that each locked version is installed and that the compiled packages load."""
    listed = run_quietly("-m", "pip", "list", "--format=json")
    there = {canonical(entry["name"]): entry["version"] for entry in json.loads(listed.stdout)}
    locked = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", LOCK.read_text(), re.MULTILINE)
    wrong = [f"{name} {want}" for name, want in locked if there.get(canonical(name)) != want]
    if wrong:
        raise SetupError(f"not as locked: {', '.join(wrong)}. Remove .venv and run it again.")
    complaints = run_quietly("-m", "pip", "check").stdout.splitlines()
    unmet = [line for line in complaints if "requires" in line and not CUDA.search(line)]
    if unmet:
        raise SetupError(
            "the packages are incompatible. If pyproject.toml was changed, run `make lock`.\n"
            + "\n".join(unmet)
        )
    loaded = run_quietly("-c", IMPORTS)
    if loaded.returncode:
        raise SetupError(f"a package is installed but does not load:\n{loaded.stderr.strip()}")
    say(f"{len(locked)} locked packages and torch {there.get('torch')} are in place and load")


# -- The backbone ------------------------------------------------------------------------------


def fetch_backbone() -> None:
    """Fetch the weights of the backbone. They are optional, so a failure only prints a line."""
    command = [str(VENV / "bin" / "clamor"), "model", "fetch", "--limit-s", str(FETCH_S)]
    try:
        ended = subprocess.run(
            command,
            check=False,
            env=environment(),
            text=True,
            capture_output=True,
            timeout=2 * FETCH_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"no backbone: `clamor model fetch` failed ({type(error).__name__})")
        return
    lines = (ended.stderr if ended.returncode else ended.stdout).splitlines()
    prefix = "no backbone, Clamor runs without it: " if ended.returncode else ""
    say(prefix + "".join(lines[-1:]).removeprefix("clamor: "))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())

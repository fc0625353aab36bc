"""Look up the locked packages in the OSV database of known vulnerabilities.

    python -m deploy.audit [--url URL]

Exits with 0 if none is known, with 1 if some are, and with 2 if it could not look: an answer that
does not come is not a good one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
OSV_URL = "https://api.osv.dev/v1/querybatch"
TIMEOUT_S = 60.0

#: A pinned requirement: in the lock, or among the dependencies, which alone have torch.
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


class Package(NamedTuple):
    """A package of the registry, in one version."""

    name: str
    version: str


class CouldNotLook(Exception):
    """The database of vulnerabilities gave no usable answer."""


def packages() -> list[Package]:
    """Return all packages that an installation has, by the lock and the pinned dependencies."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = (ROOT / "requirements.lock").read_text() + "\n".join(dependencies)
    return sorted({Package(*found) for found in _PINNED.findall(pins)})


def look_up(asked: Sequence[Package], *, url: str = OSV_URL) -> dict[Package, list[str]]:
    """Return the IDs of the known vulnerabilities of each package that has some.

    Raises
    ------
    CouldNotLook
    """
    queries = [
        {"package": {"ecosystem": "PyPI", "name": each.name}, "version": each.version}
        for each in asked
    ]
    request = urllib.request.Request(
        url,
        data=json.dumps({"queries": queries}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            results = json.load(response)["results"]
        found = [[each["id"] for each in result.get("vulns", [])] for result in results]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CouldNotLook(f"{url} gave no usable answer: {error}") from error
    if len(found) != len(asked):
        raise CouldNotLook(f"{url} answered for {len(found)} of {len(asked)} packages")
    return {package: ids for package, ids in zip(asked, found, strict=True) if ids}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is known; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=OSV_URL)
    url = parser.parse_args(arguments).url
    asked = packages()
    try:
        found = look_up(asked, url=url)
    except CouldNotLook as error:
        print(f"Could not look for vulnerabilities: {error}", file=sys.stderr)
        return 2
    for package, ids in found.items():
        print(f"{package.name} {package.version}: {', '.join(ids)}")
    print(f"{len(found)} of {len(asked)} packages have known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

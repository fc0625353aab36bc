"""Print the software bill of materials of the image, with licences, as CycloneDX JSON.

    python -m deploy.sbom > sbom.json

The packages and versions are those of the lock; licences are what the installed packages state.
"""

from __future__ import annotations

import json
import sys
import tomllib
from importlib import metadata
from typing import Any

from deploy.audit import ROOT, Package, packages
from deploy.image_lock import image_lock, name_of

#: Not in the lock, since their build depends on the machine.
OF_THE_MACHINE = frozenset({"torch", "torchaudio"})
_CLASSIFIER = "License :: OSI Approved :: "


def document() -> dict[str, Any]:
    """Return the bill of materials."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": project["name"],
                "version": project["version"],
                "licenses": [{"expression": project["license"]}],
            }
        },
        "components": [_component(each) for each in of_the_image()],
    }


def of_the_image() -> list[Package]:
    """Return the packages that the image has."""
    files = (ROOT / "pyproject.toml", ROOT / "requirements.lock")
    locked = image_lock(*(each.read_text() for each in files))
    needed = {name_of(each) for each in locked.splitlines() if each[:1].isalnum()}
    return [each for each in packages() if name_of(each.name) in needed | OF_THE_MACHINE]


def licence_of(name: str) -> str:
    """Return the licence that an installed package states.

    Raises
    ------
    LookupError
        If it states none, or is not installed.
    """
    stated: Any = metadata.metadata(name)
    named = [
        each.rpartition(" :: ")[2]
        for each in stated.get_all("Classifier", [])
        if each.startswith(_CLASSIFIER)
    ]
    # Some put the whole text there.
    old = (stated.get("License") or "").strip().partition("\n")[0]
    if found := stated.get("License-Expression") or " AND ".join(named) or old:
        return found
    raise LookupError(f"{name} states no licence")


def _component(package: Package) -> dict[str, Any]:
    return {
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": f"pkg:pypi/{name_of(package.name)}@{package.version}",
        "licenses": [{"license": {"name": licence_of(package.name)}}],
    }


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
    print()

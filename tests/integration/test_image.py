"""The image: what deploy/Dockerfile installs and copies, checked against pyproject.toml."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from setuptools import find_namespace_packages

from deploy import image_lock
from deploy.lock import LEFT_TO_THE_MACHINE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PYPROJECT)["project"]
#: Not in the lock: the right build depends on the machine.
TORCH = {"torch", "torchaudio"}


def closure(requirements: list[str]) -> set[str]:
    """Return the transitive requirements, by the metadata of the installed distributions."""
    todo = [Requirement(each) for each in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        each = todo.pop()
        key = (image_lock.name_of(each.name), frozenset(each.extras))
        is_left_out = LEFT_TO_THE_MACHINE.fullmatch(key[0]) and key[0] not in TORCH
        if key in seen or is_left_out:
            continue
        seen.add(key)
        for text in metadata.requires(each.name) or ():
            more = Requirement(text)
            if more.marker is None or any(
                more.marker.evaluate({"extra": extra}) for extra in ("", *each.extras)
            ):
                todo.append(more)
    return {name for name, _ in seen}


def in_the_image() -> set[str]:
    lock = image_lock.image_lock(PYPROJECT, (ROOT / "requirements.lock").read_text())
    return set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))


def test_the_image_has_what_the_product_needs_and_nothing_else() -> None:
    assert in_the_image() == closure(PROJECT["dependencies"]) - TORCH


def test_no_package_of_the_test_bench_is_in_the_image() -> None:
    dev = {image_lock.name_of(each) for each in PROJECT["optional-dependencies"]["dev"]}
    product = closure(PROJECT["dependencies"])
    # psutil comes with the embedded Postgres, setuptools with torch.
    assert dev & in_the_image() == dev & product == {"psutil", "setuptools"}


def test_the_lock_keeps_its_hashes() -> None:
    lock = image_lock.image_lock(PYPROJECT, (ROOT / "requirements.lock").read_text())
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(blocks) > 50
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


def statements(within: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements at any depth, without their expressions: most nodes are in those."""
    for node in ast.iter_child_nodes(within):
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield node
            yield from statements(node)


def test_every_import_of_the_product_is_in_the_image() -> None:
    """Imports within functions count too, since they would fail late."""
    owners = metadata.packages_distributions()
    there = in_the_image() | TORCH | {"clamor"}
    missing = set()
    for file in (
        path for each in ("services", "actors", "db") for path in (ROOT / each).rglob("*.py")
    ):
        for node in statements(ast.parse(file.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
                if not there & set(map(image_lock.name_of, owners.get(name, [name]))):
                    missing.add((file.name, name))
    assert missing == set()


def test_all_packages_are_installed_but_what_makes_the_shipped_model() -> None:
    find = tomllib.loads(PYPROJECT)["tool"]["setuptools"]["packages"]["find"]
    installed = find_namespace_packages(str(ROOT), **find)
    written = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for each in ("services", "actors", "db")
        for path in (ROOT / each).rglob("__init__.py")
    }
    assert written - set(installed) == {"actors.training.shipped_model"}


def test_the_dockerfile_pins_torch_as_the_project_does() -> None:
    pinned = {each for each in PROJECT["dependencies"] if image_lock.name_of(each) in TORCH}
    assert pinned == set(re.findall(r"\b(?:torch|torchaudio)==[\d.]+", DOCKERFILE))


def test_a_build_that_cannot_fetch_the_backbone_goes_on(tmp_path: Path) -> None:
    command = re.findall(r"^RUN (/opt/clamor/bin/clamor (?:.*\\\n)*.*)", DOCKERFILE, re.MULTILINE)
    assert len(command) == 1
    ran = subprocess.run(
        ["/bin/sh", "-c", command[0].replace("/opt/clamor/bin/clamor", "$CLAMOR")],
        env=os.environ
        | {
            "CLAMOR": f"{sys.executable} -m services.cli",
            "CLAMOR_BACKBONE_URL": f"{tmp_path}/x.pt#sha256={'0' * 64}",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "x was not fetched" in ran.stderr
    assert "The image has no backbone" in ran.stdout


def test_the_builder_gets_what_the_dockerfile_copies_and_nothing_else() -> None:
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        copied |= set(line.split()[:-1])
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {line[1:] for line in patterns if line.startswith("!")} == copied
    assert all((ROOT / each).exists() for each in copied)
    assert {"**/__pycache__", "**/*.py[co]"} == {p for p in patterns[1:] if p[0] != "!"}

"""The command lines of the documents, as scripts that can be run.

The words after ``sh`` at the start of a block determine how it is run:

- nothing: it must succeed, and so must each request in it;
- ``walk``: the next block is its expected output;
- ``refused``: its last request is refused;
- ``up``: it starts a service;
- ``not-run: REASON``: it is not run here.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
#: Documents that start a service and walk through its API, each as one script.
WALKS = (README, TUTORIAL)
DOCUMENTS = (README, *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^( *)```(.*)\n((?:(?! *```).*\n)*) *```$", re.MULTILINE)
NOT_RUN = "not-run: "
#: By default a refused request fails its command without output; here the response is needed.
SHOW_REFUSAL = 'curl() { command curl --no-fail --fail-with-body "$@"; }\n'
#: Separates the outputs of two steps.
END = "--- end of a step ---"


@dataclass
class Step:
    """A block of command lines, and the expected output after it."""

    script: str
    how: str = ""
    answer: str | None = None
    is_json: bool = False

    @property
    def reason(self) -> str | None:
        """Why the block is not run here, or None."""
        return self.how.removeprefix(NOT_RUN) if self.how.startswith(NOT_RUN) else None

    def shell(self) -> str:
        """The bash script of the block."""
        script = self.script
        if "refused" in self.how:
            script = (
                f"{SHOW_REFUSAL}if {{ {script} }}; then echo 'it was not refused' >&2; exit 1; fi\n"
                "unset -f curl\n"
            )
        return f"{script}echo; echo '{END}'\n"


def steps(document: Path) -> list[Step]:
    """Return the blocks of command lines of a document, in order."""
    found: list[Step] = []
    is_walk = False
    for _, kind, text in BLOCK.findall(document.read_text()):
        language, _, how = kind.partition(" ")
        if is_walk and language != "sh":
            found[-1].answer, found[-1].is_json = text, language == "json"
        if language == "sh":
            found.append(Step(textwrap.dedent(text), how))
        is_walk = language == "sh" and how.startswith("walk")
    return found

"""The command lines of the documents, as scripts that can be run.

What stands behind ``sh`` at the begin of a block says how it is run:

- nothing: it must succeed, and so must each request in it;
- ``walk``: the block behind it is its output;
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
DOCUMENTS = (README, *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^( *)```(.*)\n((?:(?! *```).*\n)*) *```$", re.MULTILINE)
NOT_RUN = "not-run: "
#: Each request that is refused fails its command and shows nothing; here the answer is wanted.
SHOW_REFUSAL = 'curl() { command curl --no-fail --fail-with-body "$@"; }\n'
#: Between the outputs of two steps.
END = "--- end of a step ---"


@dataclass
class Step:
    """A block of command lines, and the answer that stands behind it."""

    script: str
    how: str = ""
    answer: str | None = None
    is_json: bool = False

    @property
    def reason(self) -> str | None:
        """Why it is not run here, or None."""
        return self.how.removeprefix(NOT_RUN) if self.how.startswith(NOT_RUN) else None

    def shell(self) -> str:
        """What bash runs for it."""
        script = self.script
        if "refused" in self.how:
            script = (
                f"{SHOW_REFUSAL}if {{ {script} }}; then echo 'it was not refused' >&2; exit 1; fi\n"
                "unset -f curl\n"
            )
        return f"{script}echo; echo '{END}'\n"


def steps(document: Path) -> list[Step]:
    """The blocks of command lines of a document, in their order."""
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

"""The science alone: answer each path on standard input with a line of events, without storing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.benchmarks.peers import science


def main() -> None:
    """Answer until the input ends."""
    science.model()
    print("[]", flush=True)
    for line in sys.stdin:
        _, found = science.complete(Path(line.rstrip("\n")))
        print(json.dumps(found.events), flush=True)


if __name__ == "__main__":
    main()

"""Types that several threads use for the first time at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Uses new types of new parts in four threads at once, which take turns as often as possible. With
#: msgspec alone, it ends with a segmentation fault.
RACE = """
from __future__ import annotations
import sys
import threading
import msgspec
{imported}

PART = "class Part{{i}}(msgspec.Struct):\\n    a: list[int] | None = None\\n"
FIELD = "    field_{{i}}: Part{{i}} | None = None\\n"
TYPES = "".join(PART.format(i=i) for i in range(20)) + "class Whole(msgspec.Struct):\\n"
TYPES = compile(TYPES + "".join(FIELD.format(i=i) for i in range(20)), "types", "exec")

def use(kind, together):
    together.wait()
    assert {used}.field_19.a == [1]

sys.setswitchinterval(1e-6)
for _ in range(80):
    exec(TYPES)
    started = [Whole, threading.Barrier(4)]
    threads = [threading.Thread(target=use, args=started) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
DATA = """b'{"field_19": {"a": [1]}}'"""
VALUE = """{"field_19": {"a": [1]}}"""


@pytest.mark.parametrize(
    ("imported", "used"),
    [
        ("from db import typed", f"typed.decode({DATA}, kind)"),
        ("from db import typed", f"typed.convert({VALUE}, kind)"),
        ("from services.client import typed", f"typed.decode({DATA}, kind)"),
    ],
)
def test_the_first_use_in_several_threads_ends_no_process(
    tmp_path: Path, imported: str, used: str
) -> None:
    program = tmp_path / "race.py"
    program.write_text(RACE.format(imported=imported, used=used))
    ended = subprocess.run([sys.executable, program], check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")

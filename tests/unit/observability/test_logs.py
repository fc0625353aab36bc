"""The log has one line of JSON for each event, whoever writes it."""

from __future__ import annotations

import json
import subprocess
import sys

#: A process that logs, and in which libraries log, warn and fail.
PROGRAM = """
import logging, threading, warnings
from actors.observability import logs

class Failing:
    def __del__(self):
        raise ValueError("in a finaliser")

def fail():
    raise ValueError("in a thread")

logs.configure("INFO")
logging.getLogger("library").critical("lost its %s", "connection")
warnings.warn("two\\nlines", RuntimeWarning)
Failing()
thread = threading.Thread(target=fail, name="failing")
thread.start()
thread.join()
raise ValueError("at the end")
"""


def test_what_libraries_and_python_report_is_json_and_no_loss() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    logged, warned, unraisable, of_thread, last = map(json.loads, ended.stderr.splitlines())
    assert (logged["event"], logged["level"]) == ("lost its connection", "error")
    assert (warned["logger"], warned["level"]) == ("py.warnings", "warning")
    assert "RuntimeWarning: two\nlines" in warned["event"]
    errors = {"unraisable": unraisable, "thread": of_thread, "process": last}
    assert {each["level"] for each in errors.values()} == {"error"}
    assert "in a finaliser" in unraisable["exception"]
    assert of_thread["thread"] == "failing"
    assert "in a thread" in of_thread["exception"]
    assert "at the end" in last["exception"]

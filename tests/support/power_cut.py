"""What a power failure leaves of a folder, from the system calls of the process that wrote it.

Pessimistic, as a file system may be: of a file, only what was written before its last completed
``fsync`` began; of a name, only what its folder had before that folder's last completed ``fsync``
began.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: The calls that write files, name or flush them, and those that send statements.
TRACED = (
    "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,sendto,sendmsg"
)
#: Bytes of each text that are recorded: the whole of a statement and its parameters.
SHOWN_BYTES = 8192
_LINE = re.compile(r"^(\d+) +(.*)$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_UNFINISHED = " <unfinished ...>"
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)(.*)")
_PATH_OF_FD = re.compile(r"^-?\d+<([^>]*)>")
_TEXTS = re.compile(r'"((?:[^"\\]|\\.)*)"')
_COMMIT = re.compile(r'"Q.*COMMIT')


def command(log: Path) -> tuple[str, ...]:
    """Return the prefix of a command that records its calls, and those of its children."""
    return ("strace", "-f", "-y", "-s", str(SHOWN_BYTES), "-e", f"trace={TRACED}", "-o", str(log))


@dataclass(frozen=True)
class Call:
    """A system call that had an effect, or showed that of another: its thread, and the lines at
    which it began and ended.
    """

    thread: int
    name: str
    arguments: str
    result: int
    began: int
    ended: int

    @property
    def file(self) -> str:
        """The path of the descriptor that is its first argument."""
        found = _PATH_OF_FD.match(self.arguments)
        return found[1] if found else ""

    @property
    def paths(self) -> list[str]:
        """The paths among its arguments."""
        return _TEXTS.findall(self.arguments)

    @property
    def is_sent(self) -> bool:
        """Whether it sends something, such as statements to Postgres."""
        return self.name in ("sendto", "sendmsg")

    @property
    def is_commit(self) -> bool:
        """Whether it sends a commit to Postgres."""
        return self.is_sent and _COMMIT.search(self.arguments) is not None


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """Yield the calls of a record, in the order of their ends: those that succeeded, and those that
    found a folder there.
    """
    begun: dict[int, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line.rstrip("\n"))
        if found is None:
            continue
        thread, text, began = int(found[1]), found[2], number
        if text.endswith(_UNFINISHED):
            begun[thread] = number, text.removesuffix(_UNFINISHED)
            continue
        if (resumed := _RESUMED.match(text)) and thread in begun:
            began, start = begun.pop(thread)
            text = start + resumed[2]
        if (call := _CALL.match(text)) and (int(call[3]) >= 0 or call[4].startswith(" EEXIST")):
            yield Call(thread, call[1], call[2], int(call[3]), began, number)


@dataclass
class Disk:
    """The state of a folder after some calls, and the part that a power failure would leave."""

    root: str
    #: Bytes of each file by the path under which it was written: all, and those on disk.
    written: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    flushed: dict[str, int] = field(default_factory=dict)
    #: The path under which the file of a name was written, and the line at which it got the name.
    named: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: The last flush of each folder: the line at which it began.
    folders: dict[str, int] = field(default_factory=dict)

    def apply(self, call: Call) -> None:
        """Carry out a call."""
        if call.name in ("write", "pwrite64", "writev"):
            self.written.setdefault(call.file, []).append((call.ended, call.result))
        elif call.name in ("fsync", "fdatasync"):
            # Of a file or of a folder.
            self.flushed[call.file] = self._size(call.file, before=call.began)
            self.folders[call.file] = call.began
        elif call.name.startswith("rename"):
            source, to = call.paths
            self.named[to] = source, call.ended
        elif call.name.startswith("mkdir"):
            # The end of the call that made it may be recorded later than that of one that found it.
            self.named.setdefault(call.paths[0], ("", call.ended))

    def survives(self, path: str) -> int | None:
        """Return the bytes that a power failure leaves of a file; None without its name."""
        if path not in self.named or not self._is_named(path):
            return None
        return self.flushed.get(self.named[path][0], 0)

    def _is_named(self, path: str) -> bool:
        if path == self.root or path not in self.named:
            # It was there before the process started.
            return True
        folder = str(Path(path).parent)
        return self.folders.get(folder, -1) >= self.named[path][1] and self._is_named(folder)

    def _size(self, path: str, *, before: int) -> int:
        return sum(n_bytes for ended, n_bytes in self.written.get(path, ()) if ended < before)


def lost(made: Iterable[Call], *, root: Path, sizes: dict[str, int]) -> tuple[set[str], set[str]]:
    """Cut the power after each call in turn; return the committed files, and those that are lost.

    A file is committed once a thread that has sent its key to Postgres sends a commit.

    Parameters
    ----------
    made
        The calls, in the order of their ends.
    root
        The folder.
    sizes
        The whole size in bytes of each file, by its path.
    """
    disk = Disk(str(root))
    keys = {str(Path(path).relative_to(root)): path for path in sizes}
    waiting: dict[int, set[str]] = {}
    committed: set[str] = set()
    gone: set[str] = set()
    # A commit may be carried out as soon as it is sent, and a flush not before it has returned.
    for call in sorted(made, key=lambda each: each.began if each.is_sent else each.ended):
        if call.is_sent:
            sent = {path for key, path in keys.items() if key in call.arguments}
            waiting.setdefault(call.thread, set()).update(sent)
            if call.is_commit:
                committed |= waiting.pop(call.thread)
        else:
            disk.apply(call)
        gone |= {path for path in committed if disk.survives(path) != sizes[path]}
    return committed, gone

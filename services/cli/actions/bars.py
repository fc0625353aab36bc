"""Progress bars at a terminal, and lines of progress in a log."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

#: Percent between two lines in a log.
_TOLD_PERCENT = 10


class Bars(Progress):
    """A bar per task, with a percentage and a ``stage``; ``more`` columns follow it."""

    def __init__(self, console: Console, *more: ProgressColumn) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[stage]}", markup=False),
            TimeElapsedColumn(),
            *more,
            console=console,
        )
        self._told: dict[TaskID, int] = {}

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Update a task as `Progress.update` does; without a terminal, print a line per tenth."""
        super().update(task_id, **changes)
        task = self.tasks[task_id]
        tenth = int(task.percentage // _TOLD_PERCENT)
        if not self.console.is_terminal and tenth > self._told.get(task_id, 0):
            self._told[task_id] = tenth
            said = f"{task.description}: {task.percentage:.0f} %  {task.fields['stage']}"
            self.console.print(said, markup=False, highlight=False)

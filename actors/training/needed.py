"""The backbone, for jobs that require it."""

from __future__ import annotations

from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.science.detection.tagging.tagger import Tagger


def needed_backbone(runtime: Runtime, what: str) -> Tagger:
    """Return the backbone with the base types.

    Raises
    ------
    Permanent
        If this worker has none: ``what`` needs it, and a retry would not help.
    """
    if runtime.tagger is None:
        raise Permanent(
            "no-backbone",
            f"{what} needs the backbone, and this worker has none: {runtime.backbone_state}. Where "
            "the workers run, unset CLAMOR_BACKBONE_URL if it is `off`, run `clamor model fetch` "
            "and restart them; then post it again",
        )
    return runtime.tagger

"""The base types beside a session's model, if the worker has the backbone of the session.

`split` writes the audio for its backbone and records which one that is. The sounds of a session
are named by this backbone only. If the worker that aggregates the session has none or another, it
leaves the session to other workers. After `PATIENCE_S` without a worker that has it, the model
alone names the sounds, and the session says so.
"""

from __future__ import annotations

import structlog

from actors.audio import pcm
from actors.execution.failures import BackboneOnOtherWorker
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.science.detection.classifier import Classifier
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.detection.tagging.tagger import Tagger
from db.queries import session_queries
from db.queries.stage_results import BackboneOfSplit
from db.tables.sessions import AudioSession

log = structlog.get_logger(__name__)

#: How long a session waits for a worker that has its backbone. A rolling update, or the fetch of
#: the weights on a new machine, takes less.
PATIENCE_S = 600.0


def of_split(tagger: Tagger | None) -> BackboneOfSplit:
    """Return the columns that record the backbone of the worker that splits a session."""
    if tagger is None:
        return BackboneOfSplit(backbone=None, backbone_sha256=None)
    return BackboneOfSplit(backbone=tagger.name, backbone_sha256=_sha256(tagger))


def opinion_of(
    runtime: Runtime, session: AudioSession, model: Classifier, lease: Lease
) -> SecondOpinion | None:
    """Return the second opinion by the backbone that the session was split for.

    It covers the base types and the model's own types. None if the session was split without a
    backbone, or has waited for `PATIENCE_S`.

    Raises
    ------
    BackboneOnOtherWorker
        If this worker lacks the backbone and another may have it.
    """
    if session.wide_pcm_key is None:
        return None
    tagger = runtime.tagger_for(model)
    if tagger is not None and session.backbone_sha256 in (None, _sha256(tagger)):
        read, n_samples = pcm.wide_reader(runtime.blobs, session, lease, with_filled_holes=True)
        return SecondOpinion(tagger, read, n_samples)
    with runtime.store.transaction() as tx:
        waited_s = session_queries.waited_for_backbone_s(tx, session.id)
    if waited_s < PATIENCE_S:
        raise BackboneOnOtherWorker(
            f"its worker does not have the backbone {session.backbone}, which others may have"
        )
    log.warning("backbone_not_found", session_id=str(session.id), backbone=session.backbone)
    return None


def note_of(runtime: Runtime, session: AudioSession, opinion: SecondOpinion | None) -> str | None:
    """Return why the model alone named the sounds although the installation has a backbone.

    None if the backbone named them, or if the installation has none.
    """
    if opinion is not None:
        return None
    if session.wide_pcm_key is not None:
        why = f"no worker that has the backbone {session.backbone} came for {PATIENCE_S:.0f} s"
    elif runtime.tagger is not None:
        why = "the worker that decoded the recording has no backbone"
    else:
        return None
    return (
        f"the model alone named the sounds, since {why}: run `clamor model fetch` where workers"
        " lack it, restart them, and send the recording again"
    )


def _sha256(tagger: Tagger) -> str:
    """Return the hash of the weights of a tagger, the only ones that its head fits."""
    return str(tagger.head.header["backbone_sha256"])

"""``/v1/noise-types``: the tree of noise types, with names in several languages."""

from __future__ import annotations

import falcon
import msgspec

from actors.facts import noise_types
from services.http import languages, responses
from services.http.operations import operation


class NoiseType(msgspec.Struct, kw_only=True):
    """A noise type or a group of them."""

    #: What detections, filters and exports call it.
    name: str
    #: The type or group above it; null for a group.
    parent: str | None
    #: The group that it belongs to; its own name for a group.
    group: str
    #: Its name for people, in the language of the answer.
    label: str
    #: The same in all languages, by IETF tag.
    labels: dict[str, str]
    #: The AudioSet classes that it stands for.
    audioset_ids: list[str]
    #: Its class in the urban sound taxonomy (Salamon, Jacoby and Bello, 2014).
    urban_sound_taxonomy: str | None
    #: Its source in Directive 2002/49/EC: ``road``, ``rail``, ``air`` or ``industry``.
    noise_directive: str | None

    @classmethod
    def of(cls, row: noise_types.NoiseType, *, language: str) -> NoiseType:
        """The noise type of a row of the table."""
        return cls(
            name=row.name,
            parent=row.parent,
            group=row.group,
            label=row.names[language],
            labels=dict(row.names),
            audioset_ids=list(row.audioset_ids),
            urban_sound_taxonomy=row.urban_sound_taxonomy or None,
            noise_directive=row.noise_directive or None,
        )


class NoiseTypes(msgspec.Struct, kw_only=True):
    """The tree of noise types. A model may report types that are not in it."""

    #: Changes with the names of the types and with their places in the tree.
    version: str
    #: The language of each ``label``, as an IETF tag.
    language: str
    #: A group comes before its types, and a type before its kinds.
    items: list[NoiseType]


class NoiseTypeList:
    """``GET /v1/noise-types``."""

    @operation(scope="sessions:read", answer=NoiseTypes, also={304: None}, is_translated=True)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Return the noise types as a tree, with labels in the language that ``Accept-Language``
        prefers; in English if none of its languages is available.
        """
        language = languages.negotiate(req, resp, noise_types.LANGUAGES)
        items = [NoiseType.of(row, language=language) for row in noise_types.table().values()]
        answered = NoiseTypes(version=noise_types.TABLE_VERSION, language=language, items=items)
        responses.conditional(req, resp, answered)

    on_head = on_get

"""``/v1/noise-types``: the tree of noise types, with names in several languages."""

from __future__ import annotations

import falcon
import msgspec

from actors.facts import noise_types
from services.http import languages, responses
from services.http.operations import operation
from services.http.resource import Resource


class NoiseType(msgspec.Struct, kw_only=True):
    """A noise type or a group of them."""

    #: Identifier in detections, filters and exports.
    name: str
    #: The type or group above it; null for a group.
    parent: str | None
    #: The group of the type; for a group, its own name.
    group: str
    #: Display name in the language of the answer.
    label: str
    #: Display names in all languages, by IETF tag.
    labels: dict[str, str]
    #: The corresponding AudioSet classes.
    audioset_ids: list[str]
    #: The class in the urban sound taxonomy (Salamon, Jacoby and Bello, 2014).
    urban_sound_taxonomy: str | None
    #: The noise source in Directive 2002/49/EC: ``road``, ``rail``, ``air`` or ``industry``.
    noise_directive: str | None

    @classmethod
    def of(cls, row: noise_types.TypeEntry, *, language: str) -> NoiseType:
        """Convert a row of the table to a noise type."""
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

    #: Changes whenever the names of the types or the tree change.
    version: str
    #: The language of each ``label``, as an IETF tag.
    language: str
    #: Parents come before their children.
    items: list[NoiseType]


class NoiseTypeList(Resource):
    """``GET /v1/noise-types``."""

    @operation(scope="sessions:read", answer=NoiseTypes, also={304: None}, is_translated=True)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the noise types as a tree. Labels are in the language that ``Accept-Language``
        prefers, or in English if none of its languages is available.
        """
        language = languages.negotiate(req, resp, noise_types.LANGUAGES)
        items = [NoiseType.of(row, language=language) for row in noise_types.table().values()]
        answered = NoiseTypes(version=noise_types.TABLE_VERSION, language=language, items=items)
        responses.conditional(req, resp, answered)

"""The file extension and media type of each export format.

The writers are in ``actors/analytics/formats``.
"""

from __future__ import annotations

from dataclasses import dataclass

ZIP_TYPE = "application/zip"


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """One format."""

    extension: str
    media_type: str
    #: Whether a file holds one recording, so that several make a ZIP archive.
    is_of_one: bool = False


FORMATS: dict[str, ExportFormat] = {
    "csv": ExportFormat(extension="csv", media_type="text/csv; charset=utf-8; header=present"),
    "ndjson": ExportFormat(extension="ndjson", media_type="application/x-ndjson"),
    "parquet": ExportFormat(extension="parquet", media_type="application/vnd.apache.parquet"),
    "audacity": ExportFormat(
        extension="txt", media_type="text/plain; charset=utf-8", is_of_one=True
    ),
    "raven": ExportFormat(
        extension="selections.txt", media_type="text/plain; charset=utf-8", is_of_one=True
    ),
    "dcase": ExportFormat(extension="txt", media_type="text/plain; charset=utf-8"),
    "rttm": ExportFormat(extension="rttm", media_type="text/plain; charset=utf-8"),
    "clips": ExportFormat(extension="zip", media_type=ZIP_TYPE),
}


def is_archive(name: str, *, is_single: bool) -> bool:
    """Whether an export is a ZIP archive. ``is_single``: it covers one session only."""
    return FORMATS[name].extension == "zip" or (FORMATS[name].is_of_one and not is_single)


def file_of(name: str, *, is_single: bool) -> tuple[str, str]:
    """Return the extension and the media type of an export."""
    if is_archive(name, is_single=is_single):
        return "zip", ZIP_TYPE
    return FORMATS[name].extension, FORMATS[name].media_type

"""Detect the container of a file by its first bytes.

The API rejects other files; the workers choose their decoder by it. This module reads no file and
imports no library. File names and media types are not trusted, as the sender chooses them.
"""

from __future__ import annotations

from actors.facts import frames

#: How many of the first bytes of a file are needed. Most containers are recognised by a few dozen;
#: a stream without a container may begin with as much that is not audio.
HEAD_BYTES = 65_536

#: Display names of the supported containers.
NAMES = (
    "WAV", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "Ogg", "MP3", "MP4/M4A/MOV/3GP", "AAC",
    "WebM", "Matroska", "MPEG-TS", "MPEG-PS", "AVI", "WMA/ASF", "FLV", "AC-3", "AMR", "WavPack",
    "TTA", "Monkey's Audio", "Musepack", "TAK", "DSF/DFF", "VOC", "NIST SPHERE",
)  # fmt: skip

#: Start tags of any length, which MP3, AAC and FLAC files may have before the audio.
ID3, APE_TAG = b"ID3", b"APETAGEX"

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_EBML = b"\x1a\x45\xdf\xa3"

#: First bytes of containers. Those that a text might begin with include some binary bytes.
_BEGINNINGS = (
    (b"fLaC", "flac"),
    (b"OggS\0", "ogg"),
    (b"caff\0\1", "caf"),
    (b".snd\0", "au"),
    (_ASF_HEADER, "asf"),
    (b"\0\0\1\xba", "ps"),
    (b"FLV\1", "flv"),
    (b"#!AMR\n", "amr"),
    (b"#!AMR-WB\n", "amr"),
    (b"TTA1\1\0", "tta"),
    (b"MP+\x07", "mpc"),
    (b"MP+\x17", "mpc"),
    (b"MPCK", "mpc8"),
    (b"tBaK\1", "tak"),
    (b"DSD \x1c\0\0\0\0\0\0\0", "dsf"),
    (b"Creative Voice File\x1a", "voc"),
    (b"NIST_1A\n   1024\n", "nist"),
)

#: First bytes of files that may contain a whole recording among other things.
_ARCHIVES = (
    b"PK\3\4", b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"RIFX", b"FORM", b"\x7fELF",
    b"7z\xbc\xaf", b"Rar!", b"\xd0\xcf\x11\xe0", b"SQLite format", _EBML,
)  # fmt: skip

#: First boxes of MP4 and MOV files without a type, and types of pictures, which are MP4 files too.
_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip"})
_PICTURES = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
    | {b"crx ", b"jp2 ", b"jpx ", b"jxl "}
)


def container_of(head: bytes) -> str | None:
    """Return the container of a file with these first bytes; None if it is unknown.

    Parameters
    ----------
    head
        The first `HEAD_BYTES` of the file; fewer only if the file ends there.

    Returns
    -------
    str or None
        A name such as ``wav``, or ``tagged`` if the container can only be detected after the tag.
    """
    found = _of_chunks(head) or _of_beginning(head) or _of_boxes(head)
    if found is not None:
        return found
    if head[:3] == ID3 and len(head) >= 10 and head[3] < 0x10 and max(head[6:10]) < 0x80:
        return "tagged"
    if head[:8] == APE_TAG and len(head) >= 32:
        return "tagged"
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar" or head[4:8] == b"ftyp":
        return None
    stream = frames.find(head, is_whole=len(head) < HEAD_BYTES)
    return None if stream is None else stream[0]


def _of_chunks(head: bytes) -> str | None:
    kind, form = head[:4], head[8:12]
    if form == b"WAVE":
        return {b"RIFF": "wav", b"RIFX": "wav", b"RF64": "rf64", b"BW64": "rf64"}.get(kind)
    if kind == b"RIFF" and form == b"AVI ":
        return "avi"
    if head[:16] == _W64_RIFF and head[24:28] == b"wave":
        return "w64"
    if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        return "aiff"
    return "dff" if kind == b"FRM8" and head[12:16] == b"DSD " else None


def _of_beginning(head: bytes) -> str | None:
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head[:4] == b"wvpk" and head[9:10] == b"\4":
        return "wavpack"
    if head[:4] == b"MAC " and 3_000 <= int.from_bytes(head[4:6], "little") < 5_000:
        return "ape"
    if head[:4] != _EBML:
        return None
    doc_type = head[4:128]
    for name in ("webm", "matroska"):
        if b"\x42\x82" + bytes([0x80 | len(name)]) + name.encode() in doc_type:
            return name
    return None


def _of_boxes(head: bytes) -> str | None:
    size, kind = head[:4], head[4:8]
    if kind == b"ftyp":
        is_small = 16 <= int.from_bytes(size, "big") < 4_096
        return "mp4" if is_small and head[8:12] not in _PICTURES else None
    # A text may contain such a word there, and then its "size" is text.
    return "mp4" if kind in _BOXES and not all(0x20 <= byte < 0x7F for byte in size) else None

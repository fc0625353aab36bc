"""One name per codec, whichever library decodes it.

PCM is ``pcm_`` and the bits of a sample, with ``float_`` for floating point; the order of the bytes
and the sign of 8 bits follow from the container. The others have FFmpeg's names.
"""

from __future__ import annotations

import re

from actors.science.audio_io.containers import Container

#: The subtypes of libsndfile that are not FFmpeg's names in upper case.
_LIBSNDFILE = {
    "FLOAT": "pcm_float_32",
    "DOUBLE": "pcm_float_64",
    "PCM_S8": "pcm_8",
    "PCM_U8": "pcm_8",
    "ULAW": "pcm_mulaw",
    "ALAW": "pcm_alaw",
    "IMA_ADPCM": "adpcm_ima_wav",
    "MS_ADPCM": "adpcm_ms",
    "GSM610": "gsm_ms",
    "MPEG_LAYER_I": "mp1",
    "MPEG_LAYER_II": "mp2",
    "MPEG_LAYER_III": "mp3",
}

_FFMPEG_PCM = re.compile(r"pcm_([suf])(\d+)(?:le|be)?(?:_planar)?")


def of_libsndfile(subtype: str, container: Container) -> str:
    """Return the name of a codec by libsndfile's subtype, which for FLAC and ALAC has the bits."""
    if container.name == "flac":
        return "flac"
    if subtype.startswith("ALAC"):
        return "alac"
    return _LIBSNDFILE.get(subtype, subtype.lower())


def of_ffmpeg(name: str) -> str:
    """Return the name of a codec by FFmpeg's."""
    pcm = _FFMPEG_PCM.fullmatch(name)
    if pcm is None:
        return name
    sort, bits = pcm.groups()
    return f"pcm_float_{bits}" if sort == "f" else f"pcm_{bits}"

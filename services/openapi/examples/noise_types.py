"""The example of ``/v1/noise-types``."""

from __future__ import annotations

from services.openapi.examples.example import Example

EXAMPLES: dict[str, Example] = {
    "GET /v1/noise-types": Example(
        answer={
            "version": "1",
            "language": "en",
            "items": [
                {
                    "name": "traffic",
                    "parent": None,
                    "group": "traffic",
                    "label": "Traffic noise",
                    "labels": {
                        "en": "Traffic noise",
                        "de": "Verkehrslärm",
                        "fr": "Bruit de circulation",
                        "es": "Ruido de tráfico",
                        "zh": "交通噪声",
                    },
                    "audioset_ids": [],
                    "urban_sound_taxonomy": None,
                    "noise_directive": None,
                },
                {
                    "name": "helicopter",
                    "parent": "traffic",
                    "group": "traffic",
                    "label": "Helicopter",
                    "labels": {
                        "en": "Helicopter",
                        "de": "Hubschrauber",
                        "fr": "Hélicoptère",
                        "es": "Helicóptero",
                        "zh": "直升机",
                    },
                    "audioset_ids": ["/m/09ct_"],
                    "urban_sound_taxonomy": "motorised transport: air",
                    "noise_directive": "air",
                },
            ],
        },
    ),
}

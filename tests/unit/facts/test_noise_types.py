"""The tree of noise types."""

from __future__ import annotations

import re
from pathlib import Path

from actors.facts import noise_types
from actors.facts.noise_types import BACKGROUND, LANGUAGES, UNCLASSIFIED
from actors.science.detection import classifier

#: Names under which callers know the types of the first release.
FIRST_TYPES = {
    "alarm_tone",
    "baby_cry",
    "broadband_hiss",
    "chainsaw",
    "clock_tick",
    "dog_bark",
    "fire_crackling",
    "hammering",
    "helicopter",
    "mains_hum",
    "rain",
    "rooster",
    "sea_waves",
    "siren_sweep",
    "sneeze",
}


def test_first_types_keep_their_names() -> None:
    assert set(noise_types.table()) >= FIRST_TYPES
    assert set(classifier.shipped().classes) - {BACKGROUND} == FIRST_TYPES


def test_every_type_leads_to_one_of_four_groups() -> None:
    table = noise_types.table()
    groups = {name for name, row in table.items() if row.parent is None}
    assert groups == {"traffic", "human", "nature", "other"}
    assert {row.group for row in table.values()} == groups
    assert frozenset().union(*map(noise_types.below, groups)) == set(table)
    assert not {BACKGROUND, UNCLASSIFIED} & set(table)


def test_names_are_whole_and_different_in_each_language() -> None:
    for language in LANGUAGES:
        names = [row.names[language] for row in noise_types.table().values()]
        assert all(names)
        assert len(set(names)) == len(names), language


def test_no_two_siblings_share_an_output() -> None:
    outputs = [
        output
        for row in noise_types.table().values()
        if row.parent in {"traffic", "human", "nature", "other"}
        for output in row.audioset_outputs
    ]
    assert len(set(outputs)) == len(outputs)
    assert all(0 <= output < 527 for output in outputs)
    for row in noise_types.table().values():
        assert len(row.audioset_ids) == len(row.audioset_outputs)


def test_below_is_the_type_itself_and_all_under_it() -> None:
    assert {"traffic", "helicopter", "train"} <= noise_types.below("traffic")
    assert noise_types.below("siren") == {"siren", "siren_sweep"}
    assert noise_types.below("a_type_of_mine") == {"a_type_of_mine"}
    assert noise_types.group_of("sneeze") == "human"
    assert noise_types.group_of("a_type_of_mine") is None


def test_the_table_is_a_tree_in_its_order() -> None:
    above: list[str] = []
    for row in noise_types.table().values():
        while above and above[-1] != row.parent:
            above.pop()
        assert (row.parent is None) == (not above), f"{row.name} is not below its parent"
        above.append(row.name)


def test_filters_have_types_and_all_below_them_each_once() -> None:
    assert noise_types.with_below(()) == ()
    assert noise_types.with_below(["helicopter"]) == ("helicopter",)
    assert noise_types.with_below(["gong", "gong"]) == ("gong",)
    assert noise_types.with_below(["sneeze", "cough_sneeze"]) == ("cough_sneeze", "sneeze")
    whole = noise_types.with_below(["traffic", "train", "human", "nature", "other"])
    assert whole == tuple(sorted(noise_types.table()))


def test_names_of_the_table_and_of_the_model_are_known_and_others_get_similar_ones() -> None:
    known = ["traffic", "helicopter", "siren_sweep", "gong", UNCLASSIFIED]
    assert noise_types.unknown(known, ["gong", BACKGROUND]) is None
    assert noise_types.unknown([], []) is None
    for given, classes, named in (
        ([BACKGROUND], [BACKGROUND], [BACKGROUND]),
        # Each unknown name is followed by the similar one.
        (
            ["zzzz", "rain", "helicoptr", "my_ping"],
            ["my_pling"],
            ["helicoptr", "helicopter", "my_ping", "my_pling", "zzzz"],
        ),
    ):
        assert re.findall("'(.*?)'", str(noise_types.unknown(given, classes))) == named


def test_the_first_audioset_class_of_a_type() -> None:
    assert noise_types.audioset_id_of("helicopter") == "/m/09ct_"
    assert noise_types.audioset_id_of("road_traffic") == "/m/0btp2"
    for name in ("traffic", "siren_sweep", "unclassified", "a_type_of_mine"):
        assert noise_types.audioset_id_of(name) is None


def test_the_documented_tree_is_the_table() -> None:
    document = (Path(__file__).parents[3] / "docs" / "noise-types.md").read_text(encoding="utf-8")
    assert documented() in document, f"docs/noise-types.md must have:\n{documented()}"


def documented() -> str:
    """Return the table of docs/noise-types.md: subtypes are indented below their type."""
    lines = [
        "| name | English | AudioSet | urban sound taxonomy | 2002/49/EC |",
        "|---|---|---|---|---|",
    ]
    table = noise_types.table()
    for row in table.values():
        depth = 0
        parent = row.parent
        while parent is not None:
            depth, parent = depth + 1, table[parent].parent
        name = f"**`{row.name}`**" if depth == 0 else "&emsp;" * (depth - 1) + f"`{row.name}`"
        cells = (
            name,
            row.names["en"],
            " ".join(row.audioset_ids),
            row.urban_sound_taxonomy,
            row.noise_directive,
        )
        lines.append("| " + " | ".join(cells).replace("  ", " ") + " |")
    return "\n".join(lines) + "\n"

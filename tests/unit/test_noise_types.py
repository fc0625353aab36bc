"""The tree of noise types."""

from __future__ import annotations

from actors import noise_types
from actors.noise_types import BACKGROUND, LANGUAGES, UNCLASSIFIED
from actors.science import classifier

#: Names by which callers know the types of the first release.
FIRST_TYPES = {
    "alarm_tone", "baby_cry", "broadband_hiss", "chainsaw", "clock_tick", "dog_bark",
    "fire_crackling", "hammering", "helicopter", "mains_hum", "rain", "rooster", "sea_waves",
    "siren_sweep", "sneeze",
}  # fmt: skip


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

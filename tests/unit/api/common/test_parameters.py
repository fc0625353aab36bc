"""Names of time zones."""

from __future__ import annotations

import pytest

from services.api.common.parameters import is_zone


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "CET", "Etc/GMT+3"])
def test_iana_names_are_zones(name: str) -> None:
    assert is_zone(name)


@pytest.mark.parametrize(
    "name",
    [
        # Files in folders of zones, and in the package tzdata.
        *("version", "+VERSION", "tzdata.zi", "zone.tab", "leapseconds", "zones", "__init__.py"),
        # A zone of the machine, or none.
        *("posixrules", "localtime", "Factory"),
        # Zones of folders that are no part of a name.
        *("posix/Europe/Berlin", "right/UTC", "Europe", "../zoneinfo/UTC", "/etc/localtime"),
        *("europe/berlin", "UTC ", "UTC\0", ""),
    ],
)
def test_other_files_of_the_time_zone_database_are_none(name: str) -> None:
    assert not is_zone(name)

"""``GET /v1/noise-types`` from the caller's side."""

from __future__ import annotations

import pytest

from actors.facts import noise_types
from services.openapi.examples import EXAMPLES
from tests.support.api import Api

pytestmark = pytest.mark.integration

PATH = "/v1/noise-types"


def test_the_whole_tree_is_answered_in_its_order(api: Api) -> None:
    answered = api.simulate_get(PATH)
    assert answered.status_code == 200
    assert (answered.json["version"], answered.json["language"]) == ("1", "en")
    items = answered.json["items"]
    assert [each["name"] for each in items] == list(noise_types.table())
    by_name = {each["name"]: each for each in items}
    example = EXAMPLES[f"GET {PATH}"].answer
    assert isinstance(example, dict)
    for each in example["items"]:
        assert by_name[each["name"]] == each
    other = by_name["other"]
    assert (other["parent"], other["group"], other["audioset_ids"]) == (None, "other", [])
    assert (other["urban_sound_taxonomy"], other["noise_directive"]) == (None, None)
    assert (by_name["sneeze"]["parent"], by_name["sneeze"]["group"]) == ("cough_sneeze", "human")
    assert api.simulate_get(PATH, query_string="group=traffic").status_code == 400


@pytest.mark.parametrize(
    ("asked", "language", "label"),
    [
        ("de-AT, en;q=0.5", "de", "Hubschrauber"),
        ("it, zh-CN;q=0.2", "zh", "直升机"),
        ("*", "en", "Helicopter"),
        ("nonsense;;", "en", "Helicopter"),
    ],
)
def test_labels_are_in_the_language_of_the_caller(
    api: Api, asked: str, language: str, label: str
) -> None:
    answered = api.simulate_get(PATH, headers={"Accept-Language": asked})
    assert answered.headers["content-language"] == answered.json["language"] == language
    assert "Accept-Language" in answered.headers["vary"]
    assert [e["label"] for e in answered.json["items"] if e["name"] == "helicopter"] == [label]
    assert all(each["label"] == each["labels"][language] for each in answered.json["items"])


def test_what_a_caller_has_is_not_sent_again_unless_in_another_language(
    api: Api,
) -> None:
    german = {"Accept-Language": "de"}
    first = api.simulate_get(PATH, headers=german)
    known = {"If-None-Match": first.headers["etag"]}
    again = api.simulate_get(PATH, headers=german | known)
    assert (again.status_code, again.content) == (304, b"")
    for name in ("etag", "vary", "content-language"):
        assert again.headers[name] == first.headers[name]
    assert api.simulate_get(PATH, headers={"Accept-Language": "fr"} | known).status_code == 200
    head = api.simulate_head(PATH, headers=german)
    assert (head.status_code, head.content, head.headers["etag"]) == (
        200,
        b"",
        known["If-None-Match"],
    )

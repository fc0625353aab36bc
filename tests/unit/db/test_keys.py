"""The keys of blobs."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from db.blobs.keys import is_muted_copy, product_key

SESSION_ID = uuid.UUID(int=1)
#: Attempts count from 1, resplits from 0.
CLAIMS = st.tuples(st.integers(1, 120), st.integers(0, 12), st.booleans())


@given(claims=st.lists(CLAIMS, unique=True, min_size=2))
def test_products_of_different_claims_have_different_keys(
    claims: list[tuple[int, int, bool]],
) -> None:
    keys = {
        product_key(
            SESSION_ID, "muted", attempt=attempt, resplits=resplits, in_one_claim=in_one_claim
        )
        for attempt, resplits, in_one_claim in claims
    }
    assert len(keys) == len(claims)
    assert all(map(is_muted_copy, keys))

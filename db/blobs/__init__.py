"""The blob store: recordings and what is made of them."""

"""Benchmarks, run by ``make bench`` and the other ``bench-`` targets."""

# Before numpy is imported: it sets the number of threads of numeric libraries, as in the product.
import actors  # noqa: F401

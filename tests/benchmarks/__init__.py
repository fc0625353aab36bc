"""Measurements that ``make bench`` and its like run."""

# Before numpy is imported: it sets the number of threads of numeric libraries, as in the product.
import actors  # noqa: F401

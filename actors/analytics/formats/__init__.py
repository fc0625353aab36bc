"""The formats of exports: rows in, bytes out; one writer each. docs/exports.md tells of them."""

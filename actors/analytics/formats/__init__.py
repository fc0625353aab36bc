"""The formats of exports, one writer each. docs/exports.md describes them."""

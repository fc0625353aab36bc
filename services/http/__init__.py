"""HTTP machinery that knows no endpoint."""

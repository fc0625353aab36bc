"""HTTP machinery shared by all endpoints."""

"""Questions to Postgres, by domain: each function takes a session and never commits."""

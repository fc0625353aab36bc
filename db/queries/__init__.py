"""Queries to Postgres, by domain. Each function takes a session and never commits."""

"""Analyses, reports and exports of finished sessions."""

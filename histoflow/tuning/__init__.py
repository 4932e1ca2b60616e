"""Tuning: what to search, how, the study that remembers it, one trial, and what the report is told."""

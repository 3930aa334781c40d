"""Batches of the log in object storage."""

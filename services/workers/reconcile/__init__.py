"""Compares the log with what the rooms keep, and mends what is derivable."""

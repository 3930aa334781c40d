"""The blueprint's objectives, measured from events."""

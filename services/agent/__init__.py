"""The agent room: turns, and the conversations they belong to."""

"""Work that nobody waits for: it follows the event log."""

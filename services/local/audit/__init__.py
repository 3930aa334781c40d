"""The audit trail in an outsider's hands: written to a file, and proven from the file alone (docs/audit-format.md)."""

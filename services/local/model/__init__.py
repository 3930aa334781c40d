"""The models of this machine, in a process of their own: one that speaks, one that makes vectors of texts."""

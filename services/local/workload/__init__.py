"""SPIFFE on one machine: a small Workload API, the certificates behind it, and how it knows who asks."""

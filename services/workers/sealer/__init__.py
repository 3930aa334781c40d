"""Seals audit events into a tenant's trail."""

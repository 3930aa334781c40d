"""Audit events for a SIEM: OCSF over syslog or HTTPS."""

"""Learns from feedback which model is good at what, and lets routers know."""

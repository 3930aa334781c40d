"""How each tenant's requests are routed: versions, and the one that holds."""

"""API keys: made and revoked for people of a tenant, and taken at the OpenAI front door."""

"""The router room: sends each request to the right model, and holds the keys."""

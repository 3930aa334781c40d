"""OpenAI's front door: its wire, over the same path as every other call."""

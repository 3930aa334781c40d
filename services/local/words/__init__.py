"""The words of `soma` that have words of their own."""

"""The OpenID provider of a development mesh: demo accounts, codes, tokens."""

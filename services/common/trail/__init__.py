"""The audit trail as outsiders check it: chain, Merkle tree, signed heads. RFC 6962, C2SP."""

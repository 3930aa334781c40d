"""The edge: Envoy's configuration, made from the contract, the built page and this machine's addresses."""

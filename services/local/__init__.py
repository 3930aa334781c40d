"""The whole mesh on one machine: the `soma` command and the programs it starts."""

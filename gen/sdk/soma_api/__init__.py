"""The contracts of SomaAgent 01, made by `make gen`. Apache-2.0; so is google/rpc, which is Google's."""

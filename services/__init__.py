"""The rooms of SomaAgent 01, and the ground floor they stand on."""

"""What the house costs, as ratios in one run: `make bench`."""

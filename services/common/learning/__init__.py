"""What is learned from outcomes: how good a model's answer to a prompt is expected to be. The one door to numpy."""

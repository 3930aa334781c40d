"""What calls may cost, hold and have cost."""

"""What people, judges and SomaBrain think of answers."""

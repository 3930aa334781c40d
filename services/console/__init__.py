"""What people who answer for a mesh see and prove of it."""

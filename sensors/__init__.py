"""What reacts."""

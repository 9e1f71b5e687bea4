"""What can be launched, by name."""

"""What this machine can do; for the rest, the reason and the remedy."""

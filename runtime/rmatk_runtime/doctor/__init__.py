"""What this machine can do; where not, why, and the cure."""

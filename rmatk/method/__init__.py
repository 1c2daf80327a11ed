"""RMAdapter: towers, adapters, losses, and both adapted towers together."""

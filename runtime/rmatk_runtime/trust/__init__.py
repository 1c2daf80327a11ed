"""Signed bundles: who made them, and that no older one takes the place of a newer one."""

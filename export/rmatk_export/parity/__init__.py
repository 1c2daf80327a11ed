"""Parity inside an export: folded arrays, text encoder, node-by-node bisection."""

"""int8: ranges from photos, GPTQ rounding, Q/DQ nodes, and the search for what may be quantised."""

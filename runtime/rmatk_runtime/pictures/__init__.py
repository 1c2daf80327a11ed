"""Pictures: files, decoding, and preprocessing to a tensor."""

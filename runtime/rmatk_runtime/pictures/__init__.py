"""Pictures: files, decoding, and the one way from a picture to a tensor."""

"""Accuracy, the paper's protocols, and the methods compared in them."""

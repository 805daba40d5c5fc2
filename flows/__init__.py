"""Composition only: the flows, and the `hefjoin` command as the door to them."""

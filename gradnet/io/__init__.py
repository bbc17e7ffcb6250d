"""gradnet."""

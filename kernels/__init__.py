"""Fast implementations of the Backend protocol, loaded through the registry only."""

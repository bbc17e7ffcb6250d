"""The jobs of the suite `fit`, and a script per peer that does one in a process of its own."""

"""The worked examples of the lectures, deck by deck, each beside what is computed here."""

"""words: written soon."""

"""measure: written soon."""

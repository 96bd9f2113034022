"""wire: written soon."""

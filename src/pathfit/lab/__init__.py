"""lab: written soon."""

"""How far to trust an attribution."""

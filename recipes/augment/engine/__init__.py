"""How declared operations are compiled to a few passes."""

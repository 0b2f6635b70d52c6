"""Remedies that findings advise, tried on copies of the model."""

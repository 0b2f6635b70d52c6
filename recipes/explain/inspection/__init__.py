"""Look inside a network: filters, features, receptive fields and the loss landscape."""

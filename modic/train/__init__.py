"""Training of the shipped weights and of a user's own. Nothing here runs in service."""

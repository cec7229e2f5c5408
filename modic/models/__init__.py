"""Networks, their weights and their cards."""

"""The four published tables: schema, atomic store, data dictionary, queries."""

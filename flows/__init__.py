"""Prefect flows and Dask clusters around the library `modic`, which has never heard of either."""

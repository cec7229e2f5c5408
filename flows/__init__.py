"""Prefect flows and Dask clusters around the library `modic`, which itself knows neither."""

"""Kirim as an endpoint: signature, events, API client, and all of it behind the connector interface."""

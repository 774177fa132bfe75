"""Keeps Kirim and a CRM agreed, in both directions."""

__version__ = "0.1.0"
